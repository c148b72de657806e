import warnings
from dataclasses import replace

import pytest
import torch
import torchvision
from torch import nn
from torch.nn.functional import cross_entropy

from sknoisy.metalabelnet.hypergradient import (
    VirtualStep,
    by_double_backward,
    by_finite_difference,
    by_jvp,
    first_that_works,
    kl_to_labels,
)
from sknoisy.networks.mlp import UniformDropout


def mlp():
    return nn.Sequential(
        nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 3)
    )


def small_cnn():
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Dropout(0.3), nn.Linear(36, 3),
    )  # fmt: skip


def resnet18():
    return nn.Sequential(torchvision.models.resnet18(num_classes=3), nn.Dropout(0.3))


def norms():
    """BatchNorm as the first layer, without weights, without a weight's gradient."""
    still = nn.BatchNorm1d(8)
    still.weight.requires_grad_(False)
    return nn.Sequential(
        nn.BatchNorm1d(6), nn.Linear(6, 8), nn.Tanh(), nn.BatchNorm1d(8, affine=False),
        nn.Linear(8, 8), still, nn.BatchNorm1d(8, track_running_stats=False), nn.Linear(8, 3),
    )  # fmt: skip


class Products(nn.Sequential):
    """Products and quotients of activations and constants, in each order, also broadcast."""

    def __init__(self):
        super().__init__(nn.Linear(6, 8), nn.Tanh(), UniformDropout(0.3), nn.Linear(8, 3))

    def forward(self, X):
        rows = torch.linspace(1, 2, len(X)).to(X)[:, None]
        hidden = self[0](X * rows / 3)
        hidden = self[1](2 * hidden * rows / rows.exp())
        hidden = torch.mul(hidden, hidden) + torch.div(1, 2 + hidden) + hidden * 3.0
        hidden = torch.div(hidden[:, :1] * torch.ones_like(hidden), rows, rounding_mode=None)
        return self[3](self[2](hidden + 0.5 * self[0](X)))


CASES = {
    "products": (Products, (6,)),
    "norms": (norms, (6,)),
    "mlp": (mlp, (6,)),
    "cnn": (small_cnn, (3, 8, 8)),
    "resnet18": (resnet18, (3, 32, 32)),
}


def step_of(module, shape, dtype=torch.float64, step_size=0.5):
    torch.manual_seed(0)
    module = module.to(dtype).train()
    X = torch.randn(10, *shape, dtype=dtype)
    state = torch.get_rng_state()
    return VirtualStep(
        module=module,
        X=X,
        logits=module(X)[:8],
        label_logits=torch.randn(8, 3, dtype=dtype),
        trusted_X=torch.randn(7, *shape, dtype=dtype),
        trusted_y=torch.arange(7) % 3,
        step_size=step_size,
        scale=1.0,
        generator_state=state,
    )


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_jvp_equals_double_backward_with_batchnorm_and_dropout(case):
    make, shape = CASES[case]
    step = step_of(make(), shape)
    exact = by_double_backward(step)
    assert (by_jvp(step) - exact).norm() / exact.norm() < 1e-10


def test_trusted_rows_of_a_class_count_what_its_weight_says():
    """Weight 2 is a row twice; each method differentiates the weighed loss."""
    step = step_of(nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)), (6,))
    weights = torch.tensor([2.0, 1.0, 0.0], dtype=torch.float64)
    weighed = replace(step, class_weights=weights)
    rows = [0, 0, 1, 3, 3, 4, 6, 6]  # of labels 0, 1, 2, 0, 1, 2, 0: 8 rows for 7
    repeated = replace(step, trusted_X=step.trusted_X[rows], trusted_y=step.trusted_y[rows])
    for method in (by_jvp, by_double_backward, by_finite_difference):
        torch.testing.assert_close(method(weighed), 8 / 7 * method(repeated), rtol=1e-4, atol=1e-9)
    assert (by_jvp(weighed) - by_jvp(step)).norm() > 0.01 * by_jvp(step).norm()


def test_a_transformers_attention_has_a_forward_mode():
    encoder = nn.TransformerEncoderLayer(6, 2, 8, dropout=0.0, batch_first=True)
    step = step_of(nn.Sequential(encoder, nn.Flatten(), nn.Linear(24, 3)), (4, 6))
    assert first_that_works(step) == "jvp"
    approximate = by_finite_difference(step)
    assert (by_jvp(step) - approximate).norm() / approximate.norm() < 1e-3


def test_lack_of_memory_is_not_taken_for_a_missing_formula(monkeypatch):
    def fail(step):
        raise torch.OutOfMemoryError("full")

    monkeypatch.setattr("sknoisy.metalabelnet.hypergradient.by_jvp", fail)
    with pytest.raises(torch.OutOfMemoryError, match="full"):
        first_that_works(step_of(mlp(), (6,)))


def test_a_scaled_graph_gives_the_same_hypergradient():
    step = step_of(mlp(), (6,))
    exact = by_jvp(step)
    step.logits.register_hook(lambda gradient: 8 * gradient)  # as for half precision
    torch.testing.assert_close(by_jvp(replace(step, gradient_scale=8.0)), exact)


def test_finite_difference_is_close():
    step = step_of(mlp(), (6,))
    exact = by_double_backward(step)
    assert (by_finite_difference(step) - exact).norm() / exact.norm() < 1e-2


def test_hypergradient_is_the_derivative_of_the_trusted_loss_after_the_step():
    """Against numbers: move one label logit, take the step by hand, look at the trusted loss."""
    module = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    step = step_of(module, (6,))
    found = by_jvp(step)

    def trusted_loss(z):
        loss = kl_to_labels(step.logits, z)
        gradients = torch.autograd.grad(loss, list(module.parameters()), retain_graph=True)
        moved = {
            k: p - 0.5 * g for (k, p), g in zip(module.named_parameters(), gradients, strict=True)
        }
        logits = torch.func.functional_call(module, moved, (step.trusted_X,))
        return cross_entropy(logits, step.trusted_y).item()

    for i, k in ((0, 0), (3, 2), (7, 1)):
        bump = torch.zeros(8, 3, dtype=torch.float64)
        bump[i, k] = 1e-5
        slope = trusted_loss(step.label_logits + bump) - trusted_loss(step.label_logits - bump)
        assert found[i, k].item() == pytest.approx(slope / 2e-5, rel=1e-4, abs=1e-9)


def test_no_step_no_gradient():
    assert not by_jvp(step_of(mlp(), (6,), step_size=0.0)).any()


@pytest.mark.parametrize("method", [by_jvp, by_double_backward, by_finite_difference])
def test_virtual_passes_leave_statistics_parameters_and_generator_alone(method):
    step = step_of(mlp(), (6,))
    state = {k: v.clone() for k, v in step.module.state_dict().items()}
    generator = torch.get_rng_state()
    method(step)
    for name, value in step.module.state_dict().items():
        assert torch.equal(value, state[name]), name
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(p.grad is None for p in step.module.parameters())


def test_the_graph_of_the_forward_pass_stays_usable():
    step = step_of(mlp(), (6,))
    by_jvp(step)
    step.logits.sum().backward()
    assert step.module[0].weight.grad is not None


class Square(torch.autograd.Function):
    """x^2 with a derivative for backward only, which can itself be differentiated."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    def backward(ctx, gradient):
        return 2 * ctx.saved_tensors[0] * gradient


class SquareOnce(Square):
    """The same, whose backward cannot be differentiated."""

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        return 2 * ctx.saved_tensors[0] * gradient


class WithFunction(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function, self.first, self.last = function, nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, X):
        return self.last(self.function.apply(self.first(X)))


class WithLSTM(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.last = nn.LSTM(2, 8, batch_first=True), nn.Linear(8, 3)

    def forward(self, X):
        return self.last(self.lstm(X.unflatten(1, (3, 2)))[0][:, -1])


@pytest.mark.filterwarnings("ignore:module has an operation")
@pytest.mark.parametrize(
    ("module", "method"),
    [
        (mlp(), "jvp"),
        (WithFunction(Square), "double-backward"),
        (WithFunction(SquareOnce), "finite-difference"),
    ],
)
def test_the_cheapest_supported_method_is_found(module, method):
    assert first_that_works(step_of(module, (6,))) == method


def test_an_lstm_gets_a_right_hypergradient_whatever_the_method():
    step = step_of(WithLSTM(), (6,))
    with warnings.catch_warnings(action="ignore"):
        name = first_that_works(step)
        found = {"jvp": by_jvp, "double-backward": by_double_backward}.get(
            name, by_finite_difference
        )(step)
        approximate = by_finite_difference(step)
    assert (found - approximate).norm() / approximate.norm() < 1e-2


def test_fall_backs_agree_where_both_work():
    step = step_of(WithFunction(Square), (6,))
    exact = by_double_backward(step)
    assert (by_finite_difference(step) - exact).norm() / exact.norm() < 1e-2


def test_trusted_rows_say_nothing_against_classes_that_they_lack():
    step = step_of(mlp(), (6,))
    absent = torch.tensor([False, False, True])
    step = replace(step, trusted_y=torch.arange(7) % 2, absent=absent)
    exact = by_double_backward(step)
    torch.testing.assert_close(by_jvp(step), exact)
    assert exact.isfinite().all()
    step.module.eval()  # else either pass draws its own dropout
    logits = step.call(step.parameters(), step.trusted_X)
    two = cross_entropy(logits[:, :2], step.trusted_y)
    torch.testing.assert_close(step.trusted_loss(step.parameters()), two)
