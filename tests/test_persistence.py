"""Files of fitted estimators: the same predictions, no code, damage is told."""

import json
import pickle
import random
import subprocess
import sys
from contextlib import suppress
from functools import partial

import numpy as np
import pytest
import torch
from conftest import METHODS
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import make_blobs
from skorch.callbacks import EarlyStopping
from torch import nn

from sknoisy import ALRClassifier, MetaLabelNetClassifier
from sknoisy.storage.file_format import FORMAT, read_file, write_file

pytest.importorskip("safetensors", reason="save and load need safetensors")
pytestmark = pytest.mark.filterwarnings("ignore:No trusted rows:UserWarning")
X, Y = make_blobs(120, 3, centers=3, random_state=0)


class OwnNet(nn.Module):
    def __init__(self, n_features, n_classes, width=8, activation=nn.Tanh):
        super().__init__()
        self.norm = nn.BatchNorm1d(n_features)
        self.first = nn.Linear(n_features, width)
        self.activation = activation()
        self.last = nn.Linear(width, n_classes)

    def forward(self, X):
        return self.last(self.activation(self.first(self.norm(X))))


def fit(method, y=Y, **params):
    return method(max_epochs=20, random_state=0, **params).fit(X, y)


def assert_same(clf, loaded, rows=X):
    assert type(loaded) is type(clf)
    np.testing.assert_array_equal(clf.predict_proba(rows), loaded.predict_proba(rows))
    np.testing.assert_array_equal(clf.predict(rows), loaded.predict(rows))
    assert clf.classes_.dtype == loaded.classes_.dtype
    for name in (
        "soft_labels_",
        "given_labels_",
        "n_iter_",
        "warmup_epochs_",
        "n_features_in_",
        "momentum_",
        "n_neighbors_",
        "max_noise_rate_",
        "hypergradient_",
        "best_epoch_",
        "n_meta_",
        "agreement_",
    ):
        if hasattr(clf, name):
            np.testing.assert_array_equal(getattr(clf, name), getattr(loaded, name))
    assert list(clf.history_) == list(loaded.history_)
    for name in ("clean_probability_", "best_epoch_", "n_meta_", "hypergradient_"):
        if hasattr(clf, name):
            assert np.array_equal(getattr(clf, name), getattr(loaded, name))
    if hasattr(clf, "label_net_"):
        assert torch.equal(clf.label_net_.weight, loaded.label_net_.weight)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "names",
    [
        np.array(["x", "yy", "ä"]),
        np.array(["b", "a", "c"], dtype=object),
        np.array([3, 1, -2], dtype=np.int16),
        np.array([0.5, 1.5, 2.5]) * 2,
        np.array(["2020-01-01", "2021-01-01", "2022-01-01"], dtype="datetime64[D]").astype(str),
    ],
)
def test_a_loaded_estimator_is_the_same(method, names, tmp_path):
    clf = fit(method, names[Y])
    clf.save(tmp_path / "clf.safetensors")
    loaded = method.load(tmp_path / "clf.safetensors")
    assert_same(clf, loaded)
    assert clf.get_params() == loaded.get_params()
    again = clone(loaded).fit(X, names[Y])
    np.testing.assert_array_equal(clf.predict_proba(X), again.predict_proba(X))
    assert len(loaded.label_issues()) == len(clf.label_issues())


@pytest.mark.slow
def test_another_process_predicts_the_same(tmp_path):
    clf = fit(ALRClassifier, class_weight={0: 1.0, 1: 2.0, 2: 1.0})
    clf.save(tmp_path / "a")
    np.save(tmp_path / "X.npy", X)
    code = (
        "import sys, numpy as np, torch; torch.set_num_threads(1)\n"
        "from sknoisy import ALRClassifier\n"
        "clf = ALRClassifier.load(sys.argv[1] + '/a')\n"
        "np.save(sys.argv[1] + '/p.npy', clf.predict_proba(np.load(sys.argv[1] + '/X.npy')))"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "p.npy"), clf.predict_proba(X))


@pytest.mark.slow
@pytest.mark.parametrize("module", [None, "resnet18"])
def test_images(module, tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (24, 1, 8, 8), dtype=np.uint8)
    clf = ALRClassifier(module, max_epochs=1, warmup_epochs=0, random_state=0)
    clf.fit(images, np.arange(24) % 2).save(tmp_path / "clf")
    assert_same(clf, ALRClassifier.load(tmp_path / "clf"), images)
    with pytest.raises(ValueError, match="X must hold uint8 images as in fit"):
        ALRClassifier.load(tmp_path / "clf").predict(images.astype(np.float32))


def test_sparse_rows_names_and_tuples(tmp_path):
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame(X, columns=["a", "b", "c"])
    clf = ALRClassifier(max_epochs=5, warmup_epochs=1, module__hidden=(8, 4), random_state=0)
    clf.fit(table, Y).save(tmp_path / "clf")
    loaded = ALRClassifier.load(tmp_path / "clf")
    assert loaded.feature_names_in_.tolist() == ["a", "b", "c"]
    assert loaded.get_params()["module__hidden"] == (8, 4)
    assert_same(clf, loaded, table)
    with pytest.raises(ValueError, match="feature names"):
        loaded.predict(table.rename(columns={"a": "z"}))


@pytest.mark.parametrize(("columns", "share"), [(40, 0.1), (1000, 0.5)])
def test_a_network_that_drops_inputs_by_the_table_it_was_fitted_to(columns, share, tmp_path):
    rng = np.random.default_rng(0)
    rows = sparse.random(60, columns, density=0.2, format="csr", dtype=np.float32, rng=rng)
    clf = ALRClassifier(max_epochs=2, random_state=0).fit(rows, np.arange(60) % 2)
    clf.save(tmp_path / "clf")
    loaded = ALRClassifier.load(tmp_path / "clf")
    assert_same(clf, loaded, rows)
    assert [clf.module_[1].p, loaded.module_[1].p] == [share, share]


class OwnDropout(OwnNet):
    def __init__(self, n_features, n_classes):
        super().__init__(n_features, n_classes)
        self.input_dropout = nn.Dropout(0.2)


def test_what_decides_the_inputs_dropped_may_be_anything_that_works(tmp_path):
    fit(ALRClassifier, module=OwnDropout).save(tmp_path / "own")
    loaded = ALRClassifier.load(tmp_path / "own", allow=[OwnDropout])
    assert isinstance(loaded.module_.input_dropout, nn.Dropout)
    clf = fit(ALRClassifier, module__input_dropout=np.float32(0.25))
    clf.save(tmp_path / "numpy")
    assert_same(clf, ALRClassifier.load(tmp_path / "numpy"))


def test_own_modules_must_be_allowed(tmp_path):
    clf = fit(ALRClassifier, module=OwnNet, module__width=5, module__activation=nn.ReLU)
    clf.save(tmp_path / "clf")
    with pytest.raises(ValueError, match=r"asks for '.*OwnNet'; if you trust that, pass allow="):
        ALRClassifier.load(tmp_path / "clf")
    assert_same(clf, ALRClassifier.load(tmp_path / "clf", allow=[OwnNet]))
    path = f"{OwnNet.__module__}.OwnNet"
    assert_same(clf, ALRClassifier.load(tmp_path / "clf", allow=[path]))
    with pytest.raises(ValueError, match="allow must hold import paths, got 'no.such.Net'"):
        ALRClassifier.load(tmp_path / "clf", allow=["no.such.Net"])


@pytest.mark.slow
@pytest.mark.parametrize(
    "asked", ["os.system", "builtins.eval", "torch.optim.os", "torch.nn.utils.os", "subprocess.run"]
)
def test_a_file_that_asks_for_anything_else_is_refused(asked, tmp_path):
    path = tmp_path / "clf"
    fit(ALRClassifier).save(path)
    document, tensors = read_file(path)
    document["params"]["module"] = {"import": asked}
    document["params"]["module__command"] = "touch ran"
    write_file(path, document, tensors)
    with pytest.raises(ValueError, match=f"it asks for '{asked}'"):
        ALRClassifier.load(path)


@pytest.mark.parametrize(
    "module", [OwnNet(3, 3), partial(OwnNet, width=4), lambda n_features, n_classes: OwnNet(3, 3)]
)
def test_a_module_without_an_import_path_is_refused(module, tmp_path):
    clf = fit(ALRClassifier, module=module)
    with pytest.raises(TypeError, match="module must be importable to be saved"):
        clf.save(tmp_path / "clf")
    assert not list(tmp_path.iterdir())


def test_what_has_no_json_form_is_left_out_with_a_warning(tmp_path):
    clf = ALRClassifier(
        max_epochs=5,
        callbacks=[("stop", EarlyStopping(monitor="train_loss"))],
        callbacks__stop__patience=4,
        random_state=np.random.RandomState(0),
    ).fit(X, Y)
    with pytest.warns(UserWarning, match="callbacks, .*callbacks__stop__patience"):
        clf.save(tmp_path / "clf")
    loaded = ALRClassifier.load(tmp_path / "clf")
    assert loaded.callbacks is None
    assert loaded.random_state is None
    np.testing.assert_array_equal(clf.predict_proba(X), loaded.predict_proba(X))


def test_another_estimator_and_a_newer_format_are_refused(tmp_path):
    path = tmp_path / "clf"
    fit(ALRClassifier).save(path)
    with pytest.raises(ValueError, match=r"of ALRClassifier; call ALRClassifier\.load"):
        MetaLabelNetClassifier.load(path)
    document, tensors = read_file(path)
    write_file(path, {**document, "format": FORMAT + 1}, tensors)
    with pytest.raises(ValueError, match=f"must be a file of format {FORMAT} or older"):
        ALRClassifier.load(path)


def damaged(content, rng):
    """Return the bytes cut, with bits flipped, bytes overwritten, or some of them taken out."""
    kind, changed = rng.randrange(4), bytearray(content)
    # The header is short beside the numbers: half of the damage goes there.
    end = rng.choice([len(changed), 8 + int.from_bytes(changed[:8], "little")])
    place = rng.randrange(end)
    if kind == 0:
        return bytes(changed[:place])
    if kind == 1:
        for _ in range(rng.randint(1, 4)):
            changed[rng.randrange(end)] ^= 1 << rng.randrange(8)
    elif kind == 2:
        length = rng.randint(1, 64)
        changed[place : place + length] = rng.randbytes(length)
    else:
        del changed[place : place + rng.randint(1, 64)]
    return bytes(changed)


def test_a_thousand_damaged_files_are_a_thousand_clear_errors(tmp_path):
    path = tmp_path / "clf"
    fit(MetaLabelNetClassifier, module__hidden=8).save(path)
    content, rng = path.read_bytes(), random.Random(0)
    for _ in range(1000):
        changed = damaged(content, rng)
        if changed == content:
            continue
        path.write_bytes(changed)
        with pytest.raises(ValueError, match="path must be a file that save wrote"):
            MetaLabelNetClassifier.load(path)


@pytest.mark.slow
def test_a_document_whose_digest_is_right_but_whose_content_is_not(tmp_path):
    path = tmp_path / "clf"
    fit(ALRClassifier, module__hidden=8).save(path)
    document, tensors = read_file(path)
    rng = random.Random(0)
    for key in document:
        for value in (None, {}, [], "x", -1, [[]], {"import": "os.system"}, {"dtype": "O"}):
            if key == "format" and value == -1:
                continue
            write_file(path, {**document, key: value}, tensors)
            with suppress(ValueError):
                ALRClassifier.load(path)
    for name in rng.sample(sorted(tensors), len(tensors)):
        fewer = {k: v for k, v in tensors.items() if k != name}
        write_file(path, document, fewer)
        if name == "criterion.given":
            continue
        with pytest.raises(ValueError, match="cannot be loaded"):
            ALRClassifier.load(path)


@pytest.mark.parametrize("content", [b"", b"{}", pickle.dumps(print), json.dumps({}).encode()])
def test_other_files_are_refused(content, tmp_path):
    path = tmp_path / "clf"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="path must be a file that save wrote, whole"):
        ALRClassifier.load(path)


def test_a_missing_file_and_an_unfitted_estimator(tmp_path):
    with pytest.raises(FileNotFoundError):
        ALRClassifier.load(tmp_path / "nothing")
    with pytest.raises(AttributeError, match="not fitted yet"):
        ALRClassifier().save(tmp_path / "clf")


def test_a_file_is_replaced_once_the_new_one_is_whole(tmp_path, monkeypatch):
    path = tmp_path / "clf"
    clf = fit(ALRClassifier)
    clf.save(path)

    def fail(*args):
        raise OSError("no space left")

    monkeypatch.setattr("sknoisy.storage.atomic.os.replace", fail)
    with pytest.raises(OSError, match="no space left"):
        fit(ALRClassifier, lr=0.1).save(path)
    monkeypatch.undo()
    assert [file.name for file in tmp_path.iterdir()] == ["clf"]
    assert_same(clf, ALRClassifier.load(path))


@pytest.mark.slow
def test_a_compiled_network(tmp_path):
    clf = ALRClassifier(max_epochs=3, warmup_epochs=1, compile=True, compile__backend="eager")
    clf.fit(X, Y)
    with pytest.warns(UserWarning, match="save leaves out compile, .*compile__backend"):
        clf.save(tmp_path / "clf")
    loaded = ALRClassifier.load(tmp_path / "clf")
    assert loaded.compile is False
    np.testing.assert_array_equal(clf.predict_proba(X), loaded.predict_proba(X))


@pytest.mark.slow
@pytest.mark.parametrize(
    "param",
    ["compile", "compile__options", "iterator_valid__num_workers", "checkpoint_dir", "callbacks"],
)
def test_a_file_starts_no_compiler_no_process_and_writes_no_file(param, tmp_path):
    path = tmp_path / "clf"
    fit(ALRClassifier).save(path)
    document, tensors = read_file(path)
    document["params"][param] = 3
    write_file(path, document, tensors)
    with pytest.raises(ValueError, match=f"sets no {param}"):
        ALRClassifier.load(path)


def test_numbers_of_numpy(tmp_path):
    clf = ALRClassifier(max_epochs=np.int64(6), warmup_epochs=np.int64(3), lr=np.float64(0.01))
    clf.fit(X, Y).save(tmp_path / "clf")
    assert ALRClassifier.load(tmp_path / "clf").warmup_epochs_ == 3


def test_a_class_from_a_notebook_is_mapped(tmp_path):
    clf = fit(ALRClassifier, module=OwnNet)
    clf.save(tmp_path / "clf")
    document, tensors = read_file(tmp_path / "clf")
    document["params"]["module"] = {"import": "__main__.Net"}
    write_file(tmp_path / "clf", document, tensors)
    with pytest.raises(ValueError, match=r"allow=\{'__main__.Net': Net\} with one"):
        ALRClassifier.load(tmp_path / "clf", allow=OwnNet)
    assert_same(clf, ALRClassifier.load(tmp_path / "clf", allow={"__main__.Net": OwnNet}))


@pytest.mark.parametrize("document", [[1], "x", {"format": 9, "versions": 3}, 7, None])
def test_other_documents_are_refused(document, tmp_path):
    write_file(tmp_path / "clf", document, {})
    with pytest.raises(ValueError, match="path must be a file"):
        ALRClassifier.load(tmp_path / "clf")


def test_paths_that_cannot_be_written_are_named(tmp_path):
    for path in (tmp_path, tmp_path / "nowhere" / "clf"):
        with pytest.raises(OSError, match="path must be a file to write, got"):
            fit(ALRClassifier).save(path)
