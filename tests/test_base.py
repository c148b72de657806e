"""The scikit-learn contract beyond scikit-learn's own checks, for every estimator."""

import copy
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from conftest import METHODS
from joblib import parallel_backend
from scipy import sparse
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import accuracy_score
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Callback, Checkpoint, EarlyStopping
from skorch.dataset import ValidSplit
from skorch.helper import predefined_split
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

FAST = {"max_epochs": 3, "module__hidden": 16, "random_state": 0}
# Three epochs are too few for some methods, and one wants trusted rows; they say so.
pytestmark = pytest.mark.filterwarnings(
    "ignore:No trusted rows:UserWarning",
    "ignore:max_epochs must:UserWarning",
    "ignore:target_momentum:UserWarning",
)


def soft(method, X, y, **params):
    return method(**{**FAST, **params}).fit(X, y).soft_labels_


@pytest.mark.slow
@pytest.mark.parametrize(
    "names",
    [
        np.array(["d", "a", "c", "b"]),
        np.array([7, -2, 100, 5]),
        np.array(["x", "a long one", "m", "é"], dtype=object),
    ],
)
def test_labels_of_any_type_train_alike(method, blobs, names):
    X, y, _ = blobs
    order = np.argsort(names)
    clf = method(**FAST).fit(X, names[order][y])
    np.testing.assert_array_equal(clf.classes_, names[order])
    np.testing.assert_array_equal(clf.soft_labels_, soft(method, X, y))
    assert set(clf.predict(X)) <= set(names)
    assert clf.predict(X).dtype == names.dtype


def test_boolean_labels(method, blobs):
    X, y, _ = blobs
    assert method(**FAST).fit(X, y > 1).predict(X).dtype == bool


@pytest.mark.slow
@pytest.mark.parametrize(
    "convert",
    [
        lambda X, path: X.tolist(),
        lambda X, path: pd.DataFrame(X, columns=list("abcdefghij")),
        lambda X, path: pl.DataFrame(X),
        lambda X, path: np.asfortranarray(X),
        lambda X, path: X[::-1].copy()[::-1],
        lambda X, path: np.memmap(save(X, path), X.dtype, "r", shape=X.shape),
        lambda X, path: np.memmap(save(X.T, path), X.dtype, "r", shape=X.shape, order="F"),
        lambda X, path: torch.from_numpy(X),
        lambda X, path: frozen(X),
    ],
    ids=[
        "list",
        "pandas",
        "polars",
        "fortran",
        "negative-stride",
        "memmap",
        "memmap-fortran",
        "tensor",
        "read-only",
    ],
)
def test_any_container_trains_alike(method, blobs, convert, tmp_path):
    X, y, _ = blobs
    X = X.astype(np.float64) / 3  # which float32 rounds
    clf = method(**FAST).fit(convert(X, tmp_path / "X"), y)
    whole = method(**FAST).fit(X, y)
    np.testing.assert_array_equal(clf.soft_labels_, whole.soft_labels_)
    proba = clf.predict_proba(convert(X, tmp_path / "X"))
    np.testing.assert_array_equal(proba, whole.predict_proba(X))


def test_float32_numbers_train_alike_as_float64_and_in_a_dataset(method, blobs):
    X, y, _ = blobs
    expected = soft(method, X, y)
    pairs = TensorDataset(torch.from_numpy(X).double(), torch.from_numpy(y))
    np.testing.assert_array_equal(soft(method, X.astype(np.float64), y), expected)
    np.testing.assert_array_equal(soft(method, pairs, None), expected)


def save(X, path):
    np.ascontiguousarray(X).tofile(path)
    return path


def frozen(X):
    X = X.copy()
    X.flags.writeable = False
    return X


@pytest.mark.slow
def test_series_and_string_columns_as_labels(method, blobs):
    X, y, _ = blobs
    names = np.array(list("abcd"))[y]
    for labels in (pd.Series(names), pl.Series(names), pd.Series(names, dtype="category")):
        clf = method(**FAST).fit(X, labels)
        np.testing.assert_array_equal(clf.soft_labels_, soft(method, X, y))


def test_sparse_rows_equal_dense_rows(method, blobs):
    X, y, _ = blobs
    network = nn.Sequential(nn.Linear(10, 8), nn.ReLU(), nn.Linear(8, 4))
    params = {"module": network, "max_epochs": 3, "random_state": 0}
    X = np.where(np.abs(X) > 1, X, 0)
    dense = method(**params).fit(X, y)
    for convert in (sparse.csr_matrix, sparse.csr_array, sparse.coo_matrix):
        clf = method(**params).fit(convert(X), y)
        np.testing.assert_array_equal(clf.soft_labels_, dense.soft_labels_)
        np.testing.assert_array_equal(clf.predict_proba(convert(X)), dense.predict_proba(X))


@pytest.mark.slow
def test_tfidf_text_goes_straight_in(method):
    texts = [f"{a} {b} {c}" for a in ["the", "a", "my"] for b in ["cat", "dog"] for c in "mxyz"]
    y = ["dog" in text for text in texts]
    clf = make_pipeline(
        TfidfVectorizer(token_pattern=r"\w+"),
        method(random_state=0, lr=0.01, batch_size=8, max_epochs=60),
    )
    assert accuracy_score(y, clf.fit(texts, y).predict(texts)) == 1


def test_images_with_a_module_of_ones_own(method):
    X = np.random.default_rng(0).normal(size=(64, 1, 8, 8))
    y = np.arange(64) % 3
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(144, 3))
    clf = method(module, max_epochs=2, random_state=0).fit(X, y)
    assert clf.predict_proba(X).shape == (64, 3)


@pytest.mark.slow
def test_grid_search_over_every_kind_of_parameter(method, blobs):
    X, y, _ = blobs
    name = method.__name__.lower()
    own = sorted(set(method._get_param_names()) & {"warmup_epochs"})
    grid = {
        f"{name}__lr": [0.01],
        f"{name}__module__hidden": [8, (8, 8)],
        f"{name}__optimizer__weight_decay": [0.1],
        **{f"{name}__{p}": [1] for p in own},
    }
    pipeline = make_pipeline(StandardScaler(), method(**FAST))
    searches = [GridSearchCV(pipeline, grid, cv=2, n_jobs=n).fit(X, y) for n in (1, 2)]
    results = [search.cv_results_["mean_test_score"] for search in searches]
    np.testing.assert_array_equal(*results)
    best = searches[0].best_estimator_[-1]
    assert best.lr == 0.01
    assert best.module_[1].out_features == 8


def test_routing_switched_on_changes_nothing(method, blobs):
    X, y, _ = blobs
    with config_context(enable_metadata_routing=True):
        pipeline = make_pipeline(StandardScaler(), method(**FAST))
        assert cross_val_predict(pipeline, X, y, cv=2, method="predict_proba").shape == (600, 4)


@pytest.mark.slow
def test_threads_give_the_serial_result(method, blobs):
    X, y, _ = blobs
    clf = method(**FAST)
    serial = cross_val_predict(clf, X, y, cv=4)
    with parallel_backend("threading"):
        np.testing.assert_array_equal(cross_val_predict(clf, X, y, cv=4, n_jobs=4), serial)


def test_clone_and_set_params_know_dunder_parameters(method):
    clf = method(module__hidden=7, optimizer__weight_decay=0.1)
    assert clone(clf).get_params() == clf.get_params()
    clf.set_params(module__hidden=9, iterator_train__num_workers=0, lr=0.5)
    params = clf.get_params()
    assert (params["module__hidden"], params["iterator_train__num_workers"]) == (9, 0)
    assert (params["optimizer__weight_decay"], clf.lr) == (0.1, 0.5)
    assert clone(clf).get_params() == params
    assert "module__hidden=9" in repr(clf)
    assert "module__hidden" in clf._repr_html_()


def test_set_params_leaves_a_shallow_copy_alone(method):
    first = method(module__hidden=7)
    copy.copy(first).set_params(module__hidden=9)
    assert first.get_params()["module__hidden"] == 7


def test_a_failed_first_fit_leaves_nothing(method, blobs):
    X, y, _ = blobs
    clf = method(lr=-1)
    before = set(vars(clf))
    with pytest.raises(ValueError, match="lr == -1"):
        clf.fit(X, y)
    with pytest.raises(ValueError, match="must process batches"):
        clf.set_params(lr=0.1, module=nn.Linear(3, 4)).fit(X, y)
    assert set(vars(clf)) == before


def test_pickle_predicts_the_same(method, blobs):
    X, y, _ = blobs
    clf = method(**FAST).fit(X, y)
    twin = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(twin.predict_proba(X), clf.predict_proba(X))
    np.testing.assert_array_equal(twin.soft_labels_, clf.soft_labels_)
    np.testing.assert_array_equal(twin.fit(X, y).soft_labels_, clf.soft_labels_)


def test_random_state_decides_everything_and_global_generators_stay(method, blobs):
    X, y, _ = blobs
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    states = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    params = {**FAST, "module__dropout": 0.5}
    first = method(**params).fit(X, y).soft_labels_
    assert torch.equal(torch.get_rng_state(), states[0])
    np.testing.assert_array_equal(np.random.get_state()[1], states[1])  # noqa: NPY002
    torch.manual_seed(2)
    clf = method(**params).fit(X, y)
    np.testing.assert_array_equal(clf.soft_labels_, first)
    assert (soft(method, X, y, random_state=1) != first).any()
    state = torch.get_rng_state()
    clf.predict_proba(X)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_users_module_and_data_stay_untouched(method, blobs):
    X, y, _ = blobs
    first = nn.Linear(10, 4)
    before, data = first.weight.clone(), X.copy()
    method(nn.Sequential(first, nn.Linear(4, 4)), max_epochs=2).fit(X, y)
    assert torch.equal(first.weight, before)
    np.testing.assert_array_equal(X, data)


@pytest.mark.filterwarnings("ignore:Training ended with epoch 1 of")
def test_skorch_callbacks_and_their_parameters(method, blobs):
    X, y, _ = blobs

    class Stop(Callback):
        def __init__(self, after=2):
            self.after = after

        def on_epoch_end(self, net, **kwargs):
            if len(net.history) == self.after:
                raise KeyboardInterrupt

    clf = method(**FAST, callbacks=[("stop", Stop)], callbacks__stop__after=1).fit(X, y)
    assert clf.n_iter_ == len(clf.history_) == 1


@pytest.mark.parametrize("split", [ValidSplit(5, stratified=True), ValidSplit(0.25)])
def test_train_split_sees_labels_not_row_numbers(method, blobs, split):
    X, y, _ = blobs
    clf = method(**FAST, train_split=split, callbacks=[EarlyStopping(load_best=True)]).fit(X, y)
    assert "valid_loss" in clf.history_[-1]
    np.testing.assert_allclose(clf.soft_labels_.sum(1), 1, atol=1e-5)


def test_verbose_prints_a_line_an_epoch(method, blobs, capsys):
    X, y, _ = blobs
    method(**FAST, verbose=1).fit(X, y)
    assert "train_loss" in capsys.readouterr().out
    method(**FAST).fit(X, y)
    assert not capsys.readouterr().out


def bad_y(y, value):
    y = y.astype(float)
    y[3] = value
    return y


BAD_DATA = {
    "nan": (lambda X, y: (np.where(X > 2, np.nan, X), y), "NaN"),
    "inf": (lambda X, y: (np.where(X > 2, np.inf, X), y), "infinity"),
    "1-D": (lambda X, y: (X[:, 0], y), "Expected 2D array, got 1D"),
    "complex": (lambda X, y: (X + 1j, y), "Complex data not supported"),
    "object": (lambda X, y: (pd.DataFrame(X).add_prefix("f").assign(a="red"), y), "numbers only"),
    "empty": (lambda X, y: (X[:0], y[:0]), "0 sample"),
    "no feature": (lambda X, y: (X[:, :0], y), r"0 feature\(s\)"),
    "lengths": (lambda X, y: (X, y[:-1]), "inconsistent numbers of samples"),
    "one class": (lambda X, y: (X, np.full(len(y), "yes")), "2 classes, got 1 class: 'yes'"),
    "continuous": (lambda X, y: (X, y + 0.5 * X[:, 0]), "continuous"),
    "nan in y": (lambda X, y: (X, bad_y(y, np.nan)), "y must hold labels .* got nan in row 3"),
    "none in y": (
        lambda X, y: (X, [*list("ab" * 300)[1:], None]),
        "y must hold labels of one type",
    ),
    "mixed y": (lambda X, y: (X, np.array(["a", 1] * 300, object)), "y must hold labels of one"),
    "2 columns": (lambda X, y: (X, np.stack([y, y + 1], 1)), "y should be a 1d .*CrowdLabels"),
    "one-hot": (lambda X, y: (X, np.eye(y.max() + 1)[y]), "should be a 1d .*label_proba=y instead"),
    "dates": (
        lambda X, y: (
            pd.DataFrame(X).add_prefix("f").assign(d=pd.Timestamp("2026-01-01")),
            y,
        ),
        r"numbers only, got dates or times in \['d'\]; leave them out",
    ),
    "5-D": (lambda X, y: (X.reshape(600, 1, 1, 2, 5), y), "neither a table nor images"),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", BAD_DATA)
def test_bad_data_is_refused_and_the_earlier_fit_stays(method, blobs, case):
    X, y, _ = blobs
    names = [f"f{k}" for k in range(10)]
    clf = method(**FAST).fit(pd.DataFrame(X, columns=names), y)
    before = clf.predict_proba(pd.DataFrame(X, columns=names))
    spoil, message = BAD_DATA[case]
    with pytest.raises((ValueError, TypeError), match=message):
        clf.fit(*spoil(X, y))
    np.testing.assert_array_equal(clf.predict_proba(pd.DataFrame(X, columns=names)), before)
    assert list(clf.feature_names_in_) == names


def test_prediction_checks_its_input(method, blobs):
    X, y, _ = blobs
    with pytest.raises(ValueError, match="not fitted"):
        method().predict(X)
    with pytest.raises(AttributeError, match="not fitted"):
        _ = method().soft_labels_
    clf = method(**FAST).fit(X, y)
    with pytest.raises(ValueError, match="X has 9 features, but .* is expecting 10"):
        clf.predict(X[:, :9])
    with pytest.raises(ValueError, match="NaN"):
        clf.predict(np.full_like(X, np.nan))


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("module_hidden", "did you mean module__hidden"),
        ("optimizer_weight_decay", "did you mean optimizer__weight_decay"),
        ("warmup_epoch", "did you mean warmup_epochs"),
        ("iterator_train_num_workers", "did you mean iterator_train__num_workers"),
        ("modul__hidden", "did you mean module__hidden"),
        ("hidden", "did you mean module__hidden"),
        ("n_iter_no_change", "did you mean .*EarlyStopping"),
        ("zzz", "valid names: "),
        ("learning_rate", "did you mean lr"),
        ("hidden_layer_sizes", "did you mean module__hidden"),
        ("early_stopping", "did you mean .*EarlyStopping"),
        ("warm_start", "did you mean checkpoint_dir"),
        ("max_iter", "did you mean max_epochs"),
    ],
)
def test_unknown_keyword_names_the_nearest(method, name, hint):
    with pytest.raises(TypeError, match=f"has no parameter {name}: {hint}"):
        method(**{name: 1})
    with pytest.raises(TypeError, match=f"has no parameter {name}: {hint}"):
        method().set_params(**{name: 1})


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"lr": 0.0}, "lr == 0.0, must be > 0"),
        ({"lr": float("inf")}, "lr must be finite"),
        ({"max_epochs": 0}, "max_epochs == 0, must be >= 1"),
        ({"batch_size": 0}, "batch_size == 0, must be >= 1"),
        ({"max_epochs": 1.5}, "max_epochs must be an instance of int"),
        ({"module__hiden": 3}, "did you mean module__hidden"),
        ({"module": 3}, "module must be None, a name of a torchvision model, .* got 3"),
        ({"train_split": predefined_split(TensorDataset(torch.ones(2)))}, "rows"),
        ({"skorch_params": 1}, "skorch_params"),
        ({"evidence": "yes"}, "evidence must be True or False, got 'yes'"),
        ({"optimizer": "adam"}, "optimizer must be a class of torch.optim, got 'adam'"),
        ({"train_split": 5}, "train_split must be None, skorch"),
        ({"callbacks": EarlyStopping()}, "callbacks must be None or a list"),
        ({"callbacks": ["early"]}, "callbacks must hold skorch callbacks, .* got 'early'"),
        ({"module__hidden": 0}, "module__hidden must hold integers of at least 1, got 0"),
        ({"module__hidden": None}, "module__hidden must hold integers of at least 1, got None"),
        ({"device": "gpu"}, "device must be 'auto', 'cpu', 'cuda', 'mps' or alike, got 'gpu'"),
        ({"iterator_train__drop_last": True, "batch_size": 700}, "batch_size must be at most"),
    ],
)
def test_bad_parameters_are_named_before_training(method, blobs, params, message):
    X, y, _ = blobs
    with pytest.raises((ValueError, TypeError), match=message):
        method(**{**FAST, **params}).fit(X, y)


@pytest.mark.parametrize(
    ("name", "out"),
    [
        ("eval_set", ".*train_split=skorch.helper.predefined_split"),
        ("sample_weights", "did you mean sample_weight"),
        ("zzz", "it takes X, y, sample_weight"),
    ],
)
@pytest.mark.parametrize("method", METHODS[:3])
def test_what_fit_does_not_take_is_answered(method, name, out):
    with pytest.raises(TypeError, match=rf"{method.__name__}\.fit has no parameter {name}: {out}"):
        method().fit(np.eye(4), [0, 1, 0, 1], **{name: 1})


def test_what_another_method_takes_is_told():
    with pytest.raises(TypeError, match="fit has no parameter trusted: MetaLabelNetClassifier.fit"):
        METHODS[0]().fit(np.eye(4), [0, 1, 0, 1], trusted=[True, False, True, True])


def test_a_network_without_a_free_parameter_is_refused(method, blobs):
    X, y, _ = blobs
    with pytest.raises(ValueError, match="module must have parameters to train, got none"):
        method(nn.Linear(10, 4).requires_grad_(False), max_epochs=2).fit(X, y)


def test_whole_set_as_one_batch(method, blobs):
    X, y, _ = blobs
    clf = method(**FAST, batch_size=-1).fit(X, y)
    assert clf.history_[-1, "train_batch_count"] == 1


def test_soft_labels_are_read_only(method, blobs):
    X, y, _ = blobs
    with pytest.raises(ValueError, match="read-only"):
        method(**FAST).fit(X, y).soft_labels_[0] = 0


def test_divergence_warns(method, blobs):
    X, y, _ = blobs
    with pytest.warns(ConvergenceWarning, match="Lower lr=1e\\+30"):
        method(**FAST, optimizer=torch.optim.SGD, lr=1e30).fit(X, y)


def test_rows_of_another_shape_are_refused_at_prediction(method):
    X = np.random.default_rng(0).normal(size=(20, 2, 3, 3))
    module = nn.Sequential(nn.Flatten(), nn.Linear(18, 8), nn.Linear(8, 2))
    clf = method(module, max_epochs=2).fit(X, np.arange(20) % 2)
    with pytest.raises(ValueError, match=r"rows of shape \(2, 3, 3\), as in fit, got \(2, 2, 2\)"):
        clf.predict(X[:, :, :2, :2])


def test_nets_can_be_pickled_while_they_train(method, blobs, tmp_path):
    X, y, _ = blobs
    checkpoint = Checkpoint(dirname=tmp_path, f_pickle="net.pkl", monitor=None)
    method(**FAST, callbacks=[checkpoint]).fit(X, y)
    assert (tmp_path / "net.pkl").exists()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Training ended with epoch")
def test_restored_best_weights_label_the_held_out_rows(method, blobs):
    X, y, _ = blobs
    stop = EarlyStopping(patience=3, load_best=True, threshold=0)
    params = {**FAST, "max_epochs": 12, "lr": 0.3}
    clf = method(**params, train_split=ValidSplit(4), callbacks=[stop]).fit(X, y)
    _, held_out = clf.net_.get_split_datasets(X, np.arange(len(X)))
    rows = held_out.indices
    np.testing.assert_allclose(clf.soft_labels_[rows], clf.predict_proba(X[rows]), atol=1e-6)


@pytest.mark.slow
def test_wide_rows_are_predicted_in_smaller_batches(method):
    X = sparse.random(60, 100_000, density=1e-4, format="csr", dtype=np.float32, random_state=0)
    module = nn.Sequential(nn.Linear(100_000, 4), nn.Linear(4, 2))
    clf = method(module, max_epochs=2, batch_size=50)
    clf.fit(X, np.arange(60) % 2)
    assert clf.net_.get_params()["iterator_valid__batch_size"] == 50


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            lambda X: DataLoader(TensorDataset(torch.from_numpy(X)), 8),
            "got DataLoader; pass",
        ),
        (lambda X: {"a": X}, "got dict; pass one array"),
        (lambda X: "folder/of/images", "got str; read it first"),
        (lambda X: Path("folder"), "got PosixPath; read it first"),
    ],
)
def test_what_is_no_set_of_rows_is_named(method, blobs, rows, message):
    X, y, _ = blobs
    for call in (lambda: method(**FAST).fit(rows(X)), lambda: method(**FAST).fit(rows(X), y)):
        with pytest.raises(TypeError, match=message):
            call()
    with pytest.raises(TypeError, match=message):
        method(**FAST).fit(X, y).predict(rows(X))


@pytest.mark.parametrize("params", [{"train_split": ValidSplit(4)}, {}])
def test_a_sampler_of_other_rows_is_refused(method, blobs, params):
    X, y, _ = blobs
    sampler = WeightedRandomSampler(torch.ones(600), 600)
    clf = method(**FAST, iterator_train__sampler=sampler, **params)
    n_rows = 450 if params else 300
    with pytest.raises(ValueError, match=f"sampler must draw from.*there are {n_rows}, got row"):
        clf.fit(X[: 600 if params else 300], y[: 600 if params else 300])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
def test_an_instance_that_keeps_results_can_be_searched(method, blobs):
    X, y, _ = blobs
    module = nn.Sequential(nn.utils.weight_norm(nn.Linear(10, 8)), nn.ReLU(), nn.Linear(8, 4))
    module(torch.zeros(1, 10))
    search = GridSearchCV(method(module, max_epochs=3), {"lr": [0.001, 0.01]}, cv=2)
    search.fit(X, y)
    assert search.best_estimator_.module is not module
