"""Tables of wrong labels: hand values, limits and invariances."""

import sys

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import make_blobs
from sklearn.exceptions import NotFittedError
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV, RandomizedSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sknoisy import ALRClassifier, MetaLabelNetClassifier, SyntheticMixClassifier
from sknoisy.confident_learning import joint_distribution, label_quality
from sknoisy.issues import (
    class_quality,
    corrected_labels,
    find_label_issues,
    noise_rate,
    noise_transition_matrix,
)
from sknoisy.noise import pair_noise

PROBA = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.1, 0.9], [0.3, 0.7], [0.8, 0.2]])
GIVEN = np.array([0, 0, 0, 1, 1, 1])


def names(y):
    return np.array(["ant", "bee", "cat", "dog"])[y]


@pytest.fixture(scope="module")
def fitted():
    X, y = make_blobs(400, centers=3, random_state=1)
    noisy = pair_noise(y, 0.2, random_state=0)
    return ALRClassifier(max_epochs=40, random_state=0).fit(X, names(noisy)), y, noisy


def test_quality_is_the_scaled_margin():
    quality = label_quality([[0.7, 0.2, 0.1], [0.7, 0.2, 0.1], [1, 0, 0]], np.array([0, 1, 2]))
    np.testing.assert_allclose(quality, [0.75, 0.25, 0.005])


def test_tiny_probabilities_of_the_given_label_count_alike():
    quality = label_quality([[1e-9, 0.8, 0.2], [1e-3, 0.5, 0.499]], np.array([0, 0]))
    np.testing.assert_allclose(quality, [0.105, 0.255])


def test_table_by_hand():
    table = find_label_issues(pred_probs=PROBA, y=names(GIVEN))
    assert list(table.columns) == [
        "is_label_issue", "label_quality", "given_label", "predicted_label", "position",
    ]  # fmt: skip
    assert table.index.tolist() == [1, 5, 2, 4, 0, 3]
    assert table["is_label_issue"].tolist() == [True, True] + [False] * 4
    assert table.loc[1, ["given_label", "predicted_label"]].tolist() == ["ant", "bee"]
    assert table.loc[1, "label_quality"] == pytest.approx(0.2)


def test_joint_counts_surely_classified_rows_by_hand():
    """Thresholds are 0.6 for both classes; every row is sure of one."""
    np.testing.assert_allclose(joint_distribution(PROBA, GIVEN), [[2 / 6, 1 / 6], [1 / 6, 2 / 6]])
    assert noise_rate(pred_probs=PROBA, y=GIVEN) == pytest.approx(1 / 3)
    table = class_quality(pred_probs=PROBA, y=GIVEN)
    assert table.loc[0].tolist() == pytest.approx([3, 3, 1, 1, 1 / 3])


UNSURE = np.array([[0.9, 0.1], [0.9, 0.1], [0.45, 0.55], [0.2, 0.8], [0.2, 0.8]])


def test_unsure_rows_count_like_the_others_with_their_label():
    """Row 2 reaches neither threshold, 0.75 and 0.8: its label keeps its three rows of five."""
    joint = joint_distribution(UNSURE, np.array([0, 0, 0, 1, 1]))
    np.testing.assert_allclose(joint, [[3 / 5, 0], [0, 2 / 5]])


def test_no_more_issues_than_the_noise_says():
    table = find_label_issues(pred_probs=UNSURE, y=[0, 0, 0, 1, 1])
    assert table.loc[2, "label_quality"] == pytest.approx(0.45)
    assert not table["is_label_issue"].any()


def test_hardly_more_probable_labels_of_many_classes_are_no_issues():
    """Where all classes are nearly as probable: those of less than 0.01 count alike."""
    proba = np.full((200, 300), 1 / 300)
    proba[:, 0] += 0.001
    proba /= proba.sum(axis=1, keepdims=True)
    given = np.arange(200) % 3
    table = find_label_issues(pred_probs=proba, y=given, classes=np.arange(300))
    assert not table["is_label_issue"].any()


def test_certain_and_right_labels_have_no_issue():
    proba = np.eye(3)[[0, 1, 2, 1]]
    table = find_label_issues(pred_probs=proba, y=[0, 1, 2, 1])
    assert not table["is_label_issue"].any()
    assert (table["label_quality"] == 1).all()
    assert noise_rate(pred_probs=proba, y=[0, 1, 2, 1]) == 0
    np.testing.assert_array_equal(
        noise_transition_matrix(pred_probs=proba, y=[0, 1, 2, 1]), np.eye(3)
    )


def test_known_noise_is_estimated_from_the_true_posterior():
    """Rows draw their label from p(true), flipped by a known matrix."""
    rng, n = np.random.default_rng(0), 20_000
    true = rng.integers(3, size=n)
    flips = np.array([[0.8, 0.2, 0.0], [0.0, 0.9, 0.1], [0.3, 0.0, 0.7]])
    given = (rng.random((n, 1)) > flips[true].cumsum(axis=1)).sum(axis=1)
    proba = 0.85 * np.eye(3)[true] + 0.05
    np.testing.assert_allclose(noise_transition_matrix(pred_probs=proba, y=given), flips, atol=0.02)
    assert noise_rate(pred_probs=proba, y=given) == pytest.approx((given != true).mean(), abs=0.01)
    table = find_label_issues(pred_probs=proba, y=given)
    share = table["is_label_issue"].mean()
    assert share == pytest.approx(noise_rate(pred_probs=proba, y=given), abs=1e-3)


def test_rows_and_classes_in_any_order_give_the_same_table():
    rng = np.random.default_rng(0)
    proba, given = rng.dirichlet(np.ones(4), 200), rng.integers(4, size=200)
    table = find_label_issues(pred_probs=proba, y=names(given))
    rows, columns = rng.permutation(200), rng.permutation(4)
    other = find_label_issues(
        pred_probs=proba[rows][:, columns], y=names(given)[rows], classes=names(columns)
    )
    other.index = other["position"] = rows[other["position"]]
    assert table.sort_index().equals(other.sort_index())


@pytest.mark.slow
def test_an_estimator_is_judged_by_its_soft_labels(fitted):
    clf, _, noisy = fitted
    np.testing.assert_array_equal(clf.given_labels_, names(noisy))
    table = clf.label_issues()
    same = find_label_issues(pred_probs=clf.soft_labels_, y=names(noisy))
    assert table.equals(same)
    assert table["label_quality"].is_monotonic_increasing
    for function in (noise_rate, noise_transition_matrix):
        assert np.allclose(function(clf), function(pred_probs=clf.soft_labels_, y=names(noisy)))


def test_flipped_labels_are_found(fitted):
    clf, y, noisy = fitted
    issues = clf.label_issues()["is_label_issue"].sort_index().to_numpy()
    wrong = noisy != y
    assert (issues == wrong).mean() > 0.97
    assert noise_rate(clf) == pytest.approx(wrong.mean(), abs=0.03)
    assert class_quality(clf)["wrong_in"].sum() == pytest.approx(wrong.sum(), abs=10)


@pytest.mark.parametrize("method", [SyntheticMixClassifier, MetaLabelNetClassifier])
@pytest.mark.filterwarnings("ignore:No trusted rows")
def test_every_method_keeps_its_given_labels(method):
    X, y = make_blobs(100, centers=3, random_state=2)
    clf = method(max_epochs=20, random_state=0).fit(X, names(y))
    np.testing.assert_array_equal(clf.given_labels_, names(y))
    assert len(clf.label_issues()) == 100


def test_a_class_without_rows_is_kept():
    proba = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1]])
    matrix = noise_transition_matrix(pred_probs=proba, y=[0, 1], classes=[0, 1, 2])
    np.testing.assert_array_equal(matrix, np.eye(3))


def test_without_pandas_a_structured_array(monkeypatch, fitted):
    clf, _, _ = fitted
    frame, quality = clf.label_issues(), class_quality(clf)
    monkeypatch.setitem(sys.modules, "pandas", None)
    table = clf.label_issues()
    assert table.dtype.names == tuple(frame.columns)
    for name in frame.columns:
        np.testing.assert_array_equal(table[name], frame[name])
    assert class_quality(clf).dtype.names == ("row", *quality.columns)
    np.testing.assert_array_equal(class_quality(clf)["row"], quality.index)


def test_history_says_how_many_labels_changed(fitted):
    clf, _, noisy = fitted
    changed, confidence = (clf.history_[:, name] for name in ("labels_changed", "confidence"))
    assert changed[: clf.warmup_epochs_] == [0.0] * clf.warmup_epochs_
    assert confidence[: clf.warmup_epochs_] == [1.0] * clf.warmup_epochs_
    believed = names(clf.soft_labels_.argmax(axis=1))
    assert changed[-1] == pytest.approx((believed != names(noisy)).mean())
    assert confidence[-1] == pytest.approx(clf.soft_labels_.max(axis=1).mean(), abs=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "either a fitted estimator or pred_probs"),
        ({"pred_probs": PROBA}, "y must be given"),
        ({"pred_probs": PROBA, "y": [0, 1]}, "got 2 labels and 6 rows"),
        ({"pred_probs": PROBA, "y": [0, 1, 2, 0, 0, 0]}, r"got \(6, 2\) and 3 classes"),
        (
            {"pred_probs": PROBA, "y": [2, 0, 0, 0, 0, 0], "classes": [0, 1]},
            r"labels of classes, got 2; classes are \[0, 1\]",
        ),
        (
            {"pred_probs": PROBA, "y": np.array(list("abbabb"), object), "classes": [0, 1]},
            "labels of classes, got 'a'",
        ),
        ({"pred_probs": PROBA, "y": GIVEN, "classes": ["a", "b"]}, "labels of classes, got 0"),
        ({"pred_probs": PROBA, "y": ["a", 1, 1, 1, 1, 1]}, "got number and text, such as 1"),
        ({"pred_probs": PROBA - 0.5, "y": GIVEN}, "must hold probabilities"),
        ({"pred_probs": PROBA * 5, "y": GIVEN}, "rows that sum to 1, got .* in row 0"),
        ({"pred_probs": PROBA, "y": [np.nan, 0, 0, 1, 1, 1]}, "none of them missing"),
        ({"pred_probs": PROBA, "y": [None, *"abbab"]}, "none of them missing"),
        ({"pred_probs": PROBA, "y": GIVEN, "classes": [0, 0]}, "classes must differ"),
        ({"pred_probs": np.empty((0, 2)), "y": []}, "n at least 1"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        find_label_issues(**arguments)


def test_columns_of_a_frame_are_matched_by_their_names():
    frame = pd.DataFrame(PROBA[:, ::-1], columns=["bee", "ant"])
    expected = find_label_issues(pred_probs=PROBA, y=names(GIVEN))
    assert find_label_issues(pred_probs=frame, y=names(GIVEN)).equals(expected)
    with pytest.raises(ValueError, match="columns of classes"):
        find_label_issues(pred_probs=frame, y=names(GIVEN), classes=["ant", "cow"])


FUNCTIONS = [
    find_label_issues, corrected_labels, noise_rate, noise_transition_matrix, class_quality
]  # fmt: skip


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(
    "estimator", [LogisticRegression(), make_pipeline(LogisticRegression()), None]
)
def test_other_estimators_are_told_what_to_pass(function, estimator):
    if estimator is None:
        X, y = make_blobs(40, centers=2, random_state=0)
        estimator = GridSearchCV(LogisticRegression(), {"C": [1.0]}, cv=2).fit(X, y)
    with pytest.raises(TypeError, match="got LogisticRegression; .*cross_val_predict"):
        function(estimator)


@pytest.mark.slow
@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(
    "wrap",
    [
        lambda clf: make_pipeline(StandardScaler(), clf),
        lambda clf: GridSearchCV(clf, {"lr": [0.001]}, cv=2),
        lambda clf: RandomizedSearchCV(clf, {"lr": [0.001]}, n_iter=1, cv=2),
        lambda clf: HalvingGridSearchCV(clf, {"lr": [0.001]}, cv=2, min_resources=40),
        lambda clf: GridSearchCV(make_pipeline(clf), {"alrclassifier__lr": [0.001]}, cv=2),
        lambda clf: make_pipeline("passthrough", GridSearchCV(clf, {"lr": [0.001]}, cv=2)),
    ],
    ids=["pipeline", "grid", "random", "halving", "grid of pipeline", "pipeline of grid"],
)
def test_the_estimator_at_the_end_is_the_one_that_is_judged(function, wrap):
    X, y = make_blobs(40, centers=2, random_state=0)
    X = StandardScaler().fit_transform(X)
    clf = ALRClassifier(max_epochs=4, random_state=0)
    expected, found = function(clf.fit(X, y)), function(wrap(clf).fit(X, y))
    np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))


@pytest.mark.parametrize(
    "estimator",
    [
        make_pipeline(ALRClassifier()),
        GridSearchCV(ALRClassifier(), {}),
        make_pipeline(GridSearchCV(ALRClassifier(), {})),
    ],
)
def test_what_is_not_fitted_at_the_end_says_so(estimator):
    with pytest.raises(NotFittedError, match="not fitted yet|fit the search with refit=True"):
        find_label_issues(estimator)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("kind", [np.asarray, list, pd.Series, torch.tensor])
def test_cleanlabs_order_is_told_the_names(function, kind):
    for arguments, named in (((PROBA,), {}), ((), {"pred_probs": PROBA}), ((), {})):
        with pytest.raises(
            TypeError, match=r"find_label_issues\(y=labels, pred_probs=pred_probs\)"
        ):
            function(kind(GIVEN), *arguments, **named)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_an_estimator_and_probabilities_exclude_each_other(function, fitted):
    with pytest.raises(ValueError, match="not both"):
        function(fitted[0], pred_probs=PROBA)


def test_an_unfitted_estimator_says_so():
    with pytest.raises(NotFittedError):
        ALRClassifier().label_issues()
    with pytest.raises(NotFittedError):
        _ = ALRClassifier().given_labels_


@pytest.mark.parametrize("dtype", ["Int64", "boolean", "string", "category"])
def test_labels_keep_their_type(dtype):
    X, y = make_blobs(60, centers=2, random_state=1)
    series = pd.Series(y.astype(str) if dtype == "string" else y).astype(dtype)
    clf = ALRClassifier(max_epochs=3, random_state=0).fit(X, series)
    expected = {"Int64": int, "boolean": bool, "string": str, "category": int}[dtype]
    assert all(type(label) is expected for label in clf.given_labels_.tolist())
    assert (clf.label_issues().sort_index()["given_label"] == series.astype(expected)).all()


def test_columns_in_another_order_than_the_sorted_classes_are_told():
    labels = pd.Categorical.from_codes([0, 1, 2, 0] * 5, ["low", "mid", "high"], ordered=True)
    proba = np.eye(3)[[0, 1, 2, 0] * 5] * 0.7 + 0.1  # as the codes number them
    message = r"taken to be \['high', 'low', 'mid'\].*in 0% of the rows.*\['low', 'mid', 'high'\]"
    with pytest.warns(UserWarning, match=message):
        find_label_issues(y=labels, pred_probs=proba)
    assert not find_label_issues(y=labels, pred_probs=proba, classes=labels.categories)[
        "is_label_issue"
    ].any()


@pytest.mark.parametrize("classes", [["0", "1"], ["False", "True"]])
def test_columns_that_a_file_has_as_texts_are_the_classes(classes):
    given = GIVEN if classes[0] == "0" else GIVEN == 1
    proba = pd.DataFrame(PROBA[:, ::-1], columns=classes[::-1])
    found = find_label_issues(y=given, pred_probs=proba)
    pd.testing.assert_frame_equal(found, find_label_issues(y=given, pred_probs=PROBA))


@pytest.mark.parametrize("name", ["labels", "filter_by", "return_indices_ranked_by"])
def test_cleanlabs_parameters_are_answered(name):
    with pytest.raises(TypeError, match=rf"noise_rate has no parameter {name}: \w+"):
        noise_rate(pred_probs=PROBA, **{name: GIVEN})


def test_an_issue_of_other_labels_gets_the_prediction():
    # Probabilities that were learned from noisy labels hold the noise already.
    issues = find_label_issues(y=GIVEN, pred_probs=PROBA).sort_values("position")
    assert issues.is_label_issue.any()
    expected = np.where(issues.is_label_issue, issues.predicted_label, issues.given_label)
    assert corrected_labels(y=GIVEN, pred_probs=PROBA).tolist() == expected.tolist()


def test_a_class_whose_labels_are_all_issues_is_named():
    with pytest.warns(UserWarning, match="Corrected labels keep no row of bee: all labels of"):
        labels = corrected_labels(pred_probs=[[0.9, 0.1]] * 7, y=names([0] * 6 + [1]))
    assert set(labels) == {"ant"}
