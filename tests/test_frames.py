"""The index of a frame: in tables of label issues, pickles and files."""

import gc
import pickle
import subprocess
import sys
import weakref

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.datasets import make_blobs, make_classification
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sknoisy import ALRClassifier, MetaLabelNetClassifier
from sknoisy.issues import find_label_issues
from sknoisy.noise import symmetric_noise
from sknoisy.review import write_page
from sknoisy.row_index import RowIndex
from sknoisy.storage.file_format import read_file, write_file

FAST = {"max_epochs": 3, "warmup_epochs": 1, "module__hidden": 8, "random_state": 0}
pytestmark = pytest.mark.filterwarnings(
    "ignore:No trusted rows:UserWarning", "ignore:target_momentum:UserWarning"
)
X, Y = make_blobs(60, 3, centers=2, random_state=1)
IDS = np.random.default_rng(0).permutation(60) + 100
FRAME, SERIES = pd.DataFrame(X, IDS).add_prefix("f"), pd.Series(Y, IDS)


def fit(X=X, y=Y, **params):
    return ALRClassifier(**FAST, **params).fit(X, y)


@pytest.mark.slow
def test_index_values_point_at_the_rows_of_a_shuffled_frame():
    X, y = make_classification(300, n_informative=5, random_state=0)
    noisy = symmetric_noise(y, 0.2, random_state=0)
    df = pd.DataFrame(X).add_prefix("x").assign(label=noisy).sample(frac=1, random_state=1)
    issues = ALRClassifier(random_state=0).fit(df.drop(columns="label"), df.label).label_issues()
    bad = issues[issues.is_label_issue]
    assert len(bad)
    assert (df.label.loc[bad.index] == bad.given_label).all()
    assert (df.label.iloc[bad.position].to_numpy() == bad.given_label).all()
    wrong = df.label != pd.Series(y).reindex(df.index)
    assert wrong.loc[bad.index].mean() == wrong.iloc[bad.position].mean() > 0.4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("X", "y", "indexed"),
    [
        (FRAME, Y, True),
        (FRAME, SERIES.reset_index(drop=True), True),
        (X, SERIES, True),
        (X, SERIES.to_frame(), True),
        (FRAME.reset_index(drop=True), SERIES, False),  # X counts where it has an index
        (X, Y, False),
        (pl.DataFrame(X), pl.Series(Y), False),
        (X.tolist(), Y.tolist(), False),
    ],
)
@pytest.mark.filterwarnings("ignore:A column-vector y")
def test_the_index_is_that_of_x_else_that_of_y(method, X, y, indexed):
    table = method(max_epochs=3, random_state=0).fit(X, y).label_issues()
    np.testing.assert_array_equal(np.sort(table.position), np.arange(60))
    np.testing.assert_array_equal(table.index, IDS[table.position] if indexed else table.position)
    np.testing.assert_array_equal(table.given_label, Y[table.position])


def test_in_a_pipeline_the_index_of_y_remains():
    pipeline = make_pipeline(StandardScaler(), ALRClassifier(**FAST)).fit(FRAME, SERIES)
    table = find_label_issues(pipeline)
    np.testing.assert_array_equal(table.index, IDS[table.position])
    train, _, y_train, _ = train_test_split(FRAME, SERIES, random_state=0)
    search = GridSearchCV(pipeline, {"alrclassifier__lr": [0.01]}, cv=2).fit(train, y_train)
    assert (find_label_issues(search).given_label.sort_index() == y_train.sort_index()).all()


def test_without_an_estimator_the_index_is_that_of_y_else_of_the_probabilities():
    proba = np.eye(2)[Y]
    for y, pred_probs, indexed in (
        (SERIES, proba, True),
        (Y, pd.DataFrame(proba, IDS), True),
        (SERIES, pd.DataFrame(proba, IDS + 100), True),
        (Y, proba, False),
        (Y, pd.DataFrame(proba), False),
    ):
        table = find_label_issues(y=y, pred_probs=pred_probs)
        expected = IDS[table.position] if indexed else table.position
        np.testing.assert_array_equal(table.index, expected)
    table = find_label_issues(fit(), SERIES)
    np.testing.assert_array_equal(table.index, IDS[table.position])


def test_rows_that_are_not_of_x_have_no_line():
    more = pd.DataFrame(X[:20], columns=FRAME.columns, index=range(900, 920))
    clf = MetaLabelNetClassifier(max_epochs=4, random_state=0)
    clf.fit(FRAME, SERIES, trusted=np.arange(60) < 20, unlabeled_X=more)
    assert (clf.label_issues().given_label.sort_index() == SERIES.sort_index()).all()
    assert type(clf.corrected_labels_) is np.ndarray


def test_a_later_fit_on_arrays_forgets_the_index():
    table = fit(FRAME).fit(X, Y).label_issues()
    np.testing.assert_array_equal(table.index, table.position)


INDEXES = {
    "int": pd.Index(IDS, name="id"),
    "range": pd.RangeIndex(1000, 1120, 2),
    "text": pd.Index([f"é{k}" * (k % 3) for k in IDS], name="name"),
    "float": pd.Index(IDS / 2),
    "bool": pd.Index(IDS > 130),
    "date": pd.date_range("2026-01-01", periods=60, freq="h", name="at").astype("datetime64[ns]"),
    "duration": pd.to_timedelta(IDS, unit="s"),
    "levels": pd.MultiIndex.from_arrays([IDS, [f"row {k}" for k in IDS]], names=["a", None]),
}
ONLY_PANDAS = {
    "time zone": pd.date_range("2026-01-01", periods=60, freq="h", tz="Europe/Vienna"),
    "period": pd.period_range("2026-01", periods=60, freq="M"),
    "tuple": pd.Index([(k, k + 1) for k in IDS], tupleize_cols=False),
    "name": pd.Index(IDS, name=("an", "id")),
    "missing text": pd.Index([None, *map(str, IDS[1:])], dtype=object),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", [*INDEXES, *ONLY_PANDAS])
def test_pickle_keeps_the_index(name):
    clf = fit(FRAME.set_axis({**INDEXES, **ONLY_PANDAS}[name]))
    twin = pickle.loads(pickle.dumps(clf))
    for _ in range(2):
        pd.testing.assert_frame_equal(twin.label_issues(), clf.label_issues(), check_freq=False)
        twin = pickle.loads(pickle.dumps(twin))


@pytest.mark.parametrize("name", INDEXES)
def test_a_file_keeps_the_index(name, tmp_path):
    pytest.importorskip("safetensors")
    clf = fit(FRAME.set_axis(INDEXES[name]))
    for path in (tmp_path / "a", tmp_path / "b"):
        clf.save(path)
        loaded = ALRClassifier.load(path)
        pd.testing.assert_frame_equal(loaded.label_issues(), clf.label_issues(), check_freq=False)
        clf = loaded


@pytest.mark.parametrize("name", ONLY_PANDAS)
def test_a_file_without_a_form_for_the_index_says_so_and_numbers_the_rows(name, tmp_path):
    pytest.importorskip("safetensors")
    clf = fit(FRAME.set_axis(ONLY_PANDAS[name]))
    with pytest.warns(UserWarning, match="save leaves out the index of the training rows"):
        clf.save(tmp_path / "clf")
    table = ALRClassifier.load(tmp_path / "clf").label_issues()
    np.testing.assert_array_equal(table.index, table.position)


def test_an_index_that_does_not_fit_the_rows_is_refused(tmp_path):
    pytest.importorskip("safetensors")
    fit(FRAME).save(tmp_path / "clf")
    document, tensors = read_file(tmp_path / "clf")
    for changes, message in (
        ({"index.0.bytes": tensors["index.0.bytes"][:-8]}, "does not fit its rows"),
        ({"index.0.bytes": tensors["index.0.bytes"][:-1]}, "buffer size"),
    ):
        write_file(tmp_path / "clf", document, {**tensors, **changes})
        with pytest.raises(ValueError, match=message):
            ALRClassifier.load(tmp_path / "clf")
    for names in ([], ["a", "b"], [{}], ["a", {}]):
        write_file(
            tmp_path / "clf", {**document, "index": {"names": names, "kinds": ["<i8"]}}, tensors
        )
        with pytest.raises(ValueError, match="does not fit its rows"):
            ALRClassifier.load(tmp_path / "clf")
    document["index"]["kinds"] = ["O"]
    write_file(tmp_path / "clf", document, tensors)
    with pytest.raises(ValueError, match="its index is of type 'O'"):
        ALRClassifier.load(tmp_path / "clf")


def test_a_pickle_of_a_fit_on_a_frame_names_no_class_of_pandas():
    assert b"pandas" not in pickle.dumps(fit(FRAME, SERIES))


def test_rows_that_are_numbered_anyway_cost_nothing():
    for index in (pd.RangeIndex(60), pd.Index(np.arange(60)), pd.RangeIndex(60, name="n")):
        assert RowIndex.of(FRAME.set_axis(index)) is None
    assert RowIndex.of(FRAME).index() is FRAME.index


def test_a_fit_keeps_the_index_and_not_the_frame():
    frame = FRAME.copy()
    is_alive = weakref.ref(frame)
    clf = fit(frame, SERIES)
    del frame
    gc.collect()
    assert is_alive() is None
    assert len(clf.label_issues()) == 60


@pytest.mark.slow
def test_a_pickle_opens_and_lists_issues_without_pandas(tmp_path):
    (tmp_path / "clf.pkl").write_bytes(pickle.dumps(fit(FRAME, SERIES)))
    code = (
        "import sys, pickle; sys.modules['pandas'] = None\n"
        "import numpy as np, sknoisy.noise\n"
        "clf = pickle.load(open(sys.argv[1], 'rb'))\n"
        "assert sorted(clf.label_issues()['position']) == list(range(60))\n"
        "assert sknoisy.noise.symmetric_noise([1, 2], 1.0).tolist() == [2, 1]"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "clf.pkl")], check=True)


ELSEWHERE = {
    "y": lambda: fit(FRAME, SERIES.sort_index()),
    "sample_weight": lambda: ALRClassifier(**FAST).fit(
        FRAME, SERIES, sample_weight=pd.Series(1.0, FRAME.index).sort_index()
    ),
    "trusted": lambda: MetaLabelNetClassifier(**FAST).fit(
        FRAME, SERIES, trusted=pd.Series([True, False] * 30, FRAME.index).sort_index()
    ),
    "meta_y": lambda: MetaLabelNetClassifier(**FAST).fit(
        FRAME, SERIES, meta_X=FRAME[:9], meta_y=SERIES[:9].sort_index()
    ),
    "y of an estimator": lambda: find_label_issues(fit(FRAME, SERIES), SERIES.sort_index()),
    "X of a page": lambda: write_page(
        y=SERIES, pred_probs=np.full((60, 2), 0.5), X=FRAME.sort_index()
    ),
    "text of a page": lambda: write_page(
        fit(FRAME, SERIES), FRAME, text=SERIES.astype(str).sort_index()
    ),
    "y of probabilities": lambda: find_label_issues(
        y=SERIES.sort_index(), pred_probs=pd.DataFrame(np.full((60, 2), 0.5), FRAME.index)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ELSEWHERE)
def test_the_same_rows_in_another_order_are_refused(name):
    with pytest.raises(ValueError, match=rf"{name.split()[0]} must have its rows in the order"):
        ELSEWHERE[name]()


def test_rows_without_an_index_of_their_own_are_taken_as_they_come_with_a_warning():
    scaled = pd.DataFrame(X).add_prefix("f")  # as made from an array
    shuffled = SERIES.set_axis(np.random.default_rng(1).permutation(60))
    with pytest.warns(UserWarning, match=r"y and X are numbered in different.*y.loc\[X.index\]"):
        found = fit(scaled, shuffled)
    np.testing.assert_array_equal(found.soft_labels_, fit(X, Y).soft_labels_)
    half = SERIES.set_axis(IDS % 30)  # repeated, as of two files
    assert len(fit(FRAME.set_axis(IDS % 30), half).soft_labels_) == 60
