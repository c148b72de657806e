"""ONNX files: onnxruntime returns what the estimator does."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.datasets import make_blobs
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler
from torch import nn

from sknoisy import ALRClassifier, MetaLabelNetClassifier
from sknoisy.export import to_onnx
from sknoisy.export.onnx_file import Prediction
from sknoisy.export.scalers import as_layer

pytest.importorskip("onnxscript", reason="to_onnx needs onnx and onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.filterwarnings("ignore:No trusted rows", "ignore:target_momentum")

RNG = np.random.default_rng(0)
X, Y = make_blobs(90, 3, centers=3, random_state=0)
X = X.astype(np.float32)
PIXELS = RNG.integers(0, 256, (40, 8, 8), dtype=np.uint8)
OF_PIXELS = np.arange(40) % 3


def fit(method, rows=X, y=Y, **params):
    params = {"max_epochs": 2, "warmup_epochs": 1, "random_state": 0, **params}
    return method(**params).fit(rows, y)


def assert_runs_alike(estimator, rows, path):
    to_onnx(estimator, path)
    session = onnxruntime.InferenceSession(path)
    for batch in (rows, rows[:1], rows[:0]):
        found = session.run(["label", "probabilities"], {"X": batch})
        if len(batch):
            np.testing.assert_array_equal(found[0], estimator.predict(batch))
            np.testing.assert_allclose(found[1], estimator.predict_proba(batch), atol=1e-5)
    return session


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "names"),
    [
        (ALRClassifier, np.array(["x", "yy", "ä"], dtype=object)),
        (MetaLabelNetClassifier, np.array([7, -1, 5])),
    ],
)
def test_a_table(method, names, tmp_path):
    clf = fit(method, y=names[Y])
    clf.evidence_ = SimpleNamespace(temperature=2.5)
    assert_runs_alike(clf, X, tmp_path / "clf.onnx")


@pytest.mark.slow
def test_grayscale_images_of_uint8(tmp_path):
    clf = fit(ALRClassifier, PIXELS, OF_PIXELS)
    session = assert_runs_alike(clf, PIXELS, tmp_path / "clf.onnx")
    (given,) = session.get_inputs()
    assert (given.type, given.shape) == ("tensor(uint8)", ["n", 8, 8])


@pytest.mark.slow
def test_a_torchvision_model_on_floats(tmp_path):
    images = np.repeat(PIXELS[:, None], 3, axis=1).astype(np.float32) / 255
    clf = fit(ALRClassifier, images, OF_PIXELS, module="resnet18", max_epochs=1, warmup_epochs=0)
    assert_runs_alike(clf, images, tmp_path / "clf.onnx")


class OwnNet(nn.Module):
    """A module with dropout, BatchNorm and numbers in float64."""

    def __init__(self, n_features, n_classes):
        super().__init__()
        self.first = nn.Linear(n_features, 8).double()
        self.norm = nn.BatchNorm1d(8).double()
        self.dropout = nn.Dropout(0.5)
        self.last = nn.Linear(8, n_classes).double()

    def forward(self, X):
        return self.last(self.dropout(self.norm(self.first(X.double()).tanh())))


@pytest.mark.slow
def test_a_pipeline_of_a_scaler_and_an_own_module(tmp_path):
    rows = X * [1, 1e-3, 10] + [1.7e9, 0, -5]  # the first feature needs float64
    clf = ALRClassifier(OwnNet, max_epochs=2, warmup_epochs=1, random_state=0)
    pipeline = make_pipeline(make_pipeline(StandardScaler()), "passthrough", clf).fit(rows, Y)
    session = assert_runs_alike(pipeline, rows, tmp_path / "clf.onnx")
    assert session.get_inputs()[0].type == "tensor(double)"


@pytest.mark.parametrize(
    "scaler",
    [
        StandardScaler(),
        StandardScaler(with_mean=False),
        StandardScaler(with_std=False),
        MinMaxScaler((-1, 2)),
        MinMaxScaler(clip=True),
        MaxAbsScaler(),
        RobustScaler(),
        RobustScaler(with_centering=False),
        RobustScaler(with_scaling=False),
    ],
    ids=str,
)
def test_layers_scale_as_the_scalers_do(scaler):
    rows = RNG.normal([1e9, 0, 3], [1e-2, 1, 0], (50, 3))  # and a constant column
    scaler.fit(rows[:25])
    found = as_layer(scaler)(torch.from_numpy(rows)).numpy()
    np.testing.assert_allclose(found, scaler.transform(rows), rtol=1e-12, atol=1e-12)


@pytest.mark.skipif("clip" not in MaxAbsScaler().get_params(), reason="newer scikit-learn")
def test_so_does_a_clipping_max_abs_scaler():
    scaler = MaxAbsScaler(clip=True).fit(X[:9])
    found = as_layer(scaler)(torch.from_numpy(X)).numpy()
    np.testing.assert_allclose(found, scaler.transform(X), rtol=1e-6)


def assert_predicts_alike(clf, rows, seen=None):
    """Compare the module that is exported, without the detour through a file."""
    prediction = Prediction(clf, []).eval()
    seen = torch.from_numpy(rows if seen is None else seen)
    assert prediction.example().dtype == seen.dtype
    assert prediction.example().shape[1:] == seen.shape[1:]
    numbers, proba = prediction(seen)
    np.testing.assert_array_equal(clf.classes_[numbers], clf.predict(rows))
    np.testing.assert_allclose(proba.detach(), clf.predict_proba(rows), atol=1e-6)


@pytest.mark.parametrize("scale", [1, 255])
@pytest.mark.parametrize("has_channel", [False, True])
def test_images_are_seen_as_fit_sees_them(scale, has_channel):
    rows = PIXELS if scale == 1 else PIXELS.astype(np.float32) / scale
    rows = rows[:, None] if has_channel else rows
    assert_predicts_alike(fit(ALRClassifier, rows, OF_PIXELS), rows)


def test_so_are_images_of_a_module_that_knows_no_channels():
    class Flat(nn.Sequential):
        def __init__(self):
            super().__init__(nn.Flatten(), nn.Linear(64, 3))

    assert_predicts_alike(fit(ALRClassifier, PIXELS, OF_PIXELS, module=Flat), PIXELS)


def test_rows_that_were_sparse_are_dense():
    rows = X * (X > 0)
    clf = fit(ALRClassifier, sparse.csr_matrix(rows))
    assert_predicts_alike(clf, rows)


def test_a_classifier_from_a_file_is_exported_alike(tmp_path):
    pytest.importorskip("safetensors")
    fit(ALRClassifier, PIXELS, OF_PIXELS).save(tmp_path / "clf")
    assert_predicts_alike(ALRClassifier.load(tmp_path / "clf"), PIXELS)


def test_the_temperature_is_that_of_predict_proba():
    clf = fit(ALRClassifier)
    clf.evidence_ = SimpleNamespace(temperature=0.3)
    assert_predicts_alike(clf, X)
    assert_predicts_alike(clf.set_params(calibrate=False), X)


def test_exporting_leaves_the_classifier_as_it_was(tmp_path):
    clf = fit(ALRClassifier)
    before = clf.predict_proba(X)
    Prediction(clf, [])(torch.from_numpy(X))
    assert not clf.module_.training
    np.testing.assert_array_equal(clf.predict_proba(X), before)


class OwnOperator(nn.Linear):
    def __init__(self, n_features, n_classes):
        super().__init__(n_features, n_classes)

    def forward(self, X):
        return super().forward(X) + torch.linalg.eigvals(torch.eye(3) * X.mean()).real


class BranchesOnRows(OwnOperator):
    def forward(self, X):
        return nn.Linear.forward(self, X if len(X) > 5 else 2 * X)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "message"),
    [
        (OwnOperator, "the operator aten.linalg_eig, which ONNX lacks. Replace"),
        (BranchesOnRows, "any number of rows, got one whose operators for 2 rows are its own"),
    ],
)
def test_modules_that_onnx_has_no_form_of_are_refused(module, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        to_onnx(fit(ALRClassifier, module=module), tmp_path / "clf.onnx")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("estimator", "error", "message"),
    [
        (ALRClassifier(), NotFittedError, "not fitted"),
        (make_pipeline(StandardScaler(), ALRClassifier()), NotFittedError, "not fitted"),
        (LogisticRegression(), TypeError, "of this library.*got LogisticRegression"),
        (GridSearchCV(ALRClassifier(), {}), TypeError, "GridSearchCV.*best_estimator_"),
        (make_pipeline(PCA(), ALRClassifier()), TypeError, "MinMaxScaler.*got PCA; .*skl2onnx"),
    ],
)
def test_other_estimators_are_refused(estimator, error, message, tmp_path):
    with pytest.raises(error, match=message):
        to_onnx(estimator, tmp_path / "clf.onnx")


def test_a_subclass_of_a_scaler_may_do_something_else():
    class Doubled(StandardScaler):
        def transform(self, X):
            return 2 * super().transform(X)

    with pytest.raises(TypeError, match="got Doubled"):
        as_layer(Doubled().fit(X))


def test_labels_without_a_form_in_onnx_are_refused(tmp_path):
    clf = fit(ALRClassifier, y=np.array(["2020-01-01", "2021-01-01", "2022-01-01"], "M8[ns]")[Y])
    with pytest.raises(TypeError, match=r"classes_ must be .*, got datetime64\[ns\]; fit on"):
        to_onnx(clf, tmp_path / "clf.onnx")


@pytest.mark.parametrize("package", ["onnx", "onnxscript"])
def test_missing_packages_are_named(package, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=r'pip install "sknoisy\[onnx\]"'):
        to_onnx(fit(ALRClassifier), tmp_path / "clf.onnx")


@pytest.mark.slow
def test_a_table_that_float32_would_round_goes_in_as_float64(tmp_path):
    X = 1.7e9 + np.random.default_rng(0).uniform(0, 3600, (200, 2))
    clf = ALRClassifier(max_epochs=4, random_state=0).fit(X, X[:, 0] > X[:, 1])
    assert_runs_alike(clf, X, tmp_path / "clf.onnx")
