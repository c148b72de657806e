"""How the trusted loss after one virtual step depends on the labels of that step.

The step is ``theta' = theta - alpha * grad KL(p || q)``, with predictions p of the parameters theta
and labels q = softmax(z). Each function returns the exact gradient, or an approximation that it
names, of the trusted loss at theta' with respect to z (B, C).

Source: G. Algan, I. Ulusoy, "MetaLabelNet: Learning to Generate Soft-Labels from Noisy-Labels",
IEEE TIP 31, 2022, for the step; the forward-mode form follows from the loss being affine in log q.
"""

import warnings
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import batch_norm, cross_entropy, log_softmax
from torch.overrides import TorchFunctionMode

from sknoisy.functional import at_least_float32, weighted_mean
from sknoisy.networks.copying import copy_module
from sknoisy.training.ranks import ALONE, Alone
from sknoisy.user_warnings import warn

PRODUCTS = {torch.mul, Tensor.mul, Tensor.__mul__, torch.div, Tensor.div, Tensor.__truediv__}


def kl_to_labels(
    logits: Tensor, label_logits: Tensor, scale: float = 1.0, weights: Tensor | None = None
) -> Tensor:
    """Mean over rows of KL(prediction || soft label), both (B, C) logits, times `scale`."""
    log_p = log_softmax(at_least_float32(logits), dim=1)
    log_q = log_softmax(label_logits, dim=1)
    return scale * weighted_mean((log_p.exp() * (log_p - log_q)).sum(dim=1), weights)


def laid_out_like(old: Tensor, new: Tensor) -> Tensor:
    """Return `new` with the strides of `old`: arithmetic can lose channels last."""
    return torch.empty_like(old).copy_(new)


def generator_states(device: torch.device) -> tuple[Tensor, Tensor | None]:
    """Return the states of torch's CPU generator and of the device's, None but for CUDA."""
    is_cuda = device.type == "cuda"
    return torch.get_rng_state(), torch.cuda.get_rng_state(device) if is_cuda else None


@dataclass
class VirtualStep:
    """One virtual step: the batch, its forward pass, and the trusted batch.

    Attributes
    ----------
    module : nn.Module
        The classifier at theta, in train mode.
    X : Tensor of shape (M, ...)
        The batch as fed; its first B rows are those whose labels are generated.
    logits : Tensor of shape (B, C)
        The classifier's output for them, with its graph.
    label_logits : Tensor of shape (B, C)
        z, the output of the label network for them.
    trusted_X, trusted_y : Tensor of shape (B', ...), Tensor of shape (B',)
        The trusted batch.
    step_size : float
        alpha.
    scale : float
        s: 1 for a mean over rows, 1 / C for a mean over rows and classes.
    generator_state : Tensor
        torch's CPU generator before the forward pass of X: extra passes draw the same dropout.
    cuda_state : Tensor or None
        The same for the module's CUDA device.
    weights : Tensor of shape (B,) or None
        What each row's loss is multiplied by.
    class_weights : Tensor of shape (C,) or None
        What trusted rows of each class count.
    absent : Tensor of bool of shape (C,) or None
        The classes without trusted rows, which these say nothing against.
    gradient_scale : float
        By how much the graph of `logits` scales gradients up, for half precision.
    is_graph_kept : bool
        Whether the graph of `logits` stays usable; else its memory is free for what follows.
    ranks : Ranks or Alone
        The processes that share the step: B and B' rows are this one's parts.
    share, trusted_share : float
        What the means over these parts weigh in those over the whole batches.
    """

    module: nn.Module
    X: Tensor
    logits: Tensor
    label_logits: Tensor
    trusted_X: Tensor
    trusted_y: Tensor
    step_size: float
    scale: float
    generator_state: Tensor
    cuda_state: Tensor | None = None
    weights: Tensor | None = None
    class_weights: Tensor | None = None
    absent: Tensor | None = None
    gradient_scale: float = 1.0
    is_graph_kept: bool = True
    ranks: Alone = ALONE
    share: float = 1.0
    trusted_share: float = 1.0

    def parameters(self) -> dict[str, Tensor]:
        """Return the parameters that are trained."""
        return {k: p for k, p in self.module.named_parameters() if p.requires_grad}

    def call(self, parameters: dict[str, Tensor], X: Tensor) -> Tensor:
        """Run the module on X with other parameters; its BatchNorm statistics stay."""
        buffers = {k: b.clone() for k, b in self.module.named_buffers()}
        return at_least_float32(functional_call(self.module, {**parameters, **buffers}, (X,)))

    @contextmanager
    def same_dropout(self):
        """Draw in the block what the forward pass of X drew."""
        devices = [] if self.cuda_state is None else [self.X.device]
        with torch.random.fork_rng(devices):
            torch.set_rng_state(self.generator_state)
            if devices:
                torch.cuda.set_rng_state(self.cuda_state, self.X.device)
            yield

    def gradients(self, label_logits: Tensor, create_graph: bool = False) -> tuple[Tensor, ...]:
        """Return the gradient of this process's share of the batch's loss."""
        loss = self.share * kl_to_labels(self.logits, label_logits, self.scale, self.weights)
        return torch.autograd.grad(
            loss,
            self.parameters().values(),
            retain_graph=create_graph or self.is_graph_kept,
            create_graph=create_graph,
            materialize_grads=True,
        )

    def step(self, gradients: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """Return the parameters theta' after the step, by the gradients of all processes."""
        theta, step_size = self.parameters(), self.step_size / self.gradient_scale
        gradients = [g.detach() for g in gradients]
        if self.ranks.size > 1:
            gradients = [g.clone() for g in gradients]
            self.ranks.sum_(gradients)
        moved = {k: p - step_size * g for (k, p), g in zip(theta.items(), gradients, strict=True)}
        return {k: laid_out_like(theta[k], value) for k, value in moved.items()}

    def trusted_loss(self, parameters: dict[str, Tensor]) -> Tensor:
        """Return the cross-entropy of the trusted batch at other parameters."""
        with torch.random.fork_rng([] if self.cuda_state is None else [self.X.device]):
            logits = self.call(parameters, self.trusted_X)
            if self.absent is not None:
                logits = logits.masked_fill(self.absent, -torch.inf)
            losses = cross_entropy(logits, self.trusted_y, reduction="none")
            weights = self.class_weights
            weights = None if weights is None else weights[self.trusted_y]
            return self.trusted_share * weighted_mean(losses, weights)

    def direction(self, gradients: tuple[Tensor, ...] | None = None) -> dict[str, Tensor]:
        """Return u, the gradient of the trusted loss at theta', a step by `gradients` ahead."""
        if gradients is None:
            gradients = self.gradients(self.label_logits.detach())
        ahead = {k: p.detach().requires_grad_() for k, p in self.step(gradients).items()}
        u = torch.autograd.grad(self.trusted_loss(ahead), ahead.values(), materialize_grads=True)
        if self.ranks.size > 1:
            u = [g.clone() for g in u]
            self.ranks.sum_(u)
        return {k: laid_out_like(p, g) for (k, p), g in zip(ahead.items(), u, strict=True)}

    def factor(self) -> float | Tensor:
        """Return alpha s / B, times the weights (B, 1) of the rows if there are any."""
        factor = self.step_size * self.scale * self.share / len(self.logits)
        return factor if self.weights is None else factor * self.weights[:, None]


@cache
def load_forward_mode():
    """Let torch load its forward-mode formulas: newer versions warn of their own deprecations."""
    with warnings.catch_warnings(action="ignore", category=FutureWarning), forward_ad.dual_level():
        forward_ad.make_dual(torch.zeros(1), torch.zeros(1))


def dual_batch_norm(X, weight, bias, eps):
    """BatchNorm by batch statistics of dual numbers (B, C, ...), weight and bias (C,) or None.

    torch's own forward-mode formula takes three times as long and twice the memory.
    """
    (X, dX), (weight, d_weight), (bias, d_bias) = map(_unpack, (X, weight, bias))
    normal, _, inverse_deviation = torch.native_batch_norm(X, None, None, None, None, True, 0, eps)
    axes, shape = [0, *range(2, X.ndim)], [1, -1] + [1] * (X.ndim - 2)
    slope = inverse_deviation if weight is None else inverse_deviation * weight
    if dX is None:
        shift, stretch = torch.zeros_like(slope), torch.zeros_like(slope)
    else:
        shift, stretch = -slope * dX.mean(axes), -slope * (dX * normal).mean(axes)
    shift = shift if d_bias is None else shift + d_bias
    stretch = stretch if d_weight is None else stretch + d_weight
    tangent = normal * stretch.view(shape)
    tangent += shift.view(shape)
    if dX is not None:
        tangent.addcmul_(dX, slope.view(shape))
    if weight is not None:
        normal *= weight.view(shape)
    if bias is not None:
        normal += bias.view(shape)
    return forward_ad.make_dual(normal, tangent)


def _unpack(value):
    return forward_ad.unpack_dual(value) if isinstance(value, Tensor) else (value, None)


class LeanForwardMode(TorchFunctionMode):
    """Send BatchNorm in training, and dropout's products, through our own formulas in the block."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        """Call `func`, or our own formula in the place of torch's."""
        kwargs = kwargs or {}
        if func in PRODUCTS and len(args) == 2 and not kwargs:
            # torch multiplies by a symbolic zero tangent, whose shape it works out in Python.
            (X, dX), (constant, d_constant) = map(_unpack, args)
            if dX is not None and d_constant is None:
                return forward_ad.make_dual(func(X, constant), func(dX, constant))
        if func is not batch_norm:
            return func(*args, **kwargs)
        X, _, _, weight, bias, training, _, eps = _batch_norm_arguments(*args, **kwargs)
        if not training or X.is_cuda:  # cuDNN's layouts are its own
            return func(*args, **kwargs)
        return dual_batch_norm(X, weight, bias, eps)


def _batch_norm_arguments(
    input, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5
):
    return input, running_mean, running_var, weight, bias, training, momentum, eps


def by_jvp(step: VirtualStep) -> Tensor:
    """Exact: ``dL/dz_i = (alpha s / B) J_i u``, one forward-mode pass of the predictions along u.

    L depends on z only through -sum_k p_k log q_k, which is affine in log q, and the changes of p
    sum to 0, so the log-softmax drops out.
    """
    u = step.direction()
    load_forward_mode()
    # Attention's fused kernels have no forward-mode formula; its plain mathematics has.
    unfused = sdpa_kernel(SDPBackend.MATH)
    with torch.no_grad(), step.same_dropout(), forward_ad.dual_level(), LeanForwardMode(), unfused:
        dual = {k: forward_ad.make_dual(p.detach(), u[k]) for k, p in step.parameters().items()}
        p = step.call(dual, step.X)[: len(step.logits)].softmax(dim=1)
        return step.factor() * forward_ad.unpack_dual(p).tangent


def by_double_backward(step: VirtualStep) -> Tensor:
    """Exact: the step's gradient differentiated along u, which keeps a graph of a graph."""
    z = step.label_logits.detach().requires_grad_()
    gradients = step.gradients(z, create_graph=True)
    u = step.direction(gradients)
    along = [-step.step_size / step.gradient_scale * g for g in u.values()]
    return torch.autograd.grad(gradients, z, along)[0]


def by_finite_difference(step: VirtualStep) -> Tensor:
    """Approximate, to about 1 % in float32: J_i u from two passes at theta +- eps u."""
    u = step.direction()
    norm = torch.stack([g.square().sum() for g in u.values()]).sum().sqrt()
    size = 1e-4 / norm.clamp_min(1e-12)

    def predict(sign):
        with torch.no_grad(), step.same_dropout():
            moved = {k: p + sign * size * u[k] for k, p in step.parameters().items()}
            return step.call(moved, step.X)[: len(step.logits)].softmax(dim=1)

    return step.factor() * (predict(1) - predict(-1)) / (2 * size)


METHODS = {
    "jvp": by_jvp,
    "double-backward": by_double_backward,
    "finite-difference": by_finite_difference,
}


def in_float64(step: VirtualStep) -> VirtualStep:
    """Return the step on a copy of the module in float64, where finite differences are sharp."""
    module = copy_module(step.module).double()
    with step.same_dropout():
        logits = module(step.X.double())[: len(step.logits)]
    return replace(
        step,
        gradient_scale=1.0,
        module=module,
        X=step.X.double(),
        logits=logits,
        label_logits=step.label_logits.detach().double(),
        trusted_X=step.trusted_X.double(),
    )


def first_that_works(step: VirtualStep) -> str:
    """Return the name of the cheapest method that the module supports; warn if it is not 'jvp'."""
    method = _first_that_works(step)
    if method != "jvp":
        is_exact = method != "finite-difference"
        warn(
            f"module has an operation without a forward-mode derivative: the hypergradient comes"
            f" by {method}, which is slower{'' if is_exact else ' and approximate'}. Pass"
            f" hypergradient={method!r} to silence this."
        )
    return method


def _first_that_works(step):
    """Return that name.

    A function marked `once_differentiable` drops out of a double backward without a word, so that
    counts only if the finite difference agrees with it.
    """
    try:
        by_jvp(step)
    except torch.OutOfMemoryError:  # no matter of the operations
        raise
    except RuntimeError:
        step = in_float64(step)
    else:
        return "jvp"
    try:
        exact = by_double_backward(step)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError:
        return "finite-difference"
    approximate = by_finite_difference(step)
    agrees = (exact - approximate).norm() <= 0.01 * approximate.norm()
    return "double-backward" if agrees else "finite-difference"
