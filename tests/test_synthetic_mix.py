import warnings
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.cluster import KMeans
from sklearn.datasets import make_blobs
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import NearestNeighbors
from skorch.dataset import ValidSplit
from torch import nn

from sknoisy import ALRClassifier, SyntheticMixClassifier
from sknoisy.functional import BatchLabels
from sknoisy.synthetic_mix import callback as callback_module
from sknoisy.synthetic_mix import equations
from sknoisy.synthetic_mix.callback import MixNeighbors
from sknoisy.synthetic_mix.equations import (
    auto_neighbors,
    clean_probability,
    linear_loss,
    mix,
    mixing_matrix,
    mixing_weights,
    mixup_matrix,
    scale_to_unit,
    weigh,
)
from sknoisy.synthetic_mix.schedule import auto_schedule
from sknoisy.training.data import RowDataset
from sknoisy.training.noise_model import calibrated_loss


@pytest.mark.parametrize(
    ("own", "other", "share"), [(0.9, 0.9, 0.5), (0.9, 0.1, 0.9), (0.1, 0.9, 0.1), (0, 0, 1)]
)
def test_lambda_table_of_one_neighbor(own, other, share):
    weights = mixing_weights(torch.tensor([float(own)]), torch.tensor([[float(other)]]))
    torch.testing.assert_close(weights, torch.tensor([[share, 1.0 - share]]))


@pytest.mark.parametrize("k", [0, 1, 3, 7])
def test_weights_sum_to_one_and_follow_the_formula(k):
    w, wk = torch.rand(50), torch.rand(50, k)
    weights = mixing_weights(w, wk)
    total = w + wk.sum(1) + 1e-10
    torch.testing.assert_close(weights.sum(1), torch.ones(50))
    torch.testing.assert_close(weights[:, 0], (w + 1e-10) / total)
    torch.testing.assert_close(weights[:, 1:], wk / total[:, None])


def test_matrix_form_equals_the_sums_of_the_paper():
    X, T = torch.randn(4, 2, 3), torch.rand(4, 5)
    positions = torch.tensor([[0, 2, 1], [1, 0, 3], [2, 1, 3], [3, 0, 1]])
    weights = mixing_weights(torch.rand(4), torch.rand(4, 2))
    matrix = mixing_matrix(weights, positions, 4)
    for i in range(4):
        expected_x = sum(weights[i, j] * X[positions[i, j]] for j in range(3))
        expected_t = sum(weights[i, j] * T[positions[i, j]] for j in range(3))
        torch.testing.assert_close(mix(matrix, X)[i], expected_x)
        torch.testing.assert_close((matrix @ T)[i], expected_t)


def test_mixtures_are_as_exact_as_the_matrix_that_mixes():
    X, matrix = torch.rand(3, 2), torch.rand(4, 3).double()
    torch.testing.assert_close(mix(matrix, X), matrix @ X.double(), rtol=0, atol=0)
    assert mixup_matrix(torch.tensor(0.3).double(), torch.arange(3)).dtype == torch.float64


@pytest.mark.parametrize("is_whole", [True, False])
def test_a_network_in_float64_sees_whole_mixtures_and_one_in_part_does_not(is_whole):
    seen = set()

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(2, 4, dtype=torch.float64 if is_whole else None)
            self.last = nn.Linear(4, 2, dtype=torch.float64)

        def forward(self, X):
            if self.training:
                seen.add(X.dtype)
            return self.last(self.first(X.to(self.first.weight.dtype)).double().tanh())

    X, y = make_blobs(40, centers=2, random_state=0)
    SyntheticMixClassifier(Net, warmup_epochs=0, mix_start=10, max_epochs=20).fit(X, y)
    assert (torch.float64 in seen) == is_whole


def test_mixup_takes_a_share_of_the_row_and_the_rest_of_its_partner():
    X, partners = torch.randn(5, 3), torch.tensor([1, 0, 4, 3, 2])
    mixed = mix(mixup_matrix(torch.tensor(0.3), partners), X)
    torch.testing.assert_close(mixed, 0.3 * X + 0.7 * X[partners])


def test_linear_loss_is_minus_the_probability_of_the_label():
    logits = torch.tensor([[0.0, 1.0], [2.0, 0.0]])
    p = logits.softmax(1)
    expected = -(p[0, 0] + p[1, 1]) / 2
    torch.testing.assert_close(linear_loss(logits, BatchLabels(torch.eye(2))), expected)


def test_losses_are_scaled_by_their_range():
    torch.testing.assert_close(
        scale_to_unit(torch.tensor([3.0, 1.0, 2.0])), torch.tensor([1.0, 0.0, 0.5])
    )
    for useless in ([2.0, 2.0], [1.0], [1.0, torch.inf], [torch.nan, 0.0]):
        assert not scale_to_unit(torch.tensor(useless)).any()


def test_clean_probability_is_the_posterior_of_the_lower_component():
    rng = np.random.default_rng(0)
    losses = np.concatenate([rng.normal(0.1, 0.03, 300), rng.normal(0.8, 0.05, 100)])
    found = clean_probability(torch.from_numpy(losses)).numpy()
    mixture = GaussianMixture(2, max_iter=10, tol=1e-2, reg_covar=5e-4, random_state=0)
    posterior = mixture.fit(losses[:, None]).predict_proba(losses[:, None])
    np.testing.assert_allclose(found, posterior[:, mixture.means_.argmin()])
    assert found[:300].min() > 0.9 > 0.1 > found[300:].max()


@pytest.mark.parametrize("losses", [torch.zeros(10), torch.zeros(1)])
def test_equal_losses_or_one_row_count_as_clean(losses):
    assert (clean_probability(losses) == 1).all()


@pytest.mark.filterwarnings("ignore:target_momentum")
def test_no_other_estimator_is_fitted_that_a_tracker_would_record(monkeypatch):
    def fit(*args, **kwargs):
        raise AssertionError

    for kind in (GaussianMixture, KMeans, NearestNeighbors):
        monkeypatch.setattr(kind, "fit", fit)
    X, y = make_blobs(80, centers=3, random_state=0)
    clf = SyntheticMixClassifier(max_epochs=4, warmup_epochs=1, random_state=0).fit(X, y)
    assert (clf.clean_probability_ < 1).any()


def test_phases_switch_at_the_right_epochs():
    callback = MixNeighbors(warmup_epochs=2, mix_start=6, mix_end=9, target_update_every=2)
    phases = [callback.phase(epoch) for epoch in range(1, 12)]
    assert phases == ["warmup"] * 2 + ["mixup"] * 3 + ["mix"] * 4 + ["unmixed"] * 2
    assert [e for e in range(1, 15) if callback.updates_targets(e)] == [6, 8]
    callback.mix_end = None
    assert [e for e in range(1, 12) if callback.updates_targets(e)] == [6, 8, 10]
    callback.mixup_alpha = 0
    assert [callback.phase(epoch) for epoch in range(1, 7)] == ["warmup"] * 5 + ["mix"]


def test_linear_loss_belongs_to_the_mixup_phase_alone():
    callback = MixNeighbors(warmup_epochs=1, mix_start=3, mixup_loss="linear")
    assert [callback.loss_at(e) is linear_loss for e in (1, 2, 3)] == [False, True, False]
    callback.mixup_loss = "ce"
    assert callback.loss_at(2) is not linear_loss


def test_agreement_asks_the_three_nearest_neighbors(monkeypatch):
    """Two rows of one class beside two of another: the nearest agrees, the next two do not."""
    features = torch.tensor([[0.0], [0.1], [0.3], [0.4]])
    logits = torch.eye(2)[[0, 0, 1, 1]]
    monkeypatch.setattr(
        callback_module,
        "pass_through",
        lambda net, X, layer: (logits[X.long()], features[X.long()]),
    )
    net = SimpleNamespace(module_=torch.nn.Identity(), batch_size=4)
    callback = MixNeighbors()
    callback.layer_ = None
    rows = RowDataset(np.arange(4), np.arange(4))
    assert callback.agreement(net, rows) == pytest.approx(1 / 3)


def test_auto_neighbors_are_more_for_many_classes_that_lie_apart():
    assert [auto_neighbors(n, 0.9) for n in (2, 5, 6, 100)] == [1, 1, 3, 3]
    assert [auto_neighbors(10, share) for share in (0.5, 0.79, 0.8, 1.0)] == [1, 1, 3, 3]


@pytest.mark.slow
def test_neighbors_are_chosen_by_what_the_data_say():
    X, y = make_blobs(400, 8, centers=8, cluster_std=1.0, random_state=0)
    clf = SyntheticMixClassifier(max_epochs=20, random_state=0).fit(X, y)
    assert clf.n_neighbors_ == 3
    overlapping = np.random.default_rng(0).normal(size=X.shape)
    assert clf.fit(overlapping, y).n_neighbors_ == 1
    assert clf.set_params(n_neighbors=2).fit(X, y).n_neighbors_ == 2


def test_auto_schedule_updates_about_eighteen_times():
    for epochs in (60, 100, 300):
        start, end, every = auto_schedule(2, epochs)
        assert (start, end) == (epochs // 10, epochs * 4 // 5)
        assert 16 <= len(range(start, end + 1, every)) <= 22
    assert auto_schedule(4, 100, 40, 60, 7) == (40, 60, 7)
    assert auto_schedule(19, 100).start == 21  # after an epoch of mixup
    assert auto_schedule(19, 100, start=85) == (85, 94, 1)  # ten epochs of mixing
    assert auto_schedule(19, 100, start=95) == (95, 100, 1)


def test_after_mixing_rows_train_as_they_are_on_labels_that_stay(blobs):
    X, y, _ = blobs
    seen = []

    class Spy(MixNeighbors):
        def on_batch_begin(self, net, batch, training=False, **kwargs):
            before = batch[0].clone()
            super().on_batch_begin(net, batch=batch, training=training, **kwargs)
            same = isinstance(batch[1], torch.Tensor) and torch.equal(batch[0], before)
            seen.append((len(net.history), same))

        def on_epoch_end(self, net, **kwargs):
            tables.append(net.criterion_.targets.clone())
            clean.append(net.criterion_.clean_probability.clone())
            super().on_epoch_end(net, **kwargs)

    tables, clean = [], []
    clf = SyntheticMixClassifier(max_epochs=10, random_state=0)
    schedule = {"warmup_epochs": 1, "mix_start": 3, "mix_end": 7, "target_update_every": 1}
    clf._label_callback = lambda search, data: Spy(**schedule)
    clf.fit(X, y)
    assert all(same == (epoch in (1, 8, 9, 10)) for epoch, same in seen)
    assert not torch.equal(tables[5], tables[6])
    assert torch.equal(tables[6], tables[9])
    assert not torch.equal(clean[5], clean[6])
    assert torch.equal(clean[6], clean[9])
    np.testing.assert_array_equal(clf.clean_probability_, clean[6])


def test_an_end_beyond_the_last_epoch_mixes_to_it():
    for end in (50, 60, 1000):
        assert auto_schedule(2, 50, end=end) == (5, 50, 3)
    assert auto_schedule(2, 50, start=60) == (60, 50, 1)  # never reached, and said so
    assert auto_schedule(19, 50, end=10)[:2] == (10, 10)
    assert auto_schedule(1, 40, every=5)[:2] == (4, 40)  # until ten updates


class ConstantNet(nn.Module):
    """Predicts class 1 with probability p for every row, whatever it learns."""

    def __init__(self, p):
        super().__init__()
        self.register_buffer("log_p", torch.tensor([1 - p, p]).log())
        self.head = nn.Linear(1, 1)

    def forward(self, X):
        return self.log_p.expand(len(X), -1) + 0 * self.head(X)


@pytest.mark.parametrize("neighbors", ["batch", "all"])
def test_targets_follow_the_closed_form_and_flip_at_the_seventh_confident_update(neighbors):
    """T_U = m^U one-hot + (1 - m^U) p; with m = .9 and p = 1, .9^6 > .5 > .9^7."""
    X, y = np.arange(12.0)[:, None], np.arange(12) % 2
    clf = SyntheticMixClassifier(
        ConstantNet(1 - 1e-7), warmup_epochs=0, mix_start=2, batch_size=5, neighbors=neighbors
    )
    for updates, flips in ((6, False), (7, True)):
        with warnings.catch_warnings(action="ignore"):  # six updates are too few, and it says so
            clf.set_params(max_epochs=2 + updates, mix_end=1 + updates, target_update_every=1)
            clf.fit(X, y)
        kept = 0.9**updates
        expected = kept * np.eye(2)[y] + (1 - kept) * np.array([0, 1])
        np.testing.assert_allclose(clf.soft_labels_, expected, atol=1e-5)
        assert (clf.soft_labels_[y == 0].argmax(1) == 1).all() == flips


def test_too_few_updates_to_flip_a_label_warn(blobs):
    X, y, _ = blobs
    with pytest.warns(UserWarning, match=r"at most 0.5, or no label can change, got 0.9 \*\* 6"):
        SyntheticMixClassifier(warmup_epochs=0, mix_start=1, max_epochs=6).fit(X, y)


def test_warmup_alone_is_cross_entropy_training_bit_for_bit(blobs):
    X, y, _ = blobs
    params = {"max_epochs": 4, "random_state": 0}
    with pytest.warns(UserWarning, match="max_epochs must reach mix_start"):
        ours = SyntheticMixClassifier(warmup_epochs=4, mix_start=5, **params).fit(X, y)
    plain = ALRClassifier(momentum=1.0, entropy_weight=0.0, **params).fit(X, y)
    np.testing.assert_array_equal(ours.predict_proba(X), plain.predict_proba(X))


def test_extra_passes_leave_no_trace_beside_the_mixing(blobs):
    """With every row alone (no clean mate), mixing epochs are plain training, bit for bit.

    BatchNorm and dropout would show an extra train-mode pass.
    """
    X, y, _ = blobs
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Linear(10, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 4)
    )

    class Alone(MixNeighbors):
        def model_losses(self, net, dataset):
            found = super().model_losses(net, dataset)
            net.criterion_.clean_probability.zero_()
            return found

    params = {"max_epochs": 8, "random_state": 0}
    mixed = SyntheticMixClassifier(module, target_momentum=0.9, **params)
    callback = Alone(warmup_epochs=0, mix_start=1, target_momentum=1.0)
    mixed._label_callback = lambda search, data: callback
    plain = ALRClassifier(module, momentum=1.0, entropy_weight=0.0, **params).fit(X, y)
    mixed.fit(X, y)
    for name, value in plain.module_.state_dict().items():
        assert torch.equal(mixed.module_.state_dict()[name], value), name


@pytest.mark.slow
@pytest.mark.parametrize("neighbors", ["batch", "all"])
def test_labels_get_cleaner_and_clean_rows_are_told_apart(blobs, neighbors):
    X, y, true = blobs
    clf = SyntheticMixClassifier(neighbors=neighbors, max_epochs=60, random_state=0).fit(X, y)
    assert (clf.soft_labels_.argmax(1) == true).mean() > (y == true).mean() + 0.08
    np.testing.assert_allclose(clf.soft_labels_.sum(1), 1, atol=1e-5)
    assert clf.clean_probability_.shape == (600,)
    right = clf.soft_labels_.argmax(1) == true
    assert clf.clean_probability_[right].mean() > clf.clean_probability_[~right].mean() + 0.3


@pytest.mark.slow
@pytest.mark.parametrize("neighbors", ["batch", "all"])
def test_sparse_rows_and_images_are_mixed(neighbors):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 1, 4, 4)).astype(np.float32), np.arange(60) % 3
    module = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Dropout(), nn.Linear(16, 3)
    )
    params = {"neighbors": neighbors, "max_epochs": 20, "random_state": 0, "batch_size": 16}
    clf = SyntheticMixClassifier(module, **params).fit(X, y)
    assert np.isfinite(clf.soft_labels_).all()
    rows = sparse.csr_matrix(X.reshape(60, 16))
    clf = SyntheticMixClassifier(**params, train_split=ValidSplit(4)).fit(rows, y)
    assert np.isfinite(clf.soft_labels_).all()


@pytest.mark.parametrize("neighbors", ["batch", "all"])
@pytest.mark.parametrize("n", [2, 3, 5])
def test_fewer_rows_than_neighbors(neighbors, n):
    X, y = np.arange(float(n))[:, None], np.arange(n) % 2
    clf = SyntheticMixClassifier(neighbors=neighbors, max_epochs=20, n_neighbors=4).fit(X, y)
    assert np.isfinite(clf.soft_labels_).all()
    assert np.isfinite(clf.clean_probability_).all()


def test_a_batch_of_one_row_stays_unmixed():
    X, y = np.arange(4.0)[:, None], np.arange(4) % 2
    clf = SyntheticMixClassifier(max_epochs=20, batch_size=1, random_state=0).fit(X, y)
    assert np.isfinite(clf.soft_labels_).all()


def test_loss_history_averages_the_last_passes():
    X, y = np.arange(8.0)[:, None], np.arange(8) % 2
    seen = []

    class Spy(MixNeighbors):
        def model_losses(self, net, dataset):
            found = super().model_losses(net, dataset)
            seen.append((list(self.losses_), net.criterion_.clean_probability.clone()))
            return found

    clf = SyntheticMixClassifier(max_epochs=20, random_state=0)
    clf._label_callback = lambda search, data: Spy(loss_history=2, warmup_epochs=1, mix_start=5)
    clf.fit(X, y)
    assert len(seen) == 20 - 4 + 1  # from one epoch before mix_start on
    for (before, _), (history, clean) in pairwise(seen):
        assert torch.equal(history[0], before[-1])
        torch.testing.assert_close(clean, clean_probability((history[0] + history[1]) / 2))


def test_large_sets_are_judged_by_a_part(monkeypatch):
    losses = torch.from_numpy(np.random.default_rng(0).beta(0.5, 0.5, 3_000))
    whole = clean_probability(losses)
    monkeypatch.setattr(equations, "MIXTURE_ROWS", 1_000)
    torch.testing.assert_close(clean_probability(losses), whole, atol=0.1, rtol=0)


def test_held_out_batches_are_never_mixed(blobs):
    X, y, _ = blobs
    clf = SyntheticMixClassifier(
        max_epochs=8, warmup_epochs=0, mix_start=1, train_split=ValidSplit(4), random_state=0
    ).fit(X, y)
    _, held_out = clf.net_.get_split_datasets(X, np.arange(len(X)))
    rows = held_out.indices
    clf.net_.module_.eval()
    logits = clf.module_(torch.from_numpy(X[rows]))
    expected, _ = calibrated_loss(logits, torch.from_numpy(y[rows]))
    assert clf.history_[-1, "valid_loss"] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n_neighbors": 0}, "n_neighbors == 0, must be >= 1"),
        ({"warmup_epochs": -1}, "warmup_epochs == -1, must be >= 0"),
        ({"mix_start": "soon"}, "mix_start must be 'auto' or a number, got 'soon'"),
        ({"mix_end": 0}, "mix_end == 0, must be >= 1"),
        ({"mix_start": 3, "mix_end": 2}, "mix_end must be at least mix_start, got mix_end=2 and"),
        ({"max_noise_rate": 1.5}, "max_noise_rate == 1.5, must be <= 1"),
        ({"max_noise_rate": "most"}, "max_noise_rate must be 'auto' or a number, got 'most'"),
        ({"target_momentum": 2.0}, "target_momentum == 2.0, must be <= 1"),
        ({"target_update_every": 0}, "target_update_every == 0"),
        ({"mixup_alpha": -1.0}, "mixup_alpha == -1.0, must be >= 0"),
        ({"mixup_loss": "mse"}, "mixup_loss must be one of 'linear', 'ce', got 'mse'"),
        ({"neighbors": "some"}, "neighbors must be one of 'batch', 'all', got 'some'"),
        ({"loss_history": 0}, "loss_history == 0"),
        ({"feature_layer": "head"}, "feature_layer must name a layer"),
    ],
)
def test_out_of_range_parameters_are_refused(blobs, params, message):
    X, y, _ = blobs
    with pytest.raises(ValueError, match=message):
        SyntheticMixClassifier(**params).fit(X, y)


def test_weights_scale_the_shares_of_a_mixture():
    matrix = torch.tensor([[0.5, 0.5, 0.0], [0.2, 0.3, 0.5], [1.0, 0.0, 0.0]])
    expected = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.375, 0.625], [1.0, 0.0, 0.0]])
    torch.testing.assert_close(weigh(matrix, torch.tensor([0.0, 1.0, 1.0])), expected)
    torch.testing.assert_close(weigh(matrix, torch.full((3,), 7.0)), matrix)
