import copy
import pickle

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from skorch.callbacks import Callback, GradientNormClipping, LRScheduler
from skorch.dataset import ValidSplit
from torch import nn

from sknoisy import ALRClassifier, MetaLabelNetClassifier, SyntheticMixClassifier
from sknoisy.networks import MLP
from sknoisy.networks.mlp import SPARSE_COLUMNS, auto_columns
from sknoisy.networks.sparse_linear import SparseLinear, occurring_columns
from sknoisy.networks.standardize import Standardize
from sknoisy.synthetic_mix.equations import mix
from sknoisy.training.data import as_sparse_tensor
from sknoisy.training.lazy_adamw import LazyAdamW, blend_squares

COLUMNS, TOPICS = 20_000, 3
FAST = {"module__hidden": 8, "batch_size": 32, "max_epochs": 6, "lr": 0.03, "random_state": 0}
FAST |= {"warmup_epochs": 1, "momentum": 0.7}


def text(n=120, columns=COLUMNS, seed=0):
    """Return rows of 20 words, 5 of them of their topic, and the topics."""
    rng = np.random.default_rng(seed)
    topics = rng.integers(TOPICS, size=n)
    words = rng.integers(columns // 2, size=(n, 20))  # the other half of the columns never occurs
    words[:, :5] = 10 * topics[:, None] + rng.integers(10, size=(n, 5))
    values = rng.random(20 * n, dtype=np.float32) + 0.1
    X = sparse.csr_matrix((values, words.ravel(), np.arange(0, 20 * n + 1, 20)), shape=(n, columns))
    X.sum_duplicates()
    return X, topics


def layer_for(X, outputs=4, dropout=0.0):
    torch.manual_seed(0)
    return SparseLinear(occurring_columns(X), outputs, nn.Dropout(dropout)).fit(X)


def dense(X):
    return torch.from_numpy(X.toarray())


@pytest.fixture(scope="module")
def fitted():
    X, y = text()
    return ALRClassifier(**FAST).fit(X, y), X, y


def test_it_equals_a_linear_layer_on_standardized_columns():
    X, _ = text(columns=500)
    layer = layer_for(X)
    weight = torch.zeros(500, 4).index_copy(0, layer.columns, layer.weight.detach())
    expected = Standardize(500).fit(X)(dense(X)) @ weight + layer.bias
    for batch in (as_sparse_tensor(X), dense(X)):
        torch.testing.assert_close(layer(batch), expected, rtol=1e-5, atol=1e-5)


def test_sparse_and_dense_batches_have_the_same_gradient():
    X, _ = text(columns=500)
    gradients = []
    for batch in (as_sparse_tensor(X[:30]), dense(X[:30])):
        layer = layer_for(X)
        layer(batch).square().sum().backward()
        gradients.append((layer.weight.grad.to_dense(), layer.bias.grad))
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4)


def test_the_gradient_has_the_rows_of_the_batch_s_columns_alone():
    X, _ = text()
    layer = layer_for(X)
    layer(as_sparse_tensor(X[:5])).sum().backward()
    rows = layer.weight.grad.coalesce().indices()[0]
    assert layer.weight.grad.is_sparse
    np.testing.assert_array_equal(layer.columns[rows], np.unique(X[:5].indices))


def test_rows_without_words_give_the_bias():
    X, _ = text()
    layer = layer_for(X)
    for empty in (sparse.csr_matrix((3, COLUMNS), dtype=np.float32), X[:3] * 0):
        torch.testing.assert_close(layer(as_sparse_tensor(empty)), layer.bias.expand(3, -1))


def test_order_and_repetition_of_entries_do_not_matter():
    X = sparse.csr_matrix(([3.0, 1.0, 1.5], [7, 2, 2], [0, 3]), shape=(1, 9))
    batch = as_sparse_tensor(X)
    assert batch.indices().tolist() == [[0, 0], [2, 7]]
    assert batch.values().tolist() == [2.5, 3.0]


@pytest.mark.parametrize("convert", [as_sparse_tensor, dense])
def test_dropout_drops_numbers_and_scales_the_others(convert):
    X, _ = text(columns=500)
    layer = layer_for(X, outputs=1, dropout=0.5).train()
    with torch.no_grad():
        layer.weight.fill_(1)
        layer.bias.zero_()
    batch = convert(X)
    dropped = torch.stack([layer(batch) for _ in range(200)])
    assert (dropped.std(dim=0) > 0).all()
    torch.testing.assert_close(dropped.mean(dim=0), layer.eval()(batch), rtol=0.2, atol=0)


def test_explicit_zeros_do_not_occur():
    X = sparse.csr_matrix(([1.0, 0.0], ([0, 1], [4, 5])), shape=(2, 9))
    np.testing.assert_array_equal(occurring_columns(X), [4])


def test_narrow_text_and_dense_rows_are_read_as_ever():
    wide, _ = text(columns=SPARSE_COLUMNS)
    narrow, _ = text(columns=SPARSE_COLUMNS - 1)
    np.testing.assert_array_equal(auto_columns(wide), occurring_columns(wide))
    assert [auto_columns(X) for X in (narrow, wide.toarray(), wide * 0)] == [None] * 3
    assert not any(isinstance(layer, SparseLinear) for layer in MLP(9, 2))
    assert not any(isinstance(layer, SparseLinear) for layer in MLP(9, 2, hidden=(), columns=[1]))


def steps_of(optimizer, weight, gradients):
    for gradient in gradients:
        weight.grad = gradient.to_sparse(1)
        optimizer.step()
    return weight.detach()


def test_a_step_moves_the_rows_that_occur_alone():
    weight = nn.Parameter(torch.ones(5, 3))
    gradient = torch.zeros(5, 3)
    gradient[[1, 3]] = 1.0
    optimizer = LazyAdamW([weight], lr=0.1, weight_decay=0)
    moved = steps_of(optimizer, weight, [gradient])
    expected = torch.ones(5, 3)
    expected[[1, 3]] -= 0.1 * 0.1  # 1 - beta1 times the rate, the length of Adam's first step
    torch.testing.assert_close(moved, expected)


def test_squares_fall_as_if_every_step_had_been_taken():
    squares, gradient = torch.tensor([2.0, 3.0]), torch.tensor([[1.0, 2.0], [3.0, 0.0]])
    waited = blend_squares(squares, gradient, 0.9, torch.tensor([4.0, 1.0]))
    each_step = squares.clone()
    for _ in range(3):
        each_step[0] = blend_squares(each_step[:1], torch.zeros(1, 2), 0.9, torch.ones(1))
    expected = 0.9 * each_step + 0.1 * gradient.square().mean(dim=1)
    torch.testing.assert_close(waited, expected)


def test_one_number_a_row_moves_as_adam_without_momentum():
    """Reference: torch's AdamW with a first beta of 0, dense gradients, and 1 - beta1 the rate."""
    torch.manual_seed(0)
    gradients = torch.randn(20, 6, 1) * (torch.rand(20, 6, 1) < 0.5)
    gradients[-1] = torch.randn(6, 1)  # all rows have had their weight decay
    ours, theirs = (nn.Parameter(torch.ones(6, 1)) for _ in range(2))
    moved = steps_of(LazyAdamW([ours], lr=0.01, weight_decay=0), ours, gradients)
    adam = torch.optim.AdamW([theirs], lr=0.01 * 0.1, betas=(0.0, 0.999), weight_decay=0)
    for gradient in gradients:
        theirs.grad = gradient
        adam.step()
    torch.testing.assert_close(moved, theirs.detach(), rtol=1e-4, atol=1e-5)


def test_weight_decay_waits_for_the_row():
    weight, gradient = nn.Parameter(torch.ones(2, 1)), torch.tensor([[1e-30], [0.0]])
    optimizer = LazyAdamW([weight], lr=0.1, weight_decay=0.5)
    last = torch.full((2, 1), 1e-30)
    moved = steps_of(optimizer, weight, [gradient, gradient, last])
    torch.testing.assert_close(moved, torch.full((2, 1), 0.95**3))


def test_weights_of_other_gradients_are_adamw_s():
    ours, theirs = (nn.Parameter(torch.ones(4)) for _ in range(2))
    for weight, kind in ((ours, LazyAdamW), (theirs, torch.optim.AdamW)):
        optimizer = kind([weight], lr=0.1)
        for k in range(3):
            weight.grad = torch.arange(4.0) - k
            optimizer.step()
    assert torch.equal(ours, theirs)


def test_a_restored_optimizer_goes_on_as_the_other_would():
    torch.manual_seed(0)
    gradients = torch.randn(6, 4, 2) * (torch.rand(6, 4, 1) < 0.5)
    weight = nn.Parameter(torch.ones(4, 2))
    optimizer = LazyAdamW([weight], lr=0.1)
    steps_of(optimizer, weight, gradients[:3])
    other = nn.Parameter(weight.detach().clone())
    restored = LazyAdamW([other], lr=0.1)
    restored.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    ends = [steps_of(optimizer, weight, gradients[3:]), steps_of(restored, other, gradients[3:])]
    assert torch.equal(*ends)


def test_mixing_sparse_rows_equals_mixing_dense_ones():
    X, _ = text(12, 100)
    matrix = torch.rand(5, 12) * (torch.rand(5, 12) < 0.4)
    mixed = mix(matrix, as_sparse_tensor(X))
    assert mixed.is_sparse
    torch.testing.assert_close(mixed.to_dense(), mix(matrix, dense(X)))


def test_only_columns_that_occur_have_weights_and_change_predictions(fitted):
    clf, X, y = fitted
    assert len(clf.module_[0].weight) == len(np.unique(X.indices))
    other = X.tolil()
    other[:, COLUMNS - 1] = 9.0
    assert clf.score(X, y) > 0.9
    np.testing.assert_array_equal(clf.predict_proba(other.tocsr()), clf.predict_proba(X))


def test_rows_of_any_kind_are_predicted_alike(fitted):
    clf, X, _ = fitted
    expected = clf.predict_proba(X)
    for rows in (X.tocsc(), X.tocoo(), X.astype(np.float64), sparse.csr_array(X)):
        np.testing.assert_array_equal(clf.predict_proba(rows), expected)
    np.testing.assert_allclose(clf.predict_proba(X.toarray()), expected, atol=1e-6)
    with torch.no_grad():
        logits = clf.module_.eval()(dense(X))
    np.testing.assert_allclose(logits.softmax(dim=1), expected, atol=1e-6)


def test_fits_repeat_and_pickles_and_files_predict_the_same(fitted, tmp_path):
    clf, X, y = fitted
    expected = clf.predict_proba(X)
    clf.save(tmp_path / "text.sknoisy")
    again = [ALRClassifier(**FAST).fit(X, y), pickle.loads(pickle.dumps(clf))]
    again.append(ALRClassifier.load(tmp_path / "text.sknoisy"))
    for other in again:
        np.testing.assert_array_equal(other.predict_proba(X), expected)


class Crash(Callback):
    def on_epoch_begin(self, net, **kwargs):
        if len(net.history) == 3:
            raise OSError("crash")


def test_a_resumed_fit_ends_as_if_nothing_had_happened(fitted, tmp_path, monkeypatch):
    clf, X, y = fitted
    resumed = ALRClassifier(**FAST, checkpoint_dir=tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("sknoisy.storage.checkpoint.Checkpoint.on_epoch_begin", Crash.on_epoch_begin)
        with pytest.raises(OSError, match="crash"):
            resumed.fit(X, y)
    resumed.fit(X, y)
    np.testing.assert_array_equal(resumed.predict_proba(X), clf.predict_proba(X))


@pytest.mark.slow
@pytest.mark.evidence
@pytest.mark.filterwarnings("ignore:Labels were left as given")
def test_halves_that_hold_other_columns_give_evidence():
    X, y = text()
    clf = ALRClassifier(**FAST).fit(X, y)
    assert clf.evidence_ is not None
    assert clf.score(X, y) > 0.9


@pytest.mark.slow
@pytest.mark.parametrize(
    "params",
    [
        {"class_weight": "balanced", "train_split": ValidSplit(3, stratified=True)},
        {"amp": "bf16"},
        {"amp": "fp16"},
        {"callbacks": [("clip", GradientNormClipping(1.0)), ("lr", LRScheduler())]},
        {"optimizer": torch.optim.SGD, "lr": 0.1, "optimizer__momentum": 0.9},
        {"optimizer__amsgrad": True},
        {"augment": lambda X: X + 0},
        {"module__hidden": ()},
    ],
)  # fmt: skip
def test_what_works_on_tables_works_on_text(params):
    X, y = text()
    params = {**FAST, "max_epochs": 10, **params}
    assert ALRClassifier(**params).fit(X, y).score(X, y) >= 0.9


@pytest.mark.slow
@pytest.mark.parametrize("params", [{}, {"neighbors": "all", "mixup_alpha": 0}])
def test_mixtures_of_neighbors_stay_sparse(params):
    seen = []

    class See(Callback):
        def on_grad_computed(self, net, named_parameters, **kwargs):
            seen.append(net.module_[0].weight.grad.is_sparse)

    X, y = text()
    own = {**FAST, "max_epochs": 20}
    del own["momentum"]
    mixing = {"mix_start": 2, "target_momentum": 0.5, "target_update_every": 1, **params}
    clf = SyntheticMixClassifier(**own, **mixing, callbacks=[See()]).fit(X, y)
    assert len(seen) == 20 * 4
    assert all(seen)
    assert clf.score(X, y) > 0.7


def test_trusted_rows_are_read_from_text():
    X, y = text()
    clf = MetaLabelNetClassifier(**FAST).fit(X, y, trusted=np.arange(len(y)) < 30)
    assert clf.score(X, y) > 0.9


def test_a_search_over_a_pipeline_of_hashed_words():
    words = [" ".join(f"w{c}" for c in row.indices) for row in text()[0]]
    pipeline = make_pipeline(HashingVectorizer(n_features=2**18), ALRClassifier(**FAST))
    grid = {"alrclassifier__lr": [0.01, 0.03]}
    search = GridSearchCV(pipeline, grid, cv=2).fit(words, text()[1])
    assert search.best_score_ > 0.7
