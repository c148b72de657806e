"""BatchNorm by the statistics of a whole batch, of which several processes pass a part each.

torch's SyncBatchNorm takes tensors on GPUs alone, and other layers than the network was built of.
"""

import torch
from torch import Tensor
from torch.nn.functional import batch_norm
from torch.overrides import TorchFunctionMode


class _Normalize(torch.autograd.Function):
    """Inputs (B, C, ...) less their mean, divided by their deviation, both of all processes."""

    @staticmethod
    def forward(ctx, X, eps, ranks):
        axes, shape = [0, *range(2, X.ndim)], [1, -1] + [1] * (X.ndim - 2)
        n, mean = X.new_tensor([X.numel() // X.shape[1]]), X.sum(axes)
        ranks.sum_([n, mean])
        mean = mean / n
        variance = (X - mean.view(shape)).square().sum(axes)  # two sums: no cancellation
        ranks.sum_([variance])
        variance = variance / n
        inverse = (variance + eps).rsqrt().view(shape)
        normal = (X - mean.view(shape)) * inverse
        ctx.save_for_backward(normal, inverse, n)
        ctx.axes, ctx.shape, ctx.ranks = axes, shape, ranks
        ctx.mark_non_differentiable(mean, variance)
        return normal, mean, variance * n / (n - 1)

    @staticmethod
    def backward(ctx, d_normal, d_mean, d_variance):
        normal, inverse, n = ctx.saved_tensors
        total, along = d_normal.sum(ctx.axes), (d_normal * normal).sum(ctx.axes)
        ctx.ranks.sum_([total, along])
        shift, stretch = ((t / n).view(ctx.shape) for t in (total, along))
        return inverse * (d_normal - shift - normal * stretch), None, None


class WholeBatchNorm(TorchFunctionMode):
    """Send BatchNorm in training through sums over processes, in the block.

    Parameters
    ----------
    ranks : Ranks
        The processes, each of which passes its part of the same batch.
    """

    def __init__(self, ranks):
        super().__init__()
        self.ranks = ranks

    def __torch_function__(self, func, types, args=(), kwargs=None):
        """Call `func`, or the sums in the place of BatchNorm."""
        kwargs = kwargs or {}
        return self._norm(*args, **kwargs) if func is batch_norm else func(*args, **kwargs)

    def _norm(
        self,
        input: Tensor,
        running_mean,
        running_var,
        weight=None,
        bias=None,
        training=False,
        momentum=0.1,
        eps=1e-5,
    ):
        if not training:
            return batch_norm(
                input, running_mean, running_var, weight, bias, training, momentum, eps
            )
        out, mean, variance = _Normalize.apply(input, eps, self.ranks)
        if running_mean is not None:
            with torch.no_grad():
                running_mean.lerp_(mean.to(running_mean), momentum)
                running_var.lerp_(variance.to(running_var), momentum)
        shape = [1, -1] + [1] * (input.ndim - 2)
        out = out if weight is None else out * weight.view(shape)
        return out if bias is None else out + bias.view(shape)
