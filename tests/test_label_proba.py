"""Soft labels go in: shares of votes, counts, probabilities of a label model."""

import functools

import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
import torch
from conftest import METHODS
from make_references import Float64Net
from scipy import sparse
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sknoisy import ALRClassifier, MetaLabelNetClassifier, SyntheticMixClassifier
from sknoisy.crowd import CrowdLabels
from sknoisy.inputs import TrainingData, read_training_data
from sknoisy.issues import find_label_issues
from sknoisy.label_proba import LabelProba, most_probable
from sknoisy.training.judging import fit_symmetric_noise
from sknoisy.training.noise_model import calibrated_loss, fit_noise_model
from sknoisy.training.recipe import NetRecipe
from sknoisy.training.targets import SoftTargetLoss

OURS = METHODS[:3]
pytestmark = pytest.mark.filterwarnings(
    "ignore:No trusted rows:UserWarning",
    "ignore:max_epochs must:UserWarning",
    "ignore:mix_start:UserWarning",
    "ignore:target_momentum:UserWarning",
    "ignore:Labels were left:UserWarning",
)


@pytest.fixture(params=OURS, ids=lambda method: method.__name__)
def ours(request):
    return request.param


@pytest.fixture(scope="module")
def votes():
    """Three classes, 240 rows with five votes each: X, shares of votes, true labels."""
    rng = np.random.default_rng(0)
    true = rng.integers(0, 3, 240)
    X = (rng.normal(size=(240, 6)) + 3 * np.eye(3, 6)[true]).astype(np.float32)
    given = np.where(rng.random((240, 5)) < 0.7, true[:, None], rng.integers(0, 3, (240, 5)))
    return X, np.stack([(given == k).mean(axis=1) for k in range(3)], axis=1), true


def short(method, **params):
    small = {} if "module" in params else {"module__hidden": 64, "lr": 0.003}
    return method(**{"max_epochs": 6, "random_state": 0} | small | params)


def same(clf, other, X):
    np.testing.assert_array_equal(clf.predict_proba(X), other.predict_proba(X))
    np.testing.assert_array_equal(clf.soft_labels_, other.soft_labels_)


@pytest.mark.slow
@pytest.mark.evidence
def test_one_hot_rows_are_y_itself(ours, votes):
    X, shares, _ = votes
    y = shares.argmax(axis=1)
    clf = short(ours).fit(X, y)
    same(clf, short(ours).fit(X, y, label_proba=np.eye(3)[y]), X)
    same(clf, short(ours).fit(X, label_proba=7 * np.eye(3)[y]), X)


@pytest.mark.evidence
def test_no_network_of_a_fit_writes_into_the_table_that_the_next_begins_with(votes, monkeypatch):
    X, shares, _ = votes
    criterion, seen = NetRecipe.criterion, []

    def spied(recipe, data, *arguments, **options):
        seen.append(data.label_proba)
        return criterion(recipe, data, *arguments, **options)

    monkeypatch.setattr(NetRecipe, "criterion", spied)
    clf = short(ALRClassifier, module=Float64Net, lr=0.01, warmup_epochs=1, momentum=0.5)
    assert not np.allclose(clf.fit(X, label_proba=shares).soft_labels_, shares)
    assert len(seen) == 5
    for table in seen:
        np.testing.assert_allclose(table, shares, rtol=1e-12)


@pytest.mark.slow
def test_counts_frames_tensors_and_sparse_tables_are_shares(votes):
    X, shares, _ = votes
    expected = short(ALRClassifier).fit(X, label_proba=shares)
    counts = 5 * shares
    reversed_columns = pd.DataFrame(counts[:, ::-1], columns=[2, 1, 0])
    of_polars = pl.DataFrame(counts, schema=["0", "1", "2"])
    others = counts.tolist(), torch.from_numpy(counts), sparse.csr_array(counts)
    for table in (counts, reversed_columns, of_polars, *others):
        y = None if not isinstance(table, pl.DataFrame) else shares.argmax(axis=1)
        clf = short(ALRClassifier).fit(X, y, label_proba=table)
        np.testing.assert_allclose(
            clf.predict_proba(X), expected.predict_proba(X), rtol=1e-4, atol=1e-5
        )
        assert clf.classes_.tolist() == [0, 1, 2]


def test_the_table_begins_with_it_and_y_is_the_given_label(ours, votes):
    X, shares, _ = votes
    y = np.random.default_rng(1).permutation(shares.argmax(axis=1))
    clf = short(ours, warmup_epochs=6, evidence=False)
    clf = clf.set_params(mix_start=7) if ours is SyntheticMixClassifier else clf
    clf.fit(X, y, label_proba=shares)
    np.testing.assert_allclose(clf.soft_labels_, shares, rtol=1e-6)
    assert (clf.given_labels_ == y).all()
    assert (clf.fit(X, label_proba=shares).given_labels_ == most_probable(shares)).all()


def test_ties_are_broken_in_no_order_of_the_classes():
    table = np.tile([0.4, 0.2, 0.4], (1000, 1))
    picked = most_probable(table)
    assert set(picked) == {0, 2}
    assert 400 < (picked == 0).sum() < 600
    assert (picked == most_probable(table)).all()
    assert (most_probable(np.eye(3)[[2, 0, 1]]) == [2, 0, 1]).all()


def test_the_columns_of_a_frame_are_the_classes_in_any_order(votes):
    X, shares, true = votes
    names = np.array(["ant", "bee", "cat"])
    frame = pd.DataFrame(shares, columns=names)[["cat", "ant", "bee"]]
    clf = short(ALRClassifier, max_epochs=30).fit(X, label_proba=frame)
    assert clf.classes_.tolist() == names.tolist()
    assert clf.score(X, names[true]) > 0.85
    numbered = short(ALRClassifier, max_epochs=30).fit(X, label_proba=shares)
    np.testing.assert_array_equal(clf.predict_proba(X), numbered.predict_proba(X))


@pytest.mark.parametrize("frame", [pl.DataFrame, pd.DataFrame])
def test_columns_called_by_texts_of_numbers_are_these_numbers(frame):
    """Texts sort "10" before "2"."""
    y = np.arange(48) % 12
    table = 0.9 * np.eye(13)[y] + 0.1 / 13
    data = read_training_data(
        ALRClassifier(), y[:, None], y, None, frame({str(k): table[:, k] for k in range(13)})
    )
    assert data.classes.tolist() == list(range(13))
    np.testing.assert_allclose(data.label_proba, table)


def test_numbered_columns_are_not_taken_for_texts_in_another_order():
    y = np.arange(48) % 12
    frame = pd.DataFrame(0.9 * np.eye(12)[y] + 0.1 / 12)
    with pytest.raises(ValueError, match=r"label_proba must .* called by the classes.*columns=str"):
        read_training_data(ALRClassifier(), y[:, None], y.astype(str), None, frame)
    named = frame.rename(columns=str)
    data = read_training_data(ALRClassifier(), y[:, None], y.astype(str), None, named)
    np.testing.assert_allclose(data.label_proba, named[data.classes])
    with pytest.raises(ValueError, match=r"pred_probs must have columns called by the classes"):
        find_label_issues(y=y.astype(str), pred_probs=frame)
    by_position = find_label_issues(y=y.astype(str), pred_probs=frame, classes=named.columns)
    assert not by_position["is_label_issue"].any()


@pytest.mark.parametrize("given", [CrowdLabels([["a", "b"]] * 2), pd.DataFrame({"u": ["a", "b"]})])
def test_votes_in_the_place_of_their_shares_are_told_where_to_go(given):
    with pytest.raises(ValueError, match=r"numbers.*CrowdLabels\(votes\)\.label_proba\(\)"):
        LabelProba.read(given, np.eye(2))


def test_labels_that_votes_leave_out_need_no_y():
    crowd = CrowdLabels([[0, 1], [-1, -1], [1, 1]] * 4, missing=-1)
    with pytest.raises(TypeError, match=r"got CrowdLabels; .* label_proba=crowd.label_proba\(\)"):
        ALRClassifier().fit(np.eye(12), crowd)
    with pytest.raises(ValueError, match="got nan in row 1.*With label_proba y may be left out"):
        ALRClassifier().fit(
            np.eye(12), crowd.consensus()["consensus_label"], label_proba=crowd.label_proba()
        )


def test_where_y_is_encoded_an_array_is_asked_for(votes):
    X, shares, true = votes
    frame, y = pd.DataFrame(shares, columns=list("abc")), np.array(list("abc"))[true]
    clf = short(ALRClassifier, max_epochs=1, evidence=False)
    ask = functools.partial(cross_val_predict, clf, X, y, cv=2, method="predict_proba")
    with pytest.raises(ValueError, match=r"got none for 0;.*pass label_proba\.to_numpy\(\)"):
        ask(params={"label_proba": frame})
    assert ask(params={"label_proba": frame.to_numpy()}).shape == shares.shape


def test_a_class_that_no_row_has_as_its_label_keeps_its_column(votes):
    X, shares, _ = votes
    rare = np.column_stack([shares[:, :2] + 2 * shares[:, 2:] / 5, shares[:, 2] / 5])
    y = rare.argmax(axis=1)
    assert y.max() == 1
    clf = short(ALRClassifier, class_weight="balanced").fit(X, y, label_proba=rare)
    assert clf.classes_.tolist() == [0, 1, 2]
    assert clf.predict_proba(X).shape == (len(X), 3)
    with pytest.raises(ValueError, match="a column for each class of y, got 3 columns and 2"):
        clf.fit(X, np.array(["a", "b"])[y], label_proba=rare)


@pytest.mark.slow
@pytest.mark.evidence
@pytest.mark.parametrize("kind", [ALRClassifier, SyntheticMixClassifier])
def test_a_row_without_any_vote_is_a_row_of_weight_0(kind, votes):
    X, shares, _ = votes
    y, none = shares.argmax(axis=1), np.arange(len(X)) % 4 == 0
    hot = np.eye(3)[y]
    hot[none] = np.nan
    clf = short(kind).fit(X, y, label_proba=hot)
    weighed = short(kind).fit(X, y, np.where(none, 0.0, 1.0))
    np.testing.assert_allclose(clf.predict_proba(X), weighed.predict_proba(X), rtol=1e-5)
    np.testing.assert_allclose(clf.soft_labels_[~none], weighed.soft_labels_[~none], rtol=1e-5)
    net = clf.net_.predict_proba(X)
    np.testing.assert_allclose(clf.soft_labels_[none], net[none], rtol=1e-5)
    wrong = np.where(none, (y + 1) % 3, y)  # what y says of such a row is not read
    np.testing.assert_array_equal(
        short(kind).fit(X, wrong, label_proba=hot).predict_proba(X), clf.predict_proba(X)
    )


def test_a_row_without_any_vote_is_unlabeled_to_meta_label_net():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(40, 4)), np.arange(40) % 3
    params = {"warmup_epochs": 3, "max_epochs": 8, "batch_size": -1, "evidence": False}
    params |= {"optimizer": torch.optim.SGD, "lr": 0.1, "random_state": 0}
    meta = {"meta_X": X[:6], "meta_y": y[:6]}
    hot = np.eye(3)[y]
    hot[30:] = np.nan
    clf = MetaLabelNetClassifier(Float64Net, **params).fit(X, y, label_proba=hot, **meta)
    other = MetaLabelNetClassifier(Float64Net, **params)
    other.fit(X[:30], y[:30], unlabeled_X=X[30:], **meta)
    np.testing.assert_allclose(clf.predict_proba(X), other.predict_proba(X), rtol=1e-9)
    np.testing.assert_allclose(clf.soft_labels_[:30], other.soft_labels_, rtol=1e-9)
    without = MetaLabelNetClassifier(Float64Net, **params).fit(X[:30], y[:30], **meta)
    assert abs(clf.predict_proba(X) - without.predict_proba(X)).max() > 1e-4


@pytest.mark.slow
@pytest.mark.evidence
def test_tables_of_labels_leave_out_rows_without_any_vote(votes):
    X, shares, _ = votes
    index = pd.Index([f"row {k}" for k in range(len(X))])
    table = pd.DataFrame(shares, index=index)
    table.iloc[::3] = np.nan
    clf = short(ALRClassifier, max_epochs=30).fit(pd.DataFrame(X, index=index), label_proba=table)
    issues = clf.label_issues()
    assert sorted(issues["position"]) == [k for k in range(len(X)) if k % 3]
    assert (issues.index == index[issues["position"]]).all()
    proba, rows = clf.evidence_.proba, issues["position"].to_numpy()
    own = np.arange(len(rows)), clf.given_labels_[rows]
    votes = torch.from_numpy(shares[rows])
    by = [clf.evidence_.posterior(votes, rows, is_symmetric=kind)[own] for kind in (True, False)]
    quality = np.mean(by, axis=0)
    np.testing.assert_allclose(issues["label_quality"], quality, atol=1e-6)
    assert (clf.corrected_labels_[::3] == proba.argmax(axis=1)[::3]).all()
    assert clf.evidence_.n_rows == len(issues)


@pytest.mark.slow
@pytest.mark.evidence
def test_file_pickle_and_checkpoint_hold_it(ours, votes, tmp_path):
    X, shares, _ = votes
    table = np.where(np.arange(len(X))[:, None] % 5 == 0, np.nan, shares)
    y = shares.argmax(axis=1)
    clf = short(ours).fit(X, y, label_proba=table)
    clf.save(tmp_path / "clf")
    loaded = ours.load(tmp_path / "clf")
    same(clf, loaded, X)
    assert clf.label_issues().equals(loaded.label_issues())
    checked = short(ours, checkpoint_dir=tmp_path / "fit")
    same(clf, checked.fit(X, y, label_proba=table), X)
    same(clf, checked.fit(X, y, label_proba=table), X)  # ended before
    for other in (table[:, [0, 2, 1]], None):
        with pytest.raises(ValueError, match="holds a fit with .*label_proba"):
            checked.fit(X, y, label_proba=other)


@pytest.mark.slow
def test_it_is_routed_and_cut_to_the_folds(votes):
    X, shares, true = votes
    y = shares.argmax(axis=1)
    pipe = make_pipeline(StandardScaler(), short(ALRClassifier))
    direct = pipe.fit(X, y, alrclassifier__label_proba=shares).predict_proba(X)
    with sklearn.config_context(enable_metadata_routing=True):
        clf = short(ALRClassifier).set_fit_request(label_proba=True)
        pipe = make_pipeline(StandardScaler(), clf)
        np.testing.assert_array_equal(pipe.fit(X, y, label_proba=shares).predict_proba(X), direct)
        found = cross_validate(
            clf, X, y, cv=3, params={"label_proba": pd.DataFrame(shares)}, return_estimator=True,
            return_indices=True,
        )  # fmt: skip
        search = GridSearchCV(pipe, {"alrclassifier__momentum": [0.8, 0.9]}, cv=2)
        assert search.fit(X, y, label_proba=shares).best_estimator_.score(X, true) > 0.5
    for fold, train in zip(found["estimator"], found["indices"]["train"], strict=True):
        again = short(ALRClassifier).fit(X[train], y[train], label_proba=shares[train])
        np.testing.assert_array_equal(fold.predict_proba(X), again.predict_proba(X))


def test_a_datasets_rows_take_it_and_keep_their_own_labels(votes):
    X, shares, true = votes
    pairs = torch.utils.data.TensorDataset(torch.from_numpy(X), torch.from_numpy(true))
    clf = short(ALRClassifier).fit(pairs, label_proba=shares)
    assert (clf.given_labels_ == true).all()
    rows = torch.utils.data.TensorDataset(torch.from_numpy(X))
    clf = short(ALRClassifier).fit(rows, label_proba=shares)
    assert (clf.given_labels_ == most_probable(shares)).all()


def test_distributions_that_are_one_hot_have_the_noise_model_of_their_numbers():
    torch.manual_seed(0)
    logits, labels = 2 * torch.randn(300, 4), torch.randint(4, (300,))
    logits[torch.arange(300), labels] += 2
    weights = torch.rand(300)
    of_numbers = fit_noise_model(logits, labels, weights)
    of_table = fit_noise_model(logits, torch.eye(4, dtype=torch.float64)[labels], weights)
    for name in ("transition", "log_likelihood", "joint"):
        torch.testing.assert_close(getattr(of_numbers, name), getattr(of_table, name))
    one, other = (fit_symmetric_noise(model, weights) for model in (of_numbers, of_table))
    assert one == pytest.approx(other)
    assert of_table.temperature == pytest.approx(of_numbers.temperature)
    assert calibrated_loss(logits, torch.eye(4)[labels], weights) == pytest.approx(
        calibrated_loss(logits, labels, weights)
    )


def test_a_distribution_counts_as_its_labels_in_proportion():
    torch.manual_seed(0)
    logits = 2 * torch.randn(200, 3)
    votes = torch.randint(3, (200, 4))
    shares = torch.nn.functional.one_hot(votes, 3).double().mean(dim=1)
    apart = fit_noise_model(
        logits.repeat_interleave(4, 0), votes.flatten(), torch.full((800,), 0.25)
    )
    together = fit_noise_model(logits, shares)
    torch.testing.assert_close(together.transition, apart.transition, rtol=1e-4, atol=1e-5)
    assert together.temperature == pytest.approx(apart.temperature, rel=1e-3)


@pytest.mark.evidence
def test_sample_weights_multiply_it(votes):
    X, shares, _ = votes
    weights = np.where(np.arange(len(X)) % 2, 2.0, 0.0)
    half = short(ALRClassifier, evidence=False, batch_size=-1, warmup_epochs=2)
    weighed = half.fit(X, None, weights, label_proba=shares).soft_labels_[1::2]
    table = np.where(weights[:, None] > 0, shares, np.nan)
    given = half.fit(X, label_proba=table).soft_labels_[1::2]
    np.testing.assert_allclose(weighed, given, rtol=1e-5)


def test_reverted_labels_are_the_given_ones():
    given = torch.tensor([[0.6, 0.4], [0.9, 0.1], [0.0, 1.0]])
    criterion = SoftTargetLoss(given.clone(), given=given.argmax(dim=1))
    criterion.targets[:] = torch.tensor([[0.5, 0.5], [0.0, 1.0], [0.1, 0.9]])
    criterion.revert(criterion.to_revert(1 / 3, torch.arange(3)))
    # fits .5, .1, .9: the one that fits least is corrected, the others are reverted
    torch.testing.assert_close(
        criterion.targets, torch.tensor([[0.6, 0.4], [0.0, 1.0], [0.0, 1.0]])
    )


BAD = {
    "one dimension": (lambda P: P[:, 0], r"a row for each row of X and a column for each class"),
    "rows": (lambda P: P[:-1], r"got shape \(239, 3\) and 240 rows of X"),
    "one column": (lambda P: P[:, :1], "two or more"),
    "text": (lambda P: P.astype(str).astype(object) + "x", "label_proba must hold numbers"),
    "negative": (lambda P: P - 0.5, "at least 0, got .* in row 0; of logits pass softmax"),
    "zeros": (lambda P: P * (np.arange(240)[:, None] != 7), "positive sum, got .* in row 7; a row"),
    "NaN in part": (
        lambda P: np.where((np.arange(240)[:, None] == 5) & (np.arange(3) == 1), np.nan, P),
        "NaN in a whole row, got .* in row 5",
    ),
    "infinite": (lambda P: np.where(np.arange(240)[:, None] == 5, np.inf, P), "finite numbers"),
    "nothing": (lambda P: np.full_like(P, np.nan), "a distribution for some row, got NaN in all"),
    "width": (lambda P: np.column_stack([P, P[:, 0]]), "got 4 columns and 3 classes"),
    "other names": (
        lambda P: pd.DataFrame(P, columns=["a", "b", "d"]),
        r"none for 'c'; its columns are \['a', 'b', 'd'\]",
    ),
    "a column twice": (lambda P: pd.DataFrame(P, columns=["a", "b", "b"]), "a column a class"),
    "names of several types": (lambda P: pd.DataFrame(P, columns=["a", "b", 3]), "of one type"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_tables_are_refused_by_row_and_rule(name, votes):
    X, shares, true = votes
    spoil, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        ALRClassifier().fit(X, np.array(["a", "b", "c"])[true], label_proba=spoil(shares))


def test_rows_in_another_order_are_refused(votes):
    X, shares, _ = votes
    index = pd.Index(np.arange(len(X))[::-1])
    with pytest.raises(ValueError, match=r"in the order of X.*pass label_proba.loc\[X.index\]"):
        ALRClassifier().fit(pd.DataFrame(X), label_proba=pd.DataFrame(shares, index=index))
    table = LabelProba.read(pd.DataFrame(shares), pd.DataFrame(X)).table
    np.testing.assert_allclose(table, shares)


def test_a_trusted_row_needs_a_label(votes):
    X, shares, _ = votes
    table = np.where(np.arange(len(X))[:, None] == 4, np.nan, shares)
    with pytest.raises(ValueError, match="got True for row 4, where label_proba is NaN; give"):
        MetaLabelNetClassifier().fit(X, label_proba=table, trusted=np.arange(len(X)) < 9)


def test_a_row_without_a_label_weighs_as_others_do_and_loses_no_class():
    table = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.5, 0.5], [1.0, 0.0]])
    weights = torch.tensor([2.0, 0.0, 1.0, 1.0])
    criterion = SoftTargetLoss(table, weights, given=torch.tensor([0, 1, 0, 0]))
    assert criterion.is_labeled().tolist() == [True, False, True, True]
    criterion.weigh_unlabeled()
    assert criterion.weights.tolist() == [1.5, 1.0, 0.75, 0.75]
    assert weights.tolist() == [2.0, 0.0, 1.0, 1.0]  # of the training data, for other nets
    assert criterion.lost_classes() == []  # what y says of the second row is not read
    torch.testing.assert_close(criterion.count_given(torch.ones(4)), torch.tensor([2.5, 0.5]))


def test_priors_count_votes_as_rows_weigh():
    table = torch.tensor([[0.5, 0.5], [0.0, 1.0], [1.0, 0.0]], dtype=torch.float64)
    labels, weights = np.array([0, 1, 0]), torch.tensor([2.0, 0.0, 1.0], dtype=torch.float64)
    data = TrainingData(None, labels, np.arange(2), weights, weights, label_proba=table)
    assert data.given_prior.tolist() == pytest.approx([2 / 3, 1 / 3])
    plain = TrainingData(None, labels, np.arange(2), None, None, label_proba=table)
    assert plain.given_prior.tolist() == [0.5, 0.5]


def test_tables_carry_the_index_of_label_proba_where_nothing_else_has_one(votes):
    X, shares, *_ = votes
    frame = pd.DataFrame(shares, index=[f"row {k}" for k in range(len(shares))])
    clf = ALRClassifier(max_epochs=2, evidence=False, random_state=0).fit(X, label_proba=frame)
    issues = clf.label_issues()
    assert len(issues)
    assert issues.index.tolist() == frame.index[issues["position"]].tolist()
