"""Votes of several annotators: limits, invariances, hand values, and crowd-kit's own call."""

import sys
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.utils.multiclass import type_of_target

from sknoisy import ALRClassifier
from sknoisy.crowd import CrowdLabels, equations
from sknoisy.crowd.network import calibrated

ANIMALS = np.array(["ant", "bee", "cat"])


def simulated(n=300, accuracies=(0.95, 0.9, 0.85, 0.8), n_classes=3, asked=0.7, seed=0):
    """Return votes (n, A) of class numbers, -1 where there is none, and the true classes."""
    rng = np.random.default_rng(seed)
    true = rng.integers(n_classes, size=n)
    shape = n, len(accuracies)
    other = (true[:, None] + rng.integers(1, n_classes, size=shape)) % n_classes
    votes = np.where(rng.random(shape) < accuracies, true[:, None], other)
    return np.where(rng.random(shape) < asked, votes, -1), true


VOTES, TRUE = simulated()
PROBA = 0.4 * np.eye(3)[TRUE] + 0.2
WAYS = ["shares", "dawid_skene", PROBA]
IDS = ["shares", "dawid_skene", "network"]


@pytest.fixture(scope="module")
def crowd():
    return CrowdLabels(VOTES, missing=-1)


@pytest.fixture(scope="module")
def fitted():
    """An estimator that has evidence, without the minutes that it takes."""
    X = np.random.default_rng(0).normal(size=(300, 2)) + 3 * TRUE[:, None]
    clf = ALRClassifier(max_epochs=2, warmup_epochs=1, evidence=False, random_state=0)
    clf.fit(pd.DataFrame(X), TRUE)
    clf.evidence_ = type("Evidence", (), {"proba": PROBA})
    return clf


@pytest.mark.slow
@pytest.mark.parametrize("by", WAYS, ids=IDS)
def test_probabilities_sum_to_one(crowd, by):
    proba = crowd.label_proba(by)
    has_votes = (VOTES >= 0).any(axis=1)
    assert 0 < has_votes.sum() < len(VOTES)
    np.testing.assert_allclose(proba[has_votes].sum(axis=1), 1)
    assert proba.columns.tolist() == [0, 1, 2]
    matrices = crowd.confusion_matrices(by)
    assert matrices.shape == (4, 3, 3)
    np.testing.assert_allclose(matrices.sum(axis=2), 1)


def test_shares_by_hand():
    crowd = CrowdLabels([["bee", "ant", "bee"], ["ant", None, None], [None, None, None]])
    expected = [[1 / 3, 2 / 3], [1, 0], [np.nan, np.nan]]
    np.testing.assert_allclose(crowd.label_proba(), expected)


@pytest.mark.slow
def test_rows_without_votes_are_missing_and_the_networks_own(crowd):
    empty = (VOTES < 0).all(axis=1)
    for by in ("shares", "dawid_skene"):
        assert crowd.label_proba(by)[empty].isna().all(axis=None)
        assert not crowd.label_proba(by)[~empty].isna().any(axis=None)
        found = crowd.consensus(by)[empty]
        assert found.drop(columns="num_annotations").isna().all(axis=None)
        assert (found["num_annotations"] == 0).all()
    own = calibrated(PROBA, crowd._votes)
    np.testing.assert_allclose(crowd.label_proba(PROBA)[empty], own[empty])
    assert (own.argmax(axis=1) == PROBA.argmax(axis=1)).all()
    found = crowd.consensus(PROBA)
    assert (found["consensus_label"][empty] == TRUE[empty]).all()
    assert found["annotator_agreement"][empty].isna().all()


@pytest.mark.parametrize("by", WAYS, ids=IDS)
def test_perfect_annotators_are_recovered(by):
    votes, true = simulated(accuracies=[1] * 4)
    proba = 0.4 * np.eye(3)[true] + 0.2
    crowd = CrowdLabels(votes, missing=-1)
    by = proba if isinstance(by, np.ndarray) else by
    np.testing.assert_allclose(crowd.annotators(by)["annotator_quality"], 1, atol=1e-3)
    np.testing.assert_allclose(crowd.confusion_matrices(by), [np.eye(3)] * 4, atol=2e-2)
    has_votes = (votes >= 0).any(axis=1)
    assert (crowd.consensus(by)["consensus_label"] == true)[has_votes].all()


def test_equal_probabilities_leave_perfect_annotators_their_votes():
    votes, true = simulated(accuracies=[1] * 4)
    proba = CrowdLabels(votes, missing=-1).label_proba(np.full((300, 3), 1 / 3)).to_numpy()
    has_votes = (votes >= 0).any(axis=1)
    np.testing.assert_allclose(proba[has_votes], np.eye(3)[true[has_votes]], atol=0.01)
    np.testing.assert_allclose(proba[~has_votes], 1 / 3)


@pytest.mark.parametrize("by", WAYS[1:], ids=IDS[1:])
def test_known_annotators_are_estimated(by):
    accuracies = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
    votes, true = simulated(3000, accuracies, asked=0.9)
    by = 0.4 * np.eye(3)[true] + 0.2 if isinstance(by, np.ndarray) else by
    table = CrowdLabels(votes, missing=-1).annotators(by)
    assert table.index.tolist() == [4, 3, 2, 1, 0]
    right = [(votes[:, a] == true)[votes[:, a] >= 0].mean() for a in table.index]
    np.testing.assert_allclose(table["annotator_quality"], right, atol=0.03)


def test_a_posterior_by_hand():
    """0.5 * 0.8 * 0.4 against 0.5 * 0.3 * 0.9, and one row without votes."""
    votes = CrowdLabels([[0, 1], [None, None]])._votes
    matrices = np.array([[[0.8, 0.2], [0.3, 0.7]], [[0.6, 0.4], [0.1, 0.9]]])
    found = equations.posterior(votes, np.array([[0.5, 0.5], [0.2, 0.8]]), matrices)
    np.testing.assert_allclose(found, [[0.16 / 0.295, 0.135 / 0.295], [0.2, 0.8]])


def test_confusion_matrices_by_hand():
    """Of 4 votes for rows of class 0 three are right, together with two pseudo-votes like them."""
    votes = CrowdLabels([[0], [0], [0], [1], [1]])._votes
    counts = equations.vote_counts(votes, np.array([[1, 0]] * 4 + [[0, 1]]))
    np.testing.assert_array_equal(counts, [[[3, 1], [0, 1]]])
    np.testing.assert_allclose(equations.confusion_matrices(counts), [[[0.75, 0.25], [0, 1]]])
    two = np.concatenate([counts, [[[1, 0], [0, 0]]]])  # the second voted once
    np.testing.assert_allclose(
        equations.confusion_matrices(two)[1], [[(1 + 2 * 0.8) / 3, 2 * 0.2 / 3], [0, 1]]
    )


def test_annotators_that_pick_rows_of_one_class_have_rates_by_hand():
    """10 votes, all on a class of half the rows: 12 / 7 as often as at random, and 2 / 7."""
    counts = np.array([[[10, 0], [0, 0]]])
    np.testing.assert_allclose(equations.vote_rates(counts, np.array([50, 50])), [[12 / 7, 2 / 7]])
    even = np.array([[[5, 5], [5, 5]]])
    np.testing.assert_allclose(equations.vote_rates(even, np.array([50, 50])), [[1, 1]])


def test_labelling_functions_tell_of_their_class():
    """Each votes for one class alone, where it is right in nine cases of ten."""
    rng = np.random.default_rng(0)
    bee = rng.random(20_000)
    true = (rng.random(20_000) < bee).astype(int)
    votes = np.full((20_000, 4), -1)
    for k in range(4):
        chance = np.where(true == k % 2, 0.09, 0.01)  # abstentions tell little
        votes[rng.random(20_000) < chance, k] = k % 2
    proba = np.column_stack([1 - bee, bee])
    crowd = CrowdLabels(votes, missing=-1)
    assert abs(crowd.annotators(proba)["annotator_quality"].mean() - 0.9) < 0.03
    with pytest.warns(UserWarning, match="100% of the votes are by annotators that vote for one"):
        blind = crowd.label_proba("dawid_skene")
    pd.testing.assert_frame_equal(blind, crowd.label_proba("shares"))


@pytest.mark.slow
@pytest.mark.parametrize("by", WAYS, ids=IDS)
def test_the_order_of_rows_annotators_and_classes_is_nothing(crowd, by):
    rng = np.random.default_rng(1)
    rows, columns, classes = rng.permutation(300), rng.permutation(4), rng.permutation(3)
    votes = np.where(VOTES >= 0, classes[VOTES], -1)[rows][:, columns]
    other = CrowdLabels(pd.DataFrame(votes, columns=columns, index=rows), missing=-1)
    other_by = by if isinstance(by, str) else by[rows][:, np.argsort(classes)]
    found = other.label_proba(other_by).sort_index()[classes]
    np.testing.assert_allclose(found, crowd.label_proba(by), atol=1e-9)
    np.testing.assert_allclose(
        other.confusion_matrices(other_by)[np.argsort(columns)][:, classes][:, :, classes],
        crowd.confusion_matrices(by),
        atol=1e-9,
    )
    table, expected = other.annotators(other_by), crowd.annotators(by)
    assert table.index.tolist() == expected.index.tolist()
    np.testing.assert_allclose(table["annotator_quality"], expected["annotator_quality"])
    assert table["worst_class"].tolist() == classes[expected["worst_class"]].tolist()


def same(one, other):
    assert one.classes.tolist() == other.classes.tolist()
    assert one.annotator_names.tolist() == other.annotator_names.tolist()
    for name, value in vars(one._votes).items():
        np.testing.assert_array_equal(value, vars(other._votes)[name])
    pd.testing.assert_frame_equal(one.label_proba(), other.label_proba())
    pd.testing.assert_frame_equal(one.consensus(), other.consensus())


def test_long_equals_wide():
    frame = pd.DataFrame(VOTES, columns=list("dacb"), index=[f"row {k}" for k in range(300)])
    long = frame.stack().reset_index(name="label").set_axis(["row", "who", "label"], axis=1)
    long = long[long["label"] >= 0].sample(frac=1, random_state=0)
    wide = CrowdLabels(frame[list("abcd")], missing=-1)
    same(CrowdLabels.from_long(long["row"], long["who"], long["label"], index=frame.index), wide)
    positions = frame.index.get_indexer(long["row"])
    found = CrowdLabels.from_long(positions, long["who"], long["label"], index=range(300))
    same(found, CrowdLabels(frame[list("abcd")].reset_index(drop=True), missing=-1))


@pytest.mark.parametrize(
    "index",
    [
        pd.date_range("2024-01-01", periods=2),
        pd.MultiIndex.from_tuples([("u", 1), ("u", 2)]),
        np.array(["v", "u"]),
        pd.Index([7, 3]),
    ],
)
def test_rows_are_named_by_any_index(index):
    rows = index[[1, 0, 1]]
    crowd = CrowdLabels.from_long(rows, ["x", "x", "y"], [0, 1, 0], index=index)
    np.testing.assert_array_equal(crowd.label_proba(), [[0, 1], [1, 0]])
    if isinstance(index, pd.Index):
        assert crowd.label_proba().index.equals(index)


def test_long_votes_that_are_missing_leave_row_and_annotator():
    crowd = CrowdLabels.from_long([0, 1, 2], ["x", "y", "z"], ["a", None, "?"], missing="?")
    assert crowd.annotator_names.tolist() == ["x", "y", "z"]
    assert crowd.consensus()["num_annotations"].tolist() == [1, 0, 0]


def test_dawid_skene_is_crowd_kits():
    from crowdkit.aggregation import DawidSkene

    rows, annotators = np.nonzero(VOTES >= 0)
    triples = {"task": rows, "worker": annotators, "label": VOTES[rows, annotators]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = DawidSkene(100).fit_predict_proba(pd.DataFrame(triples))
    found = CrowdLabels(VOTES, classes=range(4), missing=-1).label_proba("dawid_skene")
    np.testing.assert_array_equal(found.loc[expected.index, expected.columns], expected)
    assert (found.loc[expected.index, 3] == 0).all()


def test_without_crowd_kit_the_extra_is_named(monkeypatch, crowd):
    monkeypatch.setitem(sys.modules, "crowdkit.aggregation", None)
    with pytest.raises(ImportError, match=r"pip install 'sknoisy\[crowd\]'"):
        crowd.label_proba("dawid_skene")


NAMED = pd.DataFrame({"x": ["ant", "bee", None], "y": ["bee", "bee", "ant"]})
NUMBERS = pd.DataFrame({"x": [3, 5, None], "y": [5, 5, 3]})


@pytest.mark.parametrize(
    "votes",
    [
        NAMED,
        NAMED.astype("category"),
        NAMED.astype(object),
        NAMED.to_numpy(),
        NAMED.to_numpy(dtype=object).tolist(),
        pl.DataFrame({"x": ["ant", "bee", None], "y": ["bee", "bee", "ant"]}),
        pl.DataFrame({"x": ["ant", "bee", None], "y": ["bee", "bee", "ant"]}).cast(pl.Categorical),
        NAMED.fillna("-"),
        NAMED.fillna("-").to_numpy(dtype=str),
    ],
)
def test_text_in_every_form(votes):
    crowd = CrowdLabels(votes, missing="-")
    assert crowd.classes.tolist() == ["ant", "bee"]
    np.testing.assert_array_equal(crowd.label_proba(), [[0.5, 0.5], [0, 1], [1, 0]])
    has_names = hasattr(votes, "columns")
    assert crowd.annotator_names.tolist() == (["x", "y"] if has_names else [0, 1])


@pytest.mark.parametrize(
    "votes",
    [
        NUMBERS,
        NUMBERS.astype("Int64"),
        NUMBERS.astype({"y": "int8"}),
        NUMBERS.to_numpy(),
        NUMBERS.astype("Int64").to_numpy(dtype=object),
        [[3, 5], [5, 5], [None, 3]],
        [[3, 5], [5, 5], [np.nan, 3]],
        [[3, 5], [5, 5], [pd.NaT, 3]],
        [[3, 5], [5, 5], [-1, 3]],
        np.ma.masked_equal([[3, 5], [5, 5], [7, 3]], 7),
        torch.tensor([[3, 5], [5, 5], [-1, 3]]),
        torch.tensor([[3, 5], [5, 5], [torch.nan, 3]]),
        pl.DataFrame({"x": [3, 5, None], "y": [5, 5, 3]}),
    ],
)
def test_numbers_in_every_form(votes):
    crowd = CrowdLabels(votes, missing=-1)
    assert crowd.classes.dtype == np.int64
    assert crowd.classes.tolist() == [3, 5]
    np.testing.assert_array_equal(crowd.label_proba(), [[0.5, 0.5], [0, 1], [1, 0]])


def test_categories_that_are_integers_may_be_missing():
    votes = pd.DataFrame({"a": pd.Categorical([1, None]), "b": pd.Categorical([2, 1])})
    expected = CrowdLabels([[1, 2], [None, 1]]).label_proba()
    pd.testing.assert_frame_equal(CrowdLabels(votes).label_proba(), expected)


def test_booleans_stay_booleans():
    crowd = CrowdLabels(pd.DataFrame({"x": [True, None], "y": [False, False]}))
    assert crowd.classes.tolist() == [False, True]
    assert crowd.consensus()["consensus_label"].tolist()[1] is False


def test_minus_one_is_a_class_unless_it_is_named():
    votes = [[-1, 1], [1, 1]]
    assert CrowdLabels(votes).classes.tolist() == [-1, 1]
    assert CrowdLabels(votes, missing=-1).classes.tolist() == [1]


def test_tables_have_the_index_of_the_votes():
    frame = pd.DataFrame([["a", "b"], ["b", "b"]], index=["u", "v"], columns=["x", "y"])
    crowd = CrowdLabels(frame)
    assert crowd.label_proba().index.tolist() == ["u", "v"]
    assert crowd.consensus().index.tolist() == ["u", "v"]
    assert sorted(crowd.annotators().index) == ["x", "y"]
    assert repr(crowd) == "CrowdLabels(4 votes of 2 annotators for 2 rows, classes ['a', 'b'])"


def test_tables_by_hand():
    crowd = CrowdLabels([["a", "a", "b"], ["b", "b", "b"], [None, "b", None]])
    table = crowd.consensus()
    assert table["consensus_label"].tolist() == ["a", "b", "b"]
    np.testing.assert_allclose(table["consensus_quality_score"], [2 / 3, 1, 1])
    np.testing.assert_allclose(table["annotator_agreement"], [2 / 3, 1, 1])
    assert table["num_annotations"].tolist() == [3, 3, 1]
    table = crowd.annotators()
    assert table.index.tolist() == [2, 0, 1]
    np.testing.assert_allclose(table["annotator_quality"], [(1 / 3 + 1) / 2, 5 / 6, 8 / 9])
    np.testing.assert_allclose(table["agreement_with_consensus"], [1 / 2, 1, 1])
    assert table["num_examples_labeled"].tolist() == [2, 2, 3]
    assert table.loc[2, ["worst_class", "worst_class_voted_as"]].tolist() == ["a", "b"]


def test_an_annotator_without_votes_is_listed_last():
    table = CrowdLabels([["a", None, "b"], ["b", None, "b"]]).annotators()
    assert table.index.tolist()[-1] == 1
    assert table.iloc[-1].drop("num_examples_labeled").isna().all()
    assert table["num_examples_labeled"].tolist()[-1] == 0


def test_the_class_an_annotator_is_bad_at_is_named():
    votes, true = simulated(2000, [0.9] * 4, asked=1)
    votes[(true == 1), 2] = 0  # ants for bees
    crowd = CrowdLabels(ANIMALS[votes])
    for by in ("shares", "dawid_skene", 0.4 * np.eye(3)[true] + 0.2):
        table = crowd.annotators(by)
        assert table.index[0] == 2
        assert table.iloc[0][["worst_class", "worst_class_voted_as"]].tolist() == ["bee", "ant"]


def test_nobody_is_worst_at_a_class_that_no_row_has():
    classes = np.arange(4)
    crowd = CrowdLabels(VOTES, classes=classes, missing=-1)
    rest = np.column_stack([0.999 * PROBA, np.full(len(PROBA), 0.001)])
    assert set(crowd.annotators(rest)["worst_class"]) <= {0, 1, 2}


def test_without_pandas_arrays(monkeypatch, crowd):
    frames = crowd.annotators(), crowd.consensus(), crowd.label_proba()
    monkeypatch.setitem(sys.modules, "pandas", None)
    for array, frame in zip((crowd.annotators(), crowd.consensus()), frames, strict=False):
        assert array.dtype.names == ("row", *frame.columns)
        np.testing.assert_array_equal(array["row"], frame.index)
        name = array.dtype.names[-1]
        np.testing.assert_array_equal(array[name], frame[name])
    np.testing.assert_array_equal(crowd.label_proba(), frames[2])


def test_an_estimator_gives_its_out_of_sample_probabilities(crowd, fitted):
    expected = pd.DataFrame(equations.learn_from_crowd(crowd._votes, PROBA))
    pd.testing.assert_frame_equal(crowd.label_proba(fitted), expected)
    pd.testing.assert_frame_equal(crowd.label_proba(make_pipeline("passthrough", fitted)), expected)


def test_columns_of_a_frame_of_probabilities_are_matched_by_their_names():
    crowd = CrowdLabels(ANIMALS[VOTES], classes=ANIMALS)
    frame = pd.DataFrame(PROBA[:, ::-1], columns=ANIMALS[::-1])
    np.testing.assert_allclose(crowd.label_proba(frame), crowd.label_proba(PROBA))


@pytest.mark.parametrize(
    ("votes", "arguments", "message"),
    [
        ([0, 1, 1], {}, r"shape \(n_samples, n_annotators\).*got \(3,\).*from_long"),
        (np.empty((0, 2)), {}, r"each at least 1, got \(0, 2\)"),
        ([[0, 1], [1]], {}, "shape|same length"),
        ([[None, np.nan]], {}, "must hold a vote, got none"),
        ([[-1, -1]], {"missing": -1}, "must hold a vote, got none"),
        ([["a", 1]], {}, "votes must hold labels of one type.*number and text"),
        ([[0.5, 1]], {}, "numbers only whole ones .*got 0.5; probabilities .* label_proba"),
        ([[0, 2]], {"classes": [0, 1]}, r"votes must hold labels of classes, got 2; .*\[0, 1\]"),
        ([["a", "b"]], {"classes": [0, 1]}, "votes must hold labels of classes, got 'a'"),
        ([[1e30, 1]], {}, r"whole ones up to 2 \*\* 53, got 1e\+30"),
        (
            pd.DataFrame({"a": [[0], [1, 1]]}),
            {},
            r"one label a cell, got \[0\]; give each",
        ),
        ([[0, 1]], {"classes": 2}, "classes must hold all labels.*got 2"),
        ([[0, 1]], {"classes": []}, r"classes must hold all labels.*got \[\]"),
        ([[-1, 1]], {"missing": "-1"}, r"missing must be one label.*such as \[-1, 1\], got '-1'"),
        ([["-1", "a"]], {"missing": -1}, "missing must be one label, .*type of the votes.* got -1"),
        ([[-1, 1]], {"missing": [-1, -2]}, r"missing must be one label.*got \[-1, -2\]"),
    ],
)
def test_wrong_votes_are_named(votes, arguments, message):
    with pytest.raises(ValueError, match=message):
        CrowdLabels(votes, **arguments)


@pytest.mark.parametrize(
    ("triples", "index", "message"),
    [
        (([0, 1], ["x"], [1, 1]), None, r"the same shape .*got \(2,\), \(1,\) and \(2,\)"),
        (([0, 1], ["x", "y"], [[1, 1]]), None, r"and \(1, 2\); .* by CrowdLabels\(votes\)"),
        (([0, -1], ["x", "x"], [1, 1]), None, r"positions 0, 1, .* got \[0, -1\]; pass index"),
        ((["u", "v"], ["x", "x"], [1, 1]), None, "positions .* pass index"),
        ((["u", "w"], ["x", "x"], [1, 1]), ["u", "v"], "rows must be in index, got 'w', 1 of 2"),
        ((["u", "v"], ["x", "x"], [1, 1]), ["u", "u", "v"], "index must name each row of X once"),
        (([3, 3], ["x", "x"], [1, 2]), None, "got 2 votes of annotator x for row 3; .*duplicates"),
        (([0, 1], ["x", None], [1, 1]), None, "annotators must hold labels"),
    ],
)
def test_wrong_triples_are_named(triples, index, message):
    with pytest.raises(ValueError, match=message):
        CrowdLabels.from_long(*triples, index=index)


@pytest.mark.parametrize(
    ("by", "message"),
    [
        ("majority", "by must be 'shares', 'dawid_skene', .* got 'majority'"),
        (PROBA[:, :2], r"by must .*got \(300, 2\) and 3 classes"),
        (PROBA[:9], "a row for each row of votes, got 9 and 300 rows"),
        (PROBA * 2, "rows that sum to 1"),
        (pd.DataFrame(PROBA, columns=list("abc")), "columns of classes"),
    ],
)
def test_what_classes_are_asked_by_is_checked(crowd, by, message):
    for ask in (crowd.label_proba, crowd.annotators, crowd.consensus, crowd.confusion_matrices):
        with pytest.raises(ValueError, match=message):
            ask(by)


def test_estimators_that_cannot_tell_say_so(crowd, fitted):
    with pytest.raises(TypeError, match="of this library, got LogisticRegression.*cross_val_pred"):
        crowd.label_proba(LogisticRegression())
    with pytest.raises(ValueError, match=r"classes of the votes, \[0, 1, 2, 3\], got \[0, 1, 2\]"):
        CrowdLabels(VOTES, classes=range(4), missing=-1).label_proba(fitted)
    plain = ALRClassifier(max_epochs=2, warmup_epochs=1, evidence=False, random_state=0)
    plain.fit(np.random.default_rng(0).normal(size=(300, 2)), TRUE)
    with pytest.raises(ValueError, match="evidence_ is None; fit it with evidence=True, or pass"):
        crowd.label_proba(plain)


def test_rows_in_another_order_are_refused():
    index = pd.Index([f"row {k}" for k in range(300)])
    crowd = CrowdLabels(pd.DataFrame(VOTES, index=index), missing=-1)
    crowd.label_proba(pd.DataFrame(PROBA, index=index))
    shuffled = pd.DataFrame(PROBA, index=index[::-1])
    with pytest.raises(ValueError, match=r"votes must .* in the order of by.*votes.loc\[X.index\]"):
        crowd.label_proba(shuffled)


def test_columns_in_another_order_than_the_classes_are_told(crowd):
    message = r"columns of by are taken to be \[0, 1, 2\].*In the order \[1, 2, 0\].*pass a frame"
    with pytest.warns(UserWarning, match=message):
        crowd.consensus(PROBA[:, [1, 2, 0]])
    crowd.consensus(pd.DataFrame(PROBA[:, [1, 2, 0]], columns=[1, 2, 0]))


@pytest.mark.parametrize(
    ("votes", "kind"), [([[0], [-1]], "Int64"), (np.array([[True], [None]]), "boolean")]
)
def test_consensus_labels_of_some_rows_alone_keep_their_type(votes, kind):
    classes = [0, 1] if kind == "Int64" else [False, True]
    labels = CrowdLabels(votes, classes=classes, missing=-1).consensus()["consensus_label"]
    assert labels.dtype == kind
    assert type_of_target(labels.dropna()) == "binary"


def test_how_sure_a_classifier_is_does_not_matter():
    rng = np.random.default_rng(0)
    true = rng.integers(3, size=600)
    votes = np.where(rng.random((600, 3)) < 0.75, true[:, None], rng.integers(3, size=(600, 3)))
    logits = 2.0 * np.eye(3)[true] + rng.normal(size=(600, 3))
    found = []
    for sharpness in (0.3, 1.0, 3.0):
        proba = np.exp(sharpness * logits)
        found.append(CrowdLabels(votes).label_proba(proba / proba.sum(axis=1, keepdims=True)))
    assert (found[1].to_numpy().argmax(axis=1) == true).mean() > 0.93
    for other in (found[0], found[2]):  # but for what the least probability cuts off
        assert abs(other - found[1]).to_numpy().mean() < 0.02
