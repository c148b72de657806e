"""A linear model of the trusted rows, which judges networks that given labels misled."""

from dataclasses import replace
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
import torch
from scipy import sparse
from skorch.dataset import ValidSplit

from sknoisy import MetaLabelNetClassifier
from sknoisy.noise import symmetric_noise
from sknoisy.storage.checkpoint_folder import CheckpointFolder
from sknoisy.training import cross_fit
from sknoisy.training.evidence import Evidence
from sknoisy.training.noise_model import fit_noise_model
from sknoisy.training.trusted_linear import compare_with_linear, pooled

pytestmark = [pytest.mark.evidence, pytest.mark.slow]
TRUSTED = np.arange(400) < 60
CALM = {"max_epochs": 5, "batch_size": 32, "lr": 0.003, "module__hidden": 32, "random_state": 0}


@pytest.fixture(scope="module")
def data():
    """Rows of 6 columns, labels of a simpler model that sees one of them, and the true ones."""
    X = np.random.default_rng(0).standard_normal((800, 6)).astype(np.float32)
    return X, (X[:, 0] > 0).astype(int), (X[:, 0] + 2 * X[:, 1] > 0).astype(int)


def fitted(X, y, true, **params):
    n = 400
    y = np.where(TRUSTED, true[:n], y[:n])
    return MetaLabelNetClassifier(**CALM | params).fit(X[:n], y, trusted=TRUSTED)


def test_labels_of_a_simpler_model_are_left_out(data):
    X, y, true = data
    clf = fitted(X, y, true)
    found = clf.evidence_
    assert found.is_pooled
    assert found.is_corrected
    assert found.linear_gain > found.linear_gain_error
    assert clf.score(X[400:], true[400:]) > 0.9  # given labels agree with 0.65 of the true ones
    assert (clf.corrected_labels_ == true[:400]).mean() > 0.9
    assert found.noise_rate > 0.15
    assert not replace(found, above_chance=0.0).tells_nothing  # of given labels, which mislead
    assert "gain of a linear model of trusted rows" in str(found)
    assert "given ones were left out" in str(found)


def test_such_labels_begin_as_what_out_of_sample_predictions_say(data, monkeypatch):
    X, y, true = data
    tables, judge = [], Evidence.judge

    def spy(self, fit_data):
        tables.append(judge(self, fit_data).label_proba.numpy())
        return judge(self, fit_data)

    monkeypatch.setattr(Evidence, "judge", spy)
    clf = fitted(X, y, true)
    np.testing.assert_allclose(tables[0], clf.evidence_.proba, atol=1e-6)
    np.testing.assert_allclose(tables[0][:60], np.eye(2)[true[:60]], atol=1e-6)


@pytest.mark.filterwarnings("ignore:Labels were left as given")
def test_flipped_labels_are_kept_and_nothing_of_the_fit_changes(data):
    X = data[0]
    true = (np.abs(X[:, 0]) > 0.67).astype(int)  # no linear model knows
    y = symmetric_noise(true, 0.2, random_state=0)
    clf = fitted(X, y, true, max_epochs=12)
    assert not clf.evidence_.is_pooled
    with mock.patch.object(cross_fit, "compare_with_linear", return_value=None):
        alone = fitted(X, y, true, max_epochs=12)
    np.testing.assert_array_equal(clf.soft_labels_, alone.soft_labels_)
    np.testing.assert_array_equal(clf.predict_proba(X), alone.predict_proba(X))
    assert np.isnan(alone.evidence_.linear_gain)


def model_of(logits, given, known, labels):
    return fit_noise_model(
        torch.from_numpy(logits),
        torch.from_numpy(given),
        None,
        (torch.from_numpy(known), torch.from_numpy(labels)),
    )


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix])
def test_it_is_better_where_it_knows_more_and_not_where_nobody_knows(form, data):
    X, y, true = data
    rng = np.random.default_rng(1)
    blind = rng.standard_normal((800, 2)).astype(np.float32)
    model = model_of(blind, y, blind[:100], true[:100])
    trusted = SimpleNamespace(X=form(X[:100]), labels=true[:100])
    found = compare_with_linear(X, trusted, model, 0)
    assert found.is_better
    assert (found.known[0].argmax(dim=1).numpy() == true[:100]).mean() > 0.9
    random = rng.integers(2, size=100)
    model = model_of(blind, y, blind[:100], random)
    trusted = SimpleNamespace(X=form(X[:100]), labels=random)
    assert not compare_with_linear(X, trusted, model, 0).is_better


def test_columns_of_any_size_warn_of_nothing(data):
    X, y, true = data
    counts = sparse.csr_matrix((100 * np.abs(X) * [1, 1e4, 1, 1e-3, 1, 1]).round())
    model = model_of(np.zeros((800, 2)), y, np.zeros((100, 2)), true[:100])
    trusted = SimpleNamespace(X=counts[:100], labels=true[:100])
    assert np.isfinite(compare_with_linear(counts, trusted, model, 0).gain)


def test_its_predictions_of_trusted_rows_have_not_seen_their_labels(data):
    X, y, true = data
    logits = np.zeros((800, 2), dtype=np.float32)
    found = []
    for labels in (true[:100], np.r_[1 - true[:1], true[1:100]]):
        model = model_of(logits, y, logits[:100], labels)
        trusted = SimpleNamespace(X=X[:100], labels=labels)
        pool, _ = compare_with_linear(X, trusted, model, 0).known
        found.append(pool[0].argmax())
    assert found[0] == found[1] == true[0]


def test_a_pool_of_extremes_is_one_of_both():
    nets, linear = torch.randn(2, 5, 3).log_softmax(dim=2)
    torch.testing.assert_close(pooled(nets, linear, 0.0), nets)
    torch.testing.assert_close(pooled(nets, linear, 1.0), linear)
    torch.testing.assert_close(pooled(nets, nets, 0.3), nets)


def test_it_is_not_tried_on_images_and_with_a_class_of_one_trusted_row(data):
    X, y, true = data
    model = model_of(np.zeros((800, 2)), y, np.zeros((60, 2)), true[:60])
    images = SimpleNamespace(X=X[:60].reshape(60, 1, 2, 3), labels=true[:60])
    assert compare_with_linear(X.reshape(-1, 1, 2, 3), images, model, 0) is None
    rows = np.r_[np.flatnonzero(true == 0)[:20], np.flatnonzero(true == 1)[:1]]
    model = model_of(np.zeros((800, 2)), y, np.zeros((21, 2)), true[rows])
    assert compare_with_linear(X, SimpleNamespace(X=X[rows], labels=true[rows]), model, 0) is None


def test_it_is_not_tried_where_a_user_holds_rows_out(data, monkeypatch):
    monkeypatch.setattr(cross_fit, "compare_with_linear", lambda *a: pytest.fail("tried"))
    clf = fitted(*data, train_split=ValidSplit(5))
    assert np.isnan(clf.evidence_.linear_gain)


def test_trusted_rows_beside_X_tell_as_much_and_rows_without_votes_get_none(data, monkeypatch):
    X, y, true = data
    votes = np.eye(2)[y[100:500]]
    votes[::5] = np.nan
    tables, judge = [], Evidence.judge
    monkeypatch.setattr(Evidence, "judge", lambda *a: tables.append(judge(*a)) or tables[-1])
    clf = MetaLabelNetClassifier(**CALM).fit(
        X[100:500], label_proba=votes, meta_X=X[:100], meta_y=true[:100]
    )
    assert clf.evidence_.is_pooled
    assert (tables[0].label_proba[::5] == 0).all()
    assert clf.score(X[500:], true[500:]) > 0.9


def test_a_resumed_fit_and_a_file_know_it(data, tmp_path, monkeypatch):
    pytest.importorskip("safetensors", reason="save and load need safetensors")
    X, write = data[0], CheckpointFolder.write
    clf = fitted(*data)

    def write_and_die(self, state):
        write(self, state)
        if len(state["history"]) == 3:
            raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(CheckpointFolder, "write", write_and_die)
        with pytest.raises(RuntimeError, match="killed"):
            fitted(*data, checkpoint_dir=tmp_path / "fit")
    resumed = fitted(*data, checkpoint_dir=tmp_path / "fit")
    np.testing.assert_array_equal(resumed.soft_labels_, clf.soft_labels_)
    np.testing.assert_array_equal(resumed.predict_proba(X), clf.predict_proba(X))
    clf.save(tmp_path / "clf")
    read = MetaLabelNetClassifier.load(tmp_path / "clf").evidence_
    assert read.is_pooled
    assert str(read) == str(clf.evidence_)
