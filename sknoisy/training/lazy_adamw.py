"""AdamW that spends neither time nor memory on the columns of text that do not occur."""

import torch
from torch import Tensor


class LazyAdamW(torch.optim.AdamW):
    """AdamW that moves, where a gradient is sparse, the rows of the weight that it holds.

    Each of these has a second moment, that of the row's mean square, which falls in the steps
    without the row as AdamW's does, and no first moment: the state takes 2 numbers a row. It moves
    by what AdamW passes on of a gradient at once, the fraction ``1 - beta1``: the rest would come
    in steps in which the row does not occur, and text is memorized sooner by it. Weight decay waits
    until a row occurs again. Other weights are AdamW's own.
    """

    def __init__(self, params, **options):
        super().__init__(params, **options)
        self._step_supports_amp_scaling = False  # GradScaler skips a step on infinite gradients

    @torch.no_grad()
    def step(self, closure=None):
        """Take a step; return the loss of `closure`, if one is given."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None and weight.grad.is_sparse:
                    self._step_rows(weight, self.state[weight], group)
                    weight.grad = None  # else AdamW refuses it
        super().step()
        return loss

    @staticmethod
    def _step_rows(weight, state, group):
        if not state:
            state["step"] = torch.zeros(())
            state["square"] = weight.new_zeros(len(weight))
            state["last"] = weight.new_zeros(len(weight))  # steps, which float32 holds up to 2**24
        gradient, (kept, decay) = weight.grad.coalesce(), group["betas"]
        (rows,), gradient = gradient.indices(), gradient.values()
        state["step"] += 1
        step = state["step"].item()
        elapsed = step - state["last"][rows]
        square = blend_squares(state["square"][rows], gradient, decay, elapsed)
        state["square"][rows], state["last"][rows] = square, step
        deviation = (square / (1 - decay**step)).sqrt() + group["eps"]
        shrink = (1 - group["lr"] * group["weight_decay"]) ** elapsed
        step = gradient.mul_(((kept - 1) * group["lr"] / deviation)[:, None])
        weight[rows] = step.addcmul_(weight[rows], shrink[:, None])


def blend_squares(squares: Tensor, gradient: Tensor, decay: float, elapsed: Tensor) -> Tensor:
    """Return the moving average of the mean squares (R,) of a gradient's rows (R, D).

    `elapsed` (R,) steps after the last: in all but this one the gradient was 0.
    """
    mean_square = torch.linalg.vector_norm(gradient, dim=1).square() / gradient.shape[1]
    return decay**elapsed * squares + (1 - decay) * mean_square
