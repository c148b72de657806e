"""Out-of-sample evidence: rows are judged by networks that have not seen them."""

import contextlib
import pickle
import warnings
from copy import deepcopy
from dataclasses import replace
from types import SimpleNamespace

import joblib
import numpy as np
import pytest
import torch
from conftest import METHODS
from scipy.sparse import csr_matrix
from sklearn.datasets import load_digits, make_blobs, make_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import average_precision_score
from sklearn.model_selection import train_test_split
from skorch.callbacks import Checkpoint
from skorch.dataset import ValidSplit
from skorch.history import History
from torch.nn.functional import cross_entropy

from sknoisy import ALRClassifier, MetaLabelNetClassifier, SyntheticMixClassifier
from sknoisy.confident_learning import label_quality
from sknoisy.display import LabelIssuesDisplay
from sknoisy.issues import class_quality, find_label_issues, noise_rate, noise_transition_matrix
from sknoisy.metalabelnet.trusted import TrustedRows
from sknoisy.noise import pair_noise, symmetric_noise
from sknoisy.review import write_page
from sknoisy.storage.checkpoint_folder import CheckpointFolder
from sknoisy.training import cross_fit, fold_nets, noise_model
from sknoisy.training.comparison import compare
from sknoisy.training.gains import GIVEN_BIAS, _pooled, _trusted_gain
from sknoisy.training.halves import stratified_folds
from sknoisy.training.judging import fit_symmetric_noise, posterior
from sknoisy.training.noise_model import calibrated_loss, fit_noise_model
from sknoisy.training.targets import SoftTargetLoss

pytestmark = [
    pytest.mark.evidence,
    pytest.mark.filterwarnings(
        "ignore:No trusted rows", "ignore:target_momentum", "ignore:Labels were left"
    ),
]
CALM = {"max_epochs": 12, "batch_size": 32, "lr": 0.003, "module__hidden": 64, "random_state": 0}


def drawn(n, n_classes, transition, temperature, seed=0, scale=3.0, first=0.0):
    """Logits of rows whose class is drawn from softmax(logits / T), and labels given by M.

    The logit of the first class is higher by `first`, so that it is more frequent.
    """
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(n, n_classes, generator=generator, dtype=torch.float64)
    logits[:, 0] += first
    classes = torch.multinomial((logits / temperature).softmax(1), 1, generator=generator)[:, 0]
    given = torch.multinomial(transition[classes], 1, generator=generator)[:, 0]
    return logits, classes, given


def uniform(rate, n_classes):
    eye = torch.eye(n_classes, dtype=torch.float64)
    return (1 - rate) * eye + rate / (n_classes - 1) * (1 - eye)


def pairs(rate, n_classes):
    eye = torch.eye(n_classes, dtype=torch.float64)
    return (1 - rate) * eye + rate * eye.roll(1, dims=1)


def weighed_by_hand(found, given, is_symmetric):
    """Return p(class | prediction, given label) of labels (n,), by the rule of Bayes."""
    proba, matrix = found.proba, found.label_transition
    if is_symmetric:
        matrix = uniform(found.symmetric_rate, len(matrix)).numpy()
    both = proba * matrix[:, given].T
    return both / both.sum(axis=1, keepdims=True)


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
@pytest.mark.parametrize(
    "transition", [uniform(0.0, 4), uniform(0.4, 4), pairs(0.3, 4), uniform(0.2, 2)]
)
def test_temperature_and_transition_are_found_together(temperature, transition):
    n_classes = len(transition)
    logits, classes, given = drawn(8000, n_classes, transition, temperature)
    model = fit_noise_model(logits, given)
    assert model.temperature == pytest.approx(temperature, rel=0.25)
    torch.testing.assert_close(model.transition, transition, atol=0.04, rtol=0)
    assert model.noise_rate == pytest.approx((classes != given).double().mean().item(), abs=0.03)
    both = posterior(model.proba, model.transition, given)
    torch.testing.assert_close(both.sum(1), torch.ones(8000, dtype=torch.float64))
    right = (both.argmax(1) == classes).double().mean()
    assert right >= (logits.argmax(1) == classes).double().mean()


def test_the_log_likelihood_is_that_of_the_mixture_over_classes():
    logits, _, given = drawn(500, 3, uniform(0.3, 3), 2.0)
    model = fit_noise_model(logits, given)
    p = (logits / model.temperature).softmax(1) @ model.transition
    expected = p[torch.arange(500), given].log()
    torch.testing.assert_close(model.log_likelihood, expected, atol=1e-3, rtol=0)


def test_weights_are_repeated_rows():
    logits, _, given = drawn(400, 3, uniform(0.3, 3), 2.0)
    weights = torch.arange(400) % 3
    weighted = fit_noise_model(logits, given, weights)
    repeated = fit_noise_model(
        logits.repeat_interleave(weights, 0), given.repeat_interleave(weights)
    )
    assert weighted.temperature == pytest.approx(repeated.temperature, rel=1e-6)
    torch.testing.assert_close(weighted.transition, repeated.transition)
    assert weighted.noise_rate == pytest.approx(repeated.noise_rate)


def test_logits_shifted_by_row_are_the_same_and_separated_rows_keep_a_temperature():
    logits, _, given = drawn(300, 3, uniform(0.2, 3), 1.0)
    shifted = fit_noise_model(logits + torch.randn(300, 1), given)
    assert shifted.temperature == pytest.approx(fit_noise_model(logits, given).temperature)
    perfect = 5.0 * torch.eye(3, dtype=torch.float64)[given]
    assert 0.1 < fit_noise_model(perfect, given).temperature < 1


def test_the_calibrated_loss_is_the_lowest_of_any_temperature():
    logits, classes, _ = drawn(600, 4, uniform(0.0, 4), 2.5)
    weights = torch.arange(600) % 3
    for k in (0, 1):  # calibrated logits have nothing to gain
        loss, log_beta = calibrated_loss(logits.float(), classes, weights, 0.5 * k)
        grid = torch.linspace(-2, 1, 301, dtype=torch.float64).exp()
        repeated = logits.repeat_interleave(weights, 0), classes.repeat_interleave(weights)
        losses = [cross_entropy(beta * repeated[0], repeated[1]).item() for beta in grid]
        assert loss == pytest.approx(min(losses), abs=1e-3)
        assert np.exp(-log_beta) == pytest.approx(2.5, rel=0.2)


def trained_past(losses, scales, patience, limit):
    """KeepBest after epochs of these losses, whose logits are right, or wrong, times a scale."""
    given = torch.arange(60) % 3
    right = torch.eye(3)[given] - 1.5 * torch.eye(3)[(given + torch.arange(60) // 45) % 3]
    net = SimpleNamespace(
        device="cpu",
        history=History(),
        criterion_=SoftTargetLoss(torch.eye(3)[given]),
    )
    state = SimpleNamespace(state_dict=lambda: {"epoch": torch.tensor(len(net.history))})
    net.module_ = net.optimizer_ = state
    keep = fold_nets.KeepBest(patience, limit)
    keep.on_train_begin(net)
    with contextlib.suppress(KeyboardInterrupt):
        for loss, scale in zip(losses, scales, strict=True):
            net.history.new_epoch()
            net.history.record("valid_loss", loss)
            noise = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
            keep.on_epoch_begin(net, dataset_valid=given)
            for rows in torch.arange(60).flip(0).split(25):
                keep.on_batch_end(net, (None, rows), y_pred=(right + scale * noise)[rows])
            keep.on_epoch_end(net)
    return [int(states[0]["epoch"]) for states in keep.states_], len(net.history)


def test_plain_training_ends_when_held_out_rows_tell_nothing_more():
    rising, blur = [3.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], [4, 3, 2, 1, 2, 3, 3, 3]
    assert trained_past(rising, blur, 3, 8) == ([2, 4], 7)
    assert trained_past(rising, blur, 2, 8) == ([2, 4], 6)
    assert trained_past(rising, blur, 1, 8) == ([2, 4], 5)
    assert trained_past([3.0, 2.0, 1.0, 0.5], [1, 2, 3, 4], 9, 2) == ([2, 1], 4)
    assert trained_past([np.nan] * 3, [1, 2, 3], 9, 3) == ([1, 1], 3)


def test_folds_halve_each_class():
    labels = np.repeat([0, 1, 2], [400, 31, 2])
    for seed in range(5):
        folds = stratified_folds(labels, seed)
        for label, n in enumerate([400, 31, 2]):
            assert abs((folds[labels == label] == 0).sum() - n / 2) <= 0.5
    assert (stratified_folds(labels, 0) != stratified_folds(labels, 1)).any()


def test_the_table_that_foretells_held_out_labels_better_is_chosen():
    logits, _, given = drawn(2000, 4, uniform(0.3, 4), 1.0)
    noise = torch.randn(2000, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    good, bad = (fit_noise_model(z, given) for z in (logits, logits + 4 * noise))
    curves, ones = (np.array([2.0, 1.0]), np.array([2.0, 1.0, 0.5])), torch.ones(2000)
    assert compare(bad, good, ones, (5, 7), curves).is_corrected
    worse = compare(good, bad, ones, (5, 7), curves)
    assert not worse.is_corrected
    assert worse.gain < -worse.gain_error < 0
    assert worse.agreement_plain == pytest.approx(
        (logits.argmax(1) == given).double().mean().item()
    )
    same = compare(good, good, ones, (5, 7), curves)
    assert same.is_corrected  # ties correct
    assert same.gain == 0
    assert "decision" in str(worse)
    assert "left as given" in str(worse)


@pytest.mark.slow
@pytest.mark.parametrize("n_classes", [2, 10])
def test_labels_without_relation_to_rows_are_at_chance(n_classes):
    curves, ones = (np.zeros(2), np.zeros(2)), torch.ones(1000)
    found = []
    for seed in range(10):
        logits, _, given = drawn(1000, n_classes, uniform(0.0, n_classes), 1.0, seed, first=4.0)
        shuffled = given[torch.randperm(1000, generator=torch.Generator().manual_seed(seed))]
        for labels in (given, shuffled):
            model = fit_noise_model(logits, labels)
            found.append(compare(model, model, ones, (1, 1), curves))
    assert min(e.above_chance / e.above_chance_error for e in found[::2]) > 10
    assert not any(e.tells_nothing for e in found[::2])
    assert sum(e.tells_nothing for e in found[1::2]) >= 9
    one_hot = torch.nn.functional.one_hot(given, n_classes).double()  # votes that all agree
    votes = compare(*[fit_noise_model(logits, one_hot)] * 2, ones, (1, 1), curves)
    labels = compare(*[fit_noise_model(logits, given)] * 2, ones, (1, 1), curves)
    assert votes.above_chance == pytest.approx(labels.above_chance)


@pytest.mark.slow
def test_rows_in_another_order_than_their_labels_are_told():
    X, y = make_blobs(300, centers=3, random_state=0)
    with pytest.warns(UserWarning, match="X seems to tell nothing of y.* rows in the same order"):
        clf = ALRClassifier(**CALM).fit(X, np.random.default_rng(0).permutation(y))
    assert clf.evidence_.tells_nothing


@pytest.fixture(scope="module")
def data():
    X, y = make_blobs(300, 6, centers=3, cluster_std=3.0, random_state=0)
    return X.astype(np.float32), symmetric_noise(y, 0.3, random_state=0), y


NAMES = np.array(["ant", "bee", "cat"])


@pytest.fixture(scope="module")
def calm(data):
    """An estimator fitted on these rows, of classes with names; no test may change it."""
    return ALRClassifier(**CALM).fit(data[0], NAMES[data[1]])


@pytest.mark.slow
def test_each_row_is_judged_by_a_net_that_was_not_trained_on_it(data, monkeypatch):
    X, y, _ = data
    trained, judged = [], []

    class Watch(fold_nets.KeepBest):
        def on_epoch_begin(self, net, dataset_train=None, **kwargs):
            trained.append(set(dataset_train.indices.tolist()))
            super().on_epoch_begin(net, dataset_train=dataset_train, **kwargs)

    logits_of = cross_fit.held_out_logits

    def spy(recipe, data, held_out, nets, prior):
        judged.append([set(rows.tolist()) for rows in held_out])
        return logits_of(recipe, data, held_out, nets, prior)

    monkeypatch.setattr(fold_nets, "KeepBest", Watch)
    monkeypatch.setattr(cross_fit, "held_out_logits", spy)
    ALRClassifier(**CALM).fit(X, y)
    for folds in judged:
        assert set.union(*folds) == set(range(300))
        assert len(folds[0]) + len(folds[1]) == 300
    assert {frozenset(rows) for rows in trained} == {
        frozenset(set(range(300)) - fold) for fold in judged[0]
    }


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_the_evidence_of_a_fit(method, data):
    X, y, true = data
    clf = method(**CALM).fit(X, y)
    found = clf.evidence_
    assert found.n_rows == 300
    assert found.proba.shape == clf.soft_labels_.shape
    np.testing.assert_allclose(found.proba.sum(1), 1, rtol=1e-6)
    np.testing.assert_allclose(found.transition.sum(1), 1)
    assert found.noise_rate == pytest.approx((y != true).mean(), abs=0.12)
    assert clf.warmup_epochs_ == found.warmup_epochs or method.__name__ in (
        "MetaLabelNetClassifier",
        "ToyClassifier",
    )
    assert 1 <= found.warmup_epochs <= 6
    assert found.warmup_epochs <= found.plain_epochs <= 12
    assert clf.n_iter_ == (12 if found.is_corrected else found.plain_epochs)
    assert noise_rate(clf) == found.noise_rate
    np.testing.assert_array_equal(noise_transition_matrix(clf), found.transition)
    twin = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(twin.predict_proba(X), clf.predict_proba(X))
    assert str(twin.evidence_) == str(found)


@pytest.mark.slow
def test_corrected_nets_go_on_from_the_best_epoch_of_plain_ones(data, monkeypatch):
    X, y, _ = data
    begun, go_on = [], fold_nets.GoOn

    def spy(history, module_state, optimizer_state):
        begun.append((len(history), module_state))
        return go_on(history, module_state, optimizer_state)

    monkeypatch.setattr(fold_nets, "GoOn", spy)
    clf = ALRClassifier(**CALM).fit(X, y)
    assert [epochs for epochs, _ in begun] == [clf.evidence_.warmup_epochs] * 2
    first, second = (state for _, state in begun)
    assert any(not torch.equal(first[name], second[name]) for name in first)


@pytest.mark.slow
def test_a_resumed_fit_gathers_no_evidence_again(data, monkeypatch, tmp_path):
    X, y, _ = data
    gathered, gather = [], cross_fit.gather_evidence

    def spy(*args):
        gathered.append(1)
        return gather(*args)

    monkeypatch.setattr(cross_fit, "gather_evidence", spy)
    for _ in range(2):
        ALRClassifier(**CALM, checkpoint_dir=tmp_path).fit(X, y)
    assert len(gathered) == 1


@pytest.mark.slow
@pytest.mark.parametrize("is_mask", [True, False])
def test_trusted_rows_are_known_by_nets_that_have_not_seen_them(is_mask, data, monkeypatch):
    X, y, true = data
    trusted, seen, known = np.arange(300) < 60, [], []

    def spy(logits, given, weights, known_rows):
        seen.append(weights)
        known.append(known_rows)
        return fit_noise_model(logits, given, weights, known_rows)

    taken, take = [], TrustedRows.take

    def keep(self, kept):
        taken.append(kept)
        return take(self, kept)

    monkeypatch.setattr(cross_fit, "fit_noise_model", spy)
    monkeypatch.setattr(TrustedRows, "take", keep)
    if is_mask:
        clf = MetaLabelNetClassifier(**CALM).fit(X, np.where(trusted, true, y), trusted=trusted)
        np.testing.assert_array_equal(seen[0], ~trusted)
    else:
        meta = {"meta_X": X[:60], "meta_y": true[:60]}
        clf = MetaLabelNetClassifier(**CALM).fit(X[60:], y[60:], **meta)
        np.testing.assert_array_equal(seen[0], np.ones(240))
    assert clf.evidence_.n_rows == 240
    assert all(kept.sum() in range(20, 41) for kept in taken)  # a half, more or less
    np.testing.assert_array_equal(taken[0], ~taken[1])
    for logits, labels in known:
        np.testing.assert_array_equal(labels, true[:60])
        assert logits.shape == (60, 3)
        assert (logits != 0).all()
    assert np.isfinite(clf.evidence_.trusted_gain)
    assert "of trusted labels alone" in str(clf.evidence_)


@pytest.mark.slow
def test_trusted_rows_are_judged_alike_in_X_and_apart_whatever_a_class_weighs(data, monkeypatch):
    X, y, true = data
    known = []

    def spy(logits, given, weights, known_rows):
        known.append(known_rows)
        return fit_noise_model(logits, given, weights, known_rows)

    monkeypatch.setattr(cross_fit, "fit_noise_model", spy)
    trusted, shares = np.arange(300) < 60, []
    clf = MetaLabelNetClassifier(**CALM, class_weight={0: 20, 1: 1, 2: 1})
    for rows, given in (
        ((X, np.where(trusted, true, y)), {"trusted": trusted}),
        ((X, np.where(trusted, true, y)), {"meta_X": X[:60], "meta_y": true[:60]}),
    ):
        known.clear()
        clf.fit(*rows, **given)
        shares.append(known[0][0].softmax(1).mean(0).numpy())
    np.testing.assert_allclose(*shares, atol=0.08)


@pytest.mark.slow
def test_trusted_rows_count_in_the_priors_of_the_classes(data):
    X, y, true = data
    trusted = true == 0  # a reviewer has seen all of a class
    clf = MetaLabelNetClassifier(**CALM).fit(X, np.where(trusted, true, y), trusted=trusted)
    assert clf.evidence_.class_prior[0] >= trusted.mean()
    assert clf.evidence_.joint.sum() == pytest.approx(1)
    assert clf.net_.criterion_.class_prior[0] == pytest.approx(clf.evidence_.class_prior[0])


@pytest.mark.slow
@pytest.mark.parametrize("method", [ALRClassifier, SyntheticMixClassifier, MetaLabelNetClassifier])
def test_the_best_epoch_of_any_phase_can_be_loaded(method, data, tmp_path, monkeypatch):
    X, y, _ = data
    monkeypatch.setattr(cross_fit, "compare", lambda *a: replace(compare(*a), is_corrected=True))

    class First(Checkpoint):
        def on_epoch_end(self, net, **kwargs):
            if len(net.history) == 1:
                self.save_model(net)

    first = First(dirname=tmp_path, load_best=True, monitor=None)
    clf = method(**CALM, train_split=ValidSplit(5), callbacks=[("first", first)]).fit(X, y)
    assert np.isfinite(clf.soft_labels_).all()


@pytest.mark.slow
def test_known_labels_set_the_temperature_and_the_noise_follows():
    logits, classes, given = drawn(4000, 3, uniform(0.3, 3), 2.0)
    blind = fit_noise_model(3 * logits, given)  # too sure of itself by a factor of 3
    assert blind.temperature == pytest.approx(6.0, rel=0.25)
    few, many = slice(3999, 4000), slice(3000, 4000)
    rows = slice(3000)
    for known, temperature in ((few, 2.0), (many, 4.0)):
        # What is known comes from another temperature than what is given.
        model = fit_noise_model(
            logits[rows], given[rows], None, (2 * logits[known], classes[known])
        )
        assert model.temperature == pytest.approx(temperature, rel=0.3)
        expected = (2 * logits[known] / model.temperature).log_softmax(1)
        expected = expected[torch.arange(len(expected)), classes[known]]
        torch.testing.assert_close(model.known_log_likelihood, expected)
    assert fit_noise_model(logits, given).known_log_likelihood is None


def test_known_labels_of_one_number_a_class_tell_the_temperature_of_all_rows():
    logits, classes, _ = drawn(20_000, 2, torch.eye(2).double(), 1.0, first=6.0)
    assert 0.02 < classes.double().mean() < 0.15
    rows, known = slice(10_000), torch.arange(10_000, 20_000)
    few = torch.cat([known[classes[known] == k][:200] for k in range(2)])
    model = fit_noise_model(logits[rows], classes[rows], None, (logits[few], classes[few]))
    assert model.temperature == pytest.approx(1.0, rel=0.15)


@pytest.mark.slow
def test_the_temperature_calibrates_and_changes_no_prediction(data, calm):
    X, clf = data[0], calm
    logits = torch.cat(list(clf.net_.forward_iter(X))).double()
    expected = (logits / clf.evidence_.temperature).softmax(1)
    np.testing.assert_allclose(clf.predict_proba(X), expected, atol=1e-6)
    np.testing.assert_array_equal(clf.predict(X), clf.classes_[logits.argmax(1)])


@pytest.mark.slow
def test_without_calibration_probabilities_are_the_networks_own(data, calm):
    X, clf = data[0], deepcopy(calm)
    calibrated, logits = clf.predict_proba(X), torch.cat(list(clf.net_.forward_iter(X)))
    bare = clf.set_params(calibrate=False).predict_proba(X)
    np.testing.assert_allclose(bare, logits.softmax(1), atol=1e-6)
    assert (bare.argmax(1) == calibrated.argmax(1)).all()
    assert not np.allclose(bare, calibrated)


@pytest.mark.slow
def test_corrected_labels_follow_the_issues_and_are_of_the_type_of_y(data, calm):
    (X, y, true), names, clf = data, NAMES, calm
    issues = clf.label_issues().sort_index()
    found = clf.evidence_
    both = weighed_by_hand(found, y, found.is_symmetric)
    expected = np.where(issues.is_label_issue, names[both.argmax(1)], issues.given_label)
    assert clf.corrected_labels_.tolist() == expected.tolist()
    assert (expected != issues.given_label).sum() < issues.is_label_issue.sum()
    assert clf.corrected_labels_.dtype == names.dtype
    assert (clf.corrected_labels_ == names[true]).mean() > (y == true).mean() + 0.1
    bare = ALRClassifier(**CALM, evidence=False).fit(X, y)
    issues = bare.label_issues().sort_index()  # soft labels have seen the given ones: no Bayes
    expected = np.where(issues.is_label_issue, bare.soft_labels_.argmax(1), y)
    assert bare.corrected_labels_.tolist() == expected.tolist()


@pytest.mark.slow
@pytest.mark.filterwarnings("error")
def test_labels_come_by_both_kinds_of_noise_in_view_of_the_prediction(data, calm, tmp_path):
    """Wherever they are listed; other labels, and a user's probabilities, by the margin."""
    (X, y, _), clf = data, calm
    found, rows = clf.evidence_, np.arange(len(y))
    both = [weighed_by_hand(found, y, is_symmetric)[rows, y] for is_symmetric in (True, False)]
    expected = np.mean(both, axis=0)
    table = clf.label_issues()
    quality = table["label_quality"].to_numpy()
    np.testing.assert_allclose(quality, expected[table["position"]], atol=1e-6)
    assert (np.diff(quality) >= 0).all()
    page = write_page(clf, X, tmp_path / "review.html", n_rows=40)
    assert page["row"].tolist() == table["position"].tolist()[:40]
    shown = LabelIssuesDisplay.from_estimator(clf, n_rows=9).issues
    assert [row[0] for row in shown] == table["position"].tolist()[:9]
    assert find_label_issues(clf, NAMES[y]).equals(table)
    assert noise_rate(clf, NAMES[y]) == noise_rate(clf)
    given = y.copy()
    given[0] = (given[0] + 1) % 3
    others = [find_label_issues(pred_probs=found.proba, y=given)]
    others.append(find_label_issues(clf, NAMES[given]))
    for other in others:
        margin = label_quality(found.proba, given)
        np.testing.assert_allclose(other.sort_index()["label_quality"], margin)
        assert (margin[other["position"][other["is_label_issue"]]] < 0.5).all()
    joblib.dump(clf, tmp_path / "clf.joblib")
    mapped = joblib.load(tmp_path / "clf.joblib", mmap_mode="r")  # whose arrays are read only
    assert mapped.label_issues().equals(table)
    mapped.evidence_.state_dict()


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.02, 0.1, 0.3])
@pytest.mark.filterwarnings("ignore:X seems to tell nothing")
def test_predictions_that_know_less_than_labels_do_not_spoil_them(data, rate):
    X, transition = data[0], uniform(rate, 4)
    logits, true, given = drawn(len(X), 4, transition, 1.0, scale=1.5)
    proba, true, given = logits.softmax(1).numpy(), true.numpy(), given.numpy()
    clf = ALRClassifier(max_epochs=4, random_state=0).fit(X, given)
    exact = {"proba": proba, "symmetric_rate": rate, "is_symmetric": True}
    exact["label_transition"] = transition.numpy()
    clf.evidence_ = replace(clf.evidence_, **exact)
    assert f"judged by                   symmetric noise, {rate:.1%}" in str(clf.evidence_)
    assert (proba.argmax(1) == true).mean() < (given == true).mean() - 0.1
    right = (clf.corrected_labels_ == true).mean()
    assert right > (given == true).mean() - 0.01
    issues = clf.label_issues().sort_index()
    overruled = np.where(issues.is_label_issue, issues.predicted_label, given)
    assert right > (overruled == true).mean() + 0.03
    wrong, quality = given != true, issues["label_quality"]
    by_margin = average_precision_score(wrong, -label_quality(proba, given))
    assert average_precision_score(wrong, -quality) > by_margin
    # Files of earlier versions know nothing of symmetric noise.
    unknown = replace(clf.evidence_, symmetric_rate=np.nan, is_symmetric=False)
    unknown = replace(unknown, label_transition=None)
    assert "judged by                   noise transition matrix" in str(unknown)
    given = torch.from_numpy(given)
    expected = replace(clf.evidence_, label_transition=clf.evidence_.transition)
    expected = expected.posterior(given, is_symmetric=False)
    assert (unknown.posterior(given) == expected).all()
    of_label = unknown.posterior(given, is_symmetric=True)
    torch.testing.assert_close(of_label, torch.from_numpy(proba))  # as such files were read before
    # Where given labels were left out, because they misled, they tell nothing here either.
    clf.evidence_ = replace(clf.evidence_, is_pooled=True)
    assert "judged by                   predictions alone" in str(clf.evidence_)
    assert clf.corrected_labels_.tolist() == overruled.tolist()


@pytest.mark.slow
def test_votes_weigh_on_corrected_labels_as_shares(data):
    X, y, _ = data
    votes = np.eye(3)[y]
    votes[::2] = 0.6 * votes[::2] + 0.4 * np.roll(votes[::2], 1, axis=1)
    votes[:5] = np.nan
    clf = ALRClassifier(**CALM).fit(X, y, label_proba=votes)
    found, voted = clf.evidence_, np.arange(5, len(X))
    issues = clf.label_issues().sort_values("position")
    assert issues.position.tolist() == voted.tolist()
    of_both = found.posterior(torch.from_numpy(votes[5:]), voted).argmax(1).numpy()
    expected = np.where(issues.is_label_issue, of_both, issues.given_label)
    assert clf.corrected_labels_[5:].tolist() == expected.tolist()
    assert clf.corrected_labels_[:5].tolist() == found.proba[:5].argmax(1).tolist()


@pytest.mark.slow
def test_counts_of_classes_are_those_of_the_noise_model(data, calm):
    y, clf = data[1], calm
    table, joint = class_quality(clf).sort_index(), clf.evidence_.joint
    np.testing.assert_allclose(table.given, np.bincount(y))
    right = joint.diagonal() / joint.sum(0) * np.bincount(y)
    np.testing.assert_allclose(table.given - table.wrong_in, right)
    wrong = table.wrong_in.sum() / len(y)
    assert wrong == pytest.approx(noise_rate(clf), abs=0.02)  # but for the prior of the model


@pytest.mark.slow
@pytest.mark.parametrize("method", [ALRClassifier, SyntheticMixClassifier])
def test_what_corrects_labels_counts_its_predictions(method, data):
    X, y, _ = data
    criterion = method(**CALM).fit(X, y).net_.criterion_
    assert criterion.predicted.sum().item() == pytest.approx(1)
    assert criterion.class_prior.sum().item() == pytest.approx(1)


@pytest.mark.slow
@pytest.mark.parametrize("as_rows", [np.asarray, csr_matrix])
def test_rows_without_a_label_are_no_evidence(as_rows, data):
    X, y, true = data
    rows = {"meta_X": as_rows(X[:30]), "meta_y": true[:30]}
    clf = MetaLabelNetClassifier(**CALM)
    clf.fit(as_rows(X[30:150]), y[30:150], **rows, unlabeled_X=as_rows(X[150:]))
    assert clf.evidence_.n_rows == len(clf.evidence_.proba) == 120


@pytest.mark.slow
def test_trusted_rows_are_no_issues_and_with_none_but_them_there_is_no_evidence(data):
    X, y, true = data
    trusted = np.arange(300) < 60
    given = np.where(trusted, true, y)
    clf = MetaLabelNetClassifier(**CALM).fit(X, given, trusted=trusted)
    assert clf.evidence_.n_rows == 240
    np.testing.assert_array_equal(clf.evidence_.is_held_out, ~trusted)
    assert (clf.corrected_labels_[trusted] == true[trusted]).all()
    # Others are judged by the matrix of labels that are not trusted, which are wrong more often.
    found = clf.evidence_
    assert (np.diag(found.label_transition) < np.diag(found.transition)).all()
    expected = found.posterior(torch.from_numpy(given)).numpy()
    by_hand = weighed_by_hand(found, given, found.is_symmetric)
    np.testing.assert_allclose(by_hand, expected, atol=1e-5)
    assert not clf.label_issues().sort_index().is_label_issue[trusted].any()
    for weights in (None, np.where(np.arange(300) < 60, 1.0, 0.0)):
        mask = np.ones(300, dtype=bool) if weights is None else trusted
        clf = MetaLabelNetClassifier(**CALM).fit(X, true, weights, trusted=mask)
        assert clf.evidence_ is None


def test_folds_halve_the_rows_that_weigh_too():
    labels, counted = np.zeros(100, dtype=int), np.arange(100) < 7
    for seed in range(5):
        folds = stratified_folds(labels, seed, counted)
        assert abs((folds[counted] == 0).sum() - 3.5) <= 0.5
        assert (folds == 0).sum() == 50


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_one_row_that_weighs_is_no_evidence_and_breaks_no_fit(method, data):
    X, y, _ = data
    clf = method(**CALM).fit(X, y, np.eye(300)[3])
    assert clf.evidence_ is None
    assert np.isfinite(clf.predict_proba(X)).all()


def test_diverged_networks_are_no_evidence_and_it_is_told(data):
    X, y, _ = data
    clf = ALRClassifier(**{**CALM, "optimizer": torch.optim.SGD, "lr": 1e12})
    with pytest.warns(ConvergenceWarning, match="Training diverged"):
        clf.fit(X, y)
    assert clf.evidence_ is None


@pytest.mark.slow
def test_a_class_of_weight_zero_counts_in_the_tables(data):
    X, y, _ = data
    clf = ALRClassifier(**CALM, class_weight={0: 0, 1: 1, 2: 1}).fit(X, y)
    assert clf.evidence_.n_rows == 300
    np.testing.assert_allclose(clf.evidence_.joint.sum(0), np.bincount(y) / 300, atol=0.01)


@pytest.mark.slow
def test_trusted_rows_decide_where_they_tell_anything():
    logits, classes, given = drawn(2000, 4, uniform(0.3, 4), 1.0)
    noise = torch.randn(2000, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    good, bad = logits, logits + 4 * noise
    curves = np.array([1.0]), np.array([1.0])

    def decide(plain, corrected, known_plain, known_corrected, n_known):
        models = [
            fit_noise_model(z, given, None, (k[:n_known], classes[:n_known]))
            for z, k in ((plain, known_plain), (corrected, known_corrected))
        ]
        return compare(*models, torch.ones(2000), (1, 1), curves)

    for n_known in (0, 1):
        found = decide(good, bad, bad, good, n_known)
        assert np.isnan(found.trusted_gain)
        assert not found.is_corrected
        assert decide(bad, good, good, bad, n_known).is_corrected
    found = decide(good, bad, bad, good, 200)
    assert found.given_gain < -found.given_gain_error
    assert found.trusted_gain > found.trusted_gain_error > 0
    assert found.given_gain < found.gain < found.trusted_gain
    assert found.is_corrected
    assert not decide(bad, good, good, bad, 200).is_corrected


@pytest.mark.slow
def test_trusted_rows_tell_as_far_as_their_classes_reach():
    logits, classes, given = drawn(4000, 4, uniform(0.2, 4), 1.0)
    noise = torch.randn(4000, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    worse = logits + 2 * noise
    rows = torch.arange(3000, 4000)

    def found(kept):
        known = [(z[kept], classes[kept]) for z in (worse, logits)]
        models = [
            fit_noise_model(z[:3000], given[:3000], None, k)
            for z, k in zip((worse, logits), known, strict=True)
        ]
        return _trusted_gain(*reversed(models)), models[1]

    (everywhere, error), model = found(rows)
    assert model.known_labels.tolist() == classes[rows].tolist()
    rare = torch.cat([rows[classes[rows] == k][: 200 if k else 20] for k in range(4)])
    (balanced, _), _ = found(rare)
    assert balanced == pytest.approx(everywhere, abs=0.1)
    two = rows[classes[rows] < 2]
    (_, of_two), model = found(two)
    share = model.class_prior[:2].sum().item()
    assert 0.4 < share < 0.6
    assert of_two == pytest.approx(error * 2**0.5 / share, rel=0.2)


def test_gains_are_pooled_by_how_far_either_may_be_wrong():
    nothing = (float("nan"), float("nan"))
    assert _pooled((-0.2, 0.01), nothing) == (-0.2, 0.01)
    gain, error = _pooled((-0.03, 0.0), (0.1, GIVEN_BIAS))  # in equal doubt
    assert gain == pytest.approx(0.035)
    assert error == pytest.approx(GIVEN_BIAS / 2)
    gain, error = _pooled((-0.03, 0.01), (5.0, 10.0))  # a row or two that tell nothing
    assert gain == pytest.approx(-0.03, abs=0.001)
    assert error == pytest.approx(0.01, abs=0.001)
    gain, error = _pooled((-0.03, 0.01), (0.02, 0.002))
    assert gain == pytest.approx(0.02, abs=0.001)


def rare_digits():
    X, y = load_digits(return_X_y=True)
    X, X_test, y, y_test = train_test_split(X, y, stratify=y, random_state=0, test_size=0.5)
    kept = np.r_[np.flatnonzero(y != 8), np.flatnonzero(y == 8)[:15]]
    return X[kept], symmetric_noise(y[kept], 0.2, random_state=0), X_test[y_test == 8]


@pytest.mark.slow
def test_a_rare_class_keeps_labels_and_is_predicted():
    X, given, eights = rare_digits()
    clf = ALRClassifier(random_state=0).fit(X, given)
    assert (clf.predict(eights) == 8).mean() > 0.1  # 0.0 without the priors
    with pytest.warns(UserWarning, match="keep no row of 8 in y"):
        bare = ALRClassifier(random_state=0, evidence=False).fit(X, given)
    assert (bare.predict(eights) == 8).mean() == 0


@pytest.mark.slow
@pytest.mark.parametrize("evidence", [True, False])
def test_class_weights_leave_labels_alone(evidence):
    X, y = make_classification(
        2000, 10, n_informative=6, weights=[0.95], flip_y=0, class_sep=1.2, random_state=0
    )
    rng = np.random.default_rng(0)
    given = np.where(np.where(y == 1, rng.random(2000) < 0.3, rng.random(2000) < 0.02), 1 - y, y)
    clf = ALRClassifier(class_weight="balanced", evidence=evidence, random_state=0).fit(X, given)
    assert (given != y).sum() == 62
    assert (clf.soft_labels_.argmax(1) != y).sum() < 45  # 180 when weights moved labels
    assert (clf.corrected_labels_ != y).sum() < 45


@pytest.mark.slow
def test_labels_that_correcting_would_harm_are_left_and_it_is_told(data, monkeypatch):
    X, y, _ = data
    choose = cross_fit.compare

    def reverse(plain, corrected, *others, **options):
        noise = fit_noise_model(torch.randn_like(corrected.logits), plain.given)
        return choose(plain, noise, *others, **options)

    monkeypatch.setattr(cross_fit, "compare", reverse)
    for method in METHODS:
        clf = method(**CALM)
        with pytest.warns(UserWarning, match="Labels were left as given"):
            clf.fit(X, y)
        assert not clf.evidence_.is_corrected
        assert clf.n_iter_ == clf.evidence_.plain_epochs
        if method.__name__ in ("ALRClassifier", "SyntheticMixClassifier"):
            np.testing.assert_array_equal(clf.soft_labels_, np.eye(3)[y])


def test_without_evidence_there_is_none(data):
    X, y, _ = data
    few = slice(0, 40)
    bare = ALRClassifier(max_epochs=6, evidence=False)
    for clf, rows in ((bare, slice(None)), (ALRClassifier(**CALM), few)):
        clf.fit(X[rows], y[rows])
        assert clf.evidence_ is None
    plain = ALRClassifier(max_epochs=6, evidence=False, random_state=0).fit(X, y)
    logits = torch.cat(list(plain.net_.forward_iter(X)))
    np.testing.assert_allclose(plain.predict_proba(X), logits.softmax(1), atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_evidence_is_saved_and_outlives_a_killed_fit(method, data, tmp_path):
    pytest.importorskip("safetensors", reason="save and load need safetensors")
    X, y, _ = data

    with warnings.catch_warnings(action="ignore"):
        whole = method(**CALM).fit(X, y)
        dying = method(**CALM, checkpoint_dir=tmp_path / "fit")
        write, written = CheckpointFolder.write, []

        def write_and_die(self, state):
            write(self, state)
            written.append(1)
            if len(written) == 2:
                raise RuntimeError("killed")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(CheckpointFolder, "write", write_and_die)
            if whole.n_iter_ >= 2:
                with pytest.raises(RuntimeError, match="killed"):
                    dying.fit(X, y)
        resumed = method(**CALM, checkpoint_dir=tmp_path / "fit").fit(X, y)
    np.testing.assert_array_equal(resumed.predict_proba(X), whole.predict_proba(X))
    assert str(resumed.evidence_) == str(whole.evidence_)
    whole.save(tmp_path / "clf")
    loaded = method.load(tmp_path / "clf")
    np.testing.assert_array_equal(loaded.predict_proba(X), whole.predict_proba(X))
    assert str(loaded.evidence_) == str(whole.evidence_)


@pytest.mark.slow
def test_a_net_that_does_not_memorize_is_trained_past_the_lowest_loss():
    X, y = make_classification(
        600,
        12,
        n_informative=10,
        n_redundant=0,
        n_classes=8,
        n_clusters_per_class=1,
        random_state=0,
    )
    given = symmetric_noise(y, 0.1, random_state=0)
    found = ALRClassifier(max_epochs=80, random_state=0).fit(X, given).evidence_
    assert found.plain_epochs > found.warmup_epochs
    losses = found.losses_plain
    assert losses[found.warmup_epochs - 1] == losses[: len(found.losses_corrected) // 2].min()


@pytest.mark.slow
def test_pairs_are_seen_by_the_corrected_folds_and_correcting_is_chosen():
    X, y = make_blobs(1200, 8, centers=6, cluster_std=2.0, random_state=0)
    given = pair_noise(y, 0.3, random_state=0)
    clf = ALRClassifier(random_state=0, max_epochs=60).fit(X, given)
    assert clf.evidence_.is_corrected
    assert clf.evidence_.noise_rate == pytest.approx(0.3, abs=0.05)
    issues = clf.label_issues()
    wrong = np.flatnonzero(given != y)
    found = issues.position[issues.is_label_issue]
    assert np.isin(found, wrong).mean() > 0.85
    assert np.isin(wrong, found).mean() > 0.85


@pytest.mark.slow
@pytest.mark.parametrize("as_table", [False, True])
def test_a_noise_model_is_the_same_in_chunks_and_nearly_so_of_a_sample(as_table, monkeypatch):
    logits, _, given = drawn(6000, 4, uniform(0.3, 4), 1.5)
    given = torch.eye(4, dtype=torch.float64)[given] if as_table else given
    whole = fit_noise_model(logits, given)
    at_once = posterior(whole.proba, whole.transition, given)
    symmetric = fit_symmetric_noise(whole, torch.ones(6000))
    monkeypatch.setattr(noise_model, "CHUNK", 400)
    parts = fit_noise_model(logits, given)
    for name in ("transition", "log_likelihood", "joint", "proba"):
        torch.testing.assert_close(getattr(parts, name), getattr(whole, name))
    torch.testing.assert_close(posterior(whole.proba, whole.transition, given), at_once)
    assert fit_symmetric_noise(whole, torch.ones(6000)) == pytest.approx(symmetric)
    assert parts.temperature == pytest.approx(whole.temperature)
    monkeypatch.setattr(noise_model, "MOST_FITTED", 12_000)
    sample = fit_noise_model(logits, given)
    assert len(sample.log_likelihood) == 6000
    torch.testing.assert_close(sample.joint, whole.joint, rtol=0, atol=0.02)
    assert sample.joint.sum() == pytest.approx(1)


@pytest.mark.slow
def test_fits_that_serve_another_keep_no_table(data, monkeypatch):
    kept = []
    logits_of = cross_fit.held_out_logits

    def spy(recipe, data, held_out, nets, prior):
        kept.extend(len(net.criterion_.targets) for net in nets)
        return logits_of(recipe, data, held_out, nets, prior)

    monkeypatch.setattr(cross_fit, "held_out_logits", spy)
    clf = ALRClassifier(**CALM).fit(*data[:2])
    assert kept == [0] * len(kept)
    assert len(kept) >= 4
    assert clf.evidence_.proba.dtype == clf.soft_labels_.dtype
