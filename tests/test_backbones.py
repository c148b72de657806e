import tracemalloc
import warnings
from copy import deepcopy
from functools import partial

import numpy as np
import polars as pl
import pytest
import torch
from scipy import sparse
from torch import nn

from sknoisy import ALRClassifier, MetaLabelNetClassifier
from sknoisy.networks.build import build_module
from sknoisy.networks.layout import use_channels_last
from sknoisy.networks.mlp import MLP, UniformDropout, auto_input_dropout
from sknoisy.networks.standardize import Standardize, rounds_in_float32


def test_standardized_columns_have_mean_0_and_deviation_1():
    X = np.random.default_rng(0).normal(3, [1e-3, 1, 1e6], (500, 3)).astype(np.float32)
    Z = Standardize(3).fit(X)(torch.from_numpy(X)).numpy()
    np.testing.assert_allclose(Z.mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(Z.std(0), 1, atol=1e-3)


@pytest.mark.parametrize("constant", [0.0, 1.0, 0.1, -1e6])
def test_constant_columns_give_zeros(constant):
    X = np.full((100, 1), constant, dtype=np.float32)
    assert torch.equal(Standardize(1).fit(X)(torch.from_numpy(X)), torch.zeros(100, 1))


def test_outliers_are_clipped():
    X = np.zeros((1000, 1), dtype=np.float32)
    X[0] = 1e9
    assert Standardize(1).fit(X)(torch.from_numpy(X)).abs().max() == 5


def test_training_does_not_depend_on_units(blobs):
    X, y, _ = blobs
    units = np.float32(2.0) ** np.arange(-20, 20, 4)  # powers of two: exact in float32
    params = {"max_epochs": 2, "random_state": 0}
    a = ALRClassifier(**params).fit(X, y).predict_proba(X)
    b = ALRClassifier(**params).fit(X * units, y).predict_proba(X * units)
    np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize(("hidden", "widths"), [(7, [7]), ((5, 6), [5, 6]), ((), [])])
def test_mlp_has_the_asked_layers(hidden, widths):
    linear = [m for m in MLP(3, 4, hidden=hidden) if isinstance(m, nn.Linear)]
    assert [m.out_features for m in linear] == [*widths, 4]
    assert linear[0].in_features == 3


def test_dropout_drops_its_share_keeps_the_mean_and_rests_in_evaluation():
    X = torch.full((400, 400), 2.0)
    dropped = UniformDropout(0.3)(X)
    assert abs((dropped == 0).float().mean() - 0.3) < 0.01
    torch.testing.assert_close(dropped[dropped != 0].unique(), torch.tensor([2 / 0.7]))
    assert torch.equal(UniformDropout(0.3).eval()(X), X)
    assert torch.equal(UniformDropout(0.0)(X), X)


def test_factories_get_the_sizes_that_they_name():
    X = np.zeros((2, 5), dtype=np.float32)

    def factory(n_features, n_classes, width=3):
        return nn.Sequential(nn.Linear(n_features, width), nn.Linear(width, n_classes))

    assert build_module(factory, {"width": 9}, X, 4)[0].weight.shape == (9, 5)
    assert build_module(factory, {"n_classes": 6}, X, 4)[1].weight.shape == (6, 3)
    assert build_module(nn.Linear, {"in_features": 5, "out_features": 4}, X, 4).weight.shape == (
        4,
        5,
    )


def test_sparse_columns_are_scaled_and_zeros_stay_zeros():
    X = sparse.random(5000, 3, density=0.2, format="csr", dtype=np.float32, random_state=0)
    X.data *= 1000
    Z = Standardize(3).fit(X)(torch.from_numpy(X.toarray())).numpy()
    np.testing.assert_array_equal(Z == 0, X.toarray() == 0)
    np.testing.assert_allclose(Z.std(0), 1, atol=0.05)


def test_counts_of_any_size_are_told_apart_in_sparse_data():
    y = np.arange(300) % 3
    X = sparse.csr_matrix(np.array([10.0, 50.0, 100.0])[y][:, None])
    assert ALRClassifier(max_epochs=40, random_state=0).fit(X, y).score(X, y) == 1


@pytest.mark.parametrize("module", [MLP, partial(MLP, dropout=0.25)])
def test_the_default_network_by_name_is_the_default(blobs, module):
    X, y, _ = blobs
    named, default = (ALRClassifier(m, max_epochs=2, random_state=0) for m in (module, None))
    proba = default.fit(1000 * X, y).predict_proba(1000 * X)
    np.testing.assert_array_equal(named.fit(1000 * X, y).predict_proba(1000 * X), proba)


def test_standardizing_needs_no_second_copy_of_the_data():
    X = np.ones((200_000, 20), dtype=np.float32)
    tracemalloc.start()
    Standardize(20).fit(X)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < X.nbytes / 4


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Linear(10, 3), r"y has 4 classes, .* is \(2, 3\)"),
        (nn.Sequential(nn.Linear(10, 4), nn.Unflatten(1, (2, 2))), r"is \(2, 2, 2\)"),
        (nn.Linear(9, 4), r"must process batches of X, .* shape \(2, 10\)"),
        (nn.LSTM(10, 4, batch_first=True), "is tuple"),
        (lambda: 3, "must return an nn.Module, got int"),
    ],
)
def test_modules_that_do_not_fit_are_refused_before_training(blobs, module, message):
    X, y, _ = blobs
    with pytest.raises((ValueError, TypeError), match=message):
        ALRClassifier(module).fit(X, y)


def test_module_parameters_need_a_class(blobs):
    X, y, _ = blobs
    with pytest.raises(ValueError, match="module__bias needs a module that is a class"):
        ALRClassifier(nn.Linear(10, 4), module__bias=False).fit(X, y)


def test_softmax_at_the_end_warns(blobs):
    X, y, _ = blobs
    module = nn.Sequential(nn.Linear(10, 4), nn.Softmax(dim=1))
    with pytest.warns(UserWarning, match="It must return logits"):
        ALRClassifier(module, max_epochs=2).fit(X, y)


def test_the_look_at_the_module_leaves_batchnorm_and_mode_alone(blobs):
    from sknoisy.networks.build import check_logits

    module = nn.Sequential(nn.BatchNorm1d(10), nn.Linear(10, 4))
    before = module[0].running_mean.clone()
    check_logits(module, torch.randn(2, 10), 4)
    assert torch.equal(module[0].running_mean, before)
    assert module.training


def test_lazy_modules_are_sized_from_the_data(blobs):
    X, y, _ = blobs
    with warnings.catch_warnings(action="ignore"):  # torch calls lazy modules a new feature
        module = nn.LazyLinear(4)
    assert ALRClassifier(module, max_epochs=2).fit(X, y).module_.in_features == 10


class Viewing(nn.Module):
    """Calls view, which needs activations laid out channels first."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(2, 4, 3), nn.Linear(64, 3)

    def forward(self, X):
        return self.head(self.conv(X).view(len(X), -1))


def test_images_train_channels_last_unless_the_module_cannot():
    X, y = np.random.default_rng(0).normal(size=(30, 2, 6, 6)), np.arange(30) % 3
    module = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Flatten(), nn.Linear(64, 3))
    conv = ALRClassifier(module, max_epochs=2).fit(X, y).module_[0]
    assert conv.weight.is_contiguous(memory_format=torch.channels_last)
    clf = ALRClassifier(Viewing, max_epochs=2).fit(X, y)
    assert clf.module_.conv.weight.is_contiguous()


@pytest.mark.parametrize("channels", [1, 4, 16])
def test_few_channels_of_which_pixels_are_skipped_come_first(channels):
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(32, channels, 8, 8, generator=generator).to(memory_format=torch.channels_last)
    layer = nn.Conv2d(channels, 8, 1, stride=2, bias=False)
    exact = deepcopy(layer).double()
    use_channels_last(layer, X)
    fed = []
    layer.register_forward_pre_hook(lambda _, inputs: fed.append(inputs[0].stride()))
    layer(X).square().sum().backward()
    exact(X.double()).square().sum().backward()
    torch.testing.assert_close(layer.weight.grad.double(), exact.weight.grad, rtol=1e-4, atol=1e-2)
    if channels < 16:  # elsewhere oneDNN may write past the end of the gradient's memory
        assert fed == [(64 * channels, 64, 8, 1)]
        assert layer.weight.stride() == (channels, 1, 1, 1)
    else:
        assert layer.weight.stride() == (channels, 1, channels, channels)


def test_the_more_columns_the_more_inputs_are_dropped_in_training():
    text = sparse.random(20, 1000, density=0.1, format="csr", dtype=np.float32, random_state=0)
    table = text.toarray()
    for X, share in (
        (text, 0.5), (text[:, :999], 0.2), (table, 0.2), (table[:, :200], 0.2),
        (table[:, :199], 0.1), (table[:, :30], 0.1), (table[:, :29], 0.0),
    ):  # fmt: skip
        assert auto_input_dropout(X) == share
        second = build_module(None, {}, X, 2)[1]
        assert second.p == share if share else not isinstance(second, UniformDropout)
    given = build_module(None, {"input_dropout": 0.0}, text, 2)
    assert not isinstance(given[1], UniformDropout)


@pytest.mark.slow
@pytest.mark.parametrize("span", [600, 3600])
def test_a_large_offset_is_taken_out_before_rows_are_rounded(method, span):
    rng = np.random.default_rng(0)
    t = rng.uniform(0, span, 400)
    X, y = np.stack([1.7e9 + t, rng.normal(size=400)], axis=1), (t > 0.7 * span).astype(int)
    all_fit_params = [{}]
    if method is MetaLabelNetClassifier:
        trusted = {"trusted": np.arange(400) < 20}
        all_fit_params = [trusted, {**trusted, "unlabeled_X": X}]
    for fit_params in all_fit_params:
        clf = method(max_epochs=20, lr=0.02, random_state=0).fit(X, y, **fit_params)
        assert clf.score(X, y) > 0.96  # in float32 there are 128 s between numbers


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (1.7e9 + np.linspace(0, 3600, 50), True),
        (1.7e9 + np.linspace(0, 1e6, 50), False),
        (np.linspace(-1, 1, 50), False),
        (np.full(50, 1e9), False),
        (1.1 + 1e-16 * np.arange(9).repeat(6)[:50], False),
        (-1e6 - np.arange(50.0) / 50, True),
        (np.full(50, 0.0), False),
    ],
)
def test_rows_stay_in_float64_where_float32_has_few_steps(column, expected):
    assert rounds_in_float32(np.stack([np.arange(50.0), column], axis=1)) is expected


def test_float64_constants_are_saved(tmp_path):
    X = 1.7e9 + np.random.default_rng(0).uniform(0, 100, (200, 2))
    clf = ALRClassifier(max_epochs=3, random_state=0).fit(X, np.arange(200) % 2)
    clf.save(tmp_path / "clf.safetensors")
    loaded = ALRClassifier.load(tmp_path / "clf.safetensors")
    np.testing.assert_array_equal(loaded.predict_proba(X), clf.predict_proba(X))
    assert loaded.module_[0].mean.dtype == torch.float64


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:No trusted rows")
def test_sparse_columns_with_few_zeros_are_shifted_and_words_are_not(method):
    rng = np.random.default_rng(0)
    year, words = rng.normal(2000, 9, 400), rng.random((400, 6)) < 0.2
    X, y = np.column_stack([year, words]), (year > 2000).astype(int)
    layer = Standardize(7).fit(sparse.csr_array(X.astype(np.float32)))
    assert layer.mean[0] == pytest.approx(year.mean(), rel=1e-6)
    assert not layer.mean[1:].any()
    clf = method(max_epochs=30, lr=0.01, random_state=0)
    assert clf.fit(sparse.csr_array(X), y).score(sparse.csr_array(X), y) > 0.95


def test_frames_of_any_library_stay_in_float64():
    t = 1.7e9 + np.random.default_rng(0).uniform(0, 600, 300)
    fits = [
        ALRClassifier(max_epochs=3, random_state=0).fit(rows, t > t.mean())
        for rows in (t[:, None], pl.DataFrame({"t": t}), [[value] for value in t])
    ]
    proba = [clf.predict_proba(t[:, None]) for clf in fits[:1]] + [
        fits[1].predict_proba(pl.DataFrame({"t": t})),
        fits[2].predict_proba([[value] for value in t]),
    ]
    for found in proba[1:]:
        np.testing.assert_array_equal(found, proba[0])
