"""Labels that held-out predictions judge, where correcting them by a method would harm."""

from contextlib import ExitStack
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import METHODS
from sklearn.datasets import make_blobs
from skorch.dataset import ValidSplit
from told import HARMS, HELPS, told

from sknoisy import ALRClassifier, MetaLabelNetClassifier
from sknoisy.noise import symmetric_noise
from sknoisy.storage.checkpoint_folder import CheckpointFolder
from sknoisy.training import cross_fit, relabeling
from sknoisy.training.judging import posterior

pytestmark = [
    pytest.mark.evidence,
    pytest.mark.filterwarnings("ignore:No trusted rows", "ignore:target_momentum"),
]
CALM = {"max_epochs": 5, "batch_size": 32, "lr": 0.003, "module__hidden": 64, "random_state": 0}


@pytest.fixture(scope="module")
def data():
    X, y = make_blobs(200, 100, centers=3, cluster_std=12.0, random_state=0)
    return X.astype(np.float32), symmetric_noise(y, 0.3, random_state=0), y


@pytest.fixture
def tell():
    with ExitStack() as stack:
        yield lambda *gains: stack.enter_context(told(*gains))


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_the_last_network_is_trained_on_judged_labels_where_that_helps(method, data, tell):
    tell(HELPS, HELPS)
    X, y, true = data
    clf = method(**CALM).fit(X, y)  # and warns of nothing
    found = clf.evidence_
    assert found.is_relabeled
    assert not found.is_corrected
    assert clf.n_iter_ == found.judged_epochs
    judged = found.proba * found.label_transition[:, y].T
    judged /= judged.sum(axis=1, keepdims=True)
    if method.__name__ != "ToyClassifier":
        np.testing.assert_allclose(clf.soft_labels_, judged, atol=1e-5)
    assert (clf.soft_labels_.argmax(1) == true).mean() > 0.85  # 0.7 of the given ones
    assert "+0.100 +- 0.010" in str(found)
    assert "judged by networks that had not seen them" in str(found)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("gains", "nets"),
    [
        ([HARMS], 1),
        ([HELPS, HARMS], 2),
        ([HELPS, (0.1, 0.06)], 2),
        ([HELPS, HELPS, HARMS], 2),
    ],
)
def test_labels_are_left_as_given_where_it_does_not_tell_apart(
    gains, nets, data, tell, monkeypatch
):
    tell(*gains)
    X, y, _ = data
    judged, judge = [], relabeling._judge_fold
    monkeypatch.setattr(relabeling, "_judge_fold", lambda *a: judged.append(1) or judge(*a))
    with pytest.warns(UserWarning, match="Labels were left as given"):
        clf = ALRClassifier(**CALM).fit(X, y)
    assert not clf.evidence_.is_relabeled
    assert len(judged) == nets
    np.testing.assert_array_equal(clf.soft_labels_, np.eye(3)[y])


@pytest.mark.slow
def test_a_fold_is_judged_by_its_own_labels_alone_and_each_row_by_others(data, tell, monkeypatch):
    tell(HELPS, HELPS)
    X, y, _ = data
    folds, judge = [], relabeling._judge_fold

    def spy(recipe, fit_data, halves, k, weights):
        table = judge(recipe, fit_data, halves, k, weights)
        rows, others = halves.held_out[k], halves.held_out[1 - k]
        np.testing.assert_array_equal(table[others], np.eye(3)[y[others]])
        labels = fit_data.labels.copy()
        labels[others] = (labels[others] + 1) % 3
        moved = judge(recipe, replace(fit_data, labels=labels), halves, k, weights)
        torch.testing.assert_close(moved[rows], table[rows], rtol=0, atol=0)
        inner = halves.within(k, fit_data.labels, np.ones(200, dtype=bool))
        np.testing.assert_array_equal(np.sort(np.concatenate(inner.held_out)), rows)
        folds.append(k)
        return table

    monkeypatch.setattr(relabeling, "_judge_fold", spy)
    ALRClassifier(**CALM).fit(X, y)
    assert folds == [1, 0]


@pytest.mark.slow
def test_trusted_rows_keep_their_label_and_need_not_tell(data, tell):
    tell(HELPS, HELPS, (-0.02, 0.025))
    X, y, true = data
    trusted = np.arange(200) < 60
    clf = MetaLabelNetClassifier(**CALM).fit(X, np.where(trusted, true, y), trusted=trusted)
    assert clf.evidence_.is_relabeled
    np.testing.assert_allclose(clf.soft_labels_[:60], np.eye(3)[true[:60]], atol=1e-4)


@pytest.mark.slow
def test_rows_without_a_vote_get_none_and_soft_labels_all_the_same(data, tell):
    tell(HELPS, HELPS)
    X, y, _ = data
    votes = np.eye(3)[y] * 0.8 + 0.2 / 3
    votes[::7] = np.nan
    clf = ALRClassifier(**CALM).fit(X, label_proba=votes)
    assert clf.evidence_.is_relabeled
    np.testing.assert_allclose(clf.soft_labels_.sum(axis=1), 1, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("method", [ALRClassifier, MetaLabelNetClassifier])
def test_a_resumed_fit_and_a_file_know_it(method, data, tell, tmp_path, monkeypatch):
    pytest.importorskip("safetensors", reason="save and load need safetensors")
    tell(HELPS, HELPS)
    X, y, _ = data
    clf = method(**CALM).fit(X, y)
    write = CheckpointFolder.write

    def write_and_die(self, state):
        write(self, state)
        if len(state["history"]) == 2:
            raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(CheckpointFolder, "write", write_and_die)
        with pytest.raises(RuntimeError, match="killed"):
            method(**CALM, checkpoint_dir=tmp_path / "fit").fit(X, y)
    resumed = method(**CALM, checkpoint_dir=tmp_path / "fit").fit(X, y)
    np.testing.assert_array_equal(resumed.soft_labels_, clf.soft_labels_)
    np.testing.assert_array_equal(resumed.predict_proba(X), clf.predict_proba(X))
    clf.save(tmp_path / "clf")
    read = method.load(tmp_path / "clf")
    assert read.evidence_.is_relabeled
    assert str(read.evidence_) == str(clf.evidence_)
    np.testing.assert_array_equal(read.soft_labels_, clf.soft_labels_)


def test_posteriors_of_extremes():
    proba = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.2, 0.3, 0.5]])
    transition = torch.tensor([[0.9, 0.1, 0.0], [0.1, 0.9, 0.0], [0.0, 0.0, 1.0]]).double()
    found = posterior(proba, transition, torch.tensor([1, 0, 2]))
    torch.testing.assert_close(found[0], torch.tensor([1.0, 0.0, 0.0]), atol=1e-6, rtol=0)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(3))
    none = posterior(proba, transition, torch.zeros(3, 3))
    assert (none == 0).all()


@pytest.mark.slow
def test_votes_are_judged_as_distributions(data, tell):
    tell(HELPS, HELPS)
    X, _, true = data
    rng = np.random.default_rng(0)
    votes = np.where(rng.random((200, 5)) < 0.5, rng.integers(3, size=(200, 5)), true[:, None])
    counts = (votes[:, :, None] == np.arange(3)).sum(axis=1)
    clf = ALRClassifier(**CALM).fit(X, label_proba=counts)
    found = clf.evidence_
    assert not found.is_symmetric  # the matrix was seen to help
    proba, matrix = found.proba, found.label_transition
    # Of each vote by itself, as the noise model was fitted and judged.
    posteriors = proba[:, :, None] * matrix / (proba @ matrix)[:, None, :]  # row, class, vote
    expected = (posteriors * (counts / 5)[:, None, :]).sum(axis=2)
    np.testing.assert_allclose(clf.soft_labels_, expected, atol=1e-5)
    assert abs(matrix.diagonal().mean() - (votes == true[:, None]).mean()) < 0.12


def test_it_is_not_tried_where_a_user_holds_rows_out(data, tell, monkeypatch):
    tell(HELPS, HELPS)
    X, y, _ = data
    monkeypatch.setattr(cross_fit, "try_relabeling", lambda *a: pytest.fail("tried"))
    with pytest.warns(UserWarning, match="Labels were left as given"):
        ALRClassifier(**CALM, train_split=ValidSplit(5)).fit(X, y)


@pytest.mark.slow
def test_a_veto_of_trusted_rows_is_told(data, tell):
    tell(HELPS, HELPS, HARMS)
    X, y, true = data
    trusted = np.arange(200) < 60
    y = np.where(trusted, true, y)
    with pytest.warns(UserWarning, match="Labels were left as given"):
        clf = MetaLabelNetClassifier(**CALM).fit(X, y, trusted=trusted)
    assert "trusted rows contradict judging them" in str(clf.evidence_)


def test_narrow_tables_are_not_tried(data, tell, monkeypatch):
    tell(HELPS, HELPS)
    X, y, _ = data
    monkeypatch.setattr(cross_fit, "try_relabeling", lambda *a: pytest.fail("tried"))
    with pytest.warns(UserWarning, match="Labels were left as given"):
        found = ALRClassifier(**CALM).fit(X[:, :99], y).evidence_
    assert np.isnan(found.relabeling_gain)
    assert "judging" not in str(found)
