"""Frames and labels as users have them: the frame's index, names of classes, missing labels."""

import datetime
import gc
import pickle
import subprocess
import sys
import weakref
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from PIL import Image
from sklearn.datasets import make_blobs, make_classification
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.helper import SliceDataset
from torch.utils.data import Dataset, Subset, TensorDataset, random_split
from torchvision.datasets import ImageFolder
from torchvision.transforms.v2 import PILToTensor

from sknoisy import ALRClassifier, MetaLabelNetClassifier
from sknoisy.issues import find_label_issues
from sknoisy.labels import read_labels
from sknoisy.noise import pair_noise, symmetric_noise
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


# The index of tables


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
        (SERIES, pd.DataFrame(proba, IDS[::-1]), True),
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


# The names of classes


class Named(Dataset):
    """Images whose class numbers have names."""

    def __init__(self, y, classes=("dog", "ant", "cat"), **attributes):
        self.y, self.classes = np.asarray(y), classes
        self.X = torch.randn(len(y), 1, 8, 8, generator=torch.Generator().manual_seed(0))
        vars(self).update(attributes)

    def __len__(self):
        return len(self.y)

    def __getitem__(self, index):
        return self.X[index], self.y[index].item()


NUMBERS = np.arange(24) % 3
NAMES = np.array(["dog", "ant", "cat"])[NUMBERS]
SMALL = {"module__width": 4, "max_epochs": 2, "warmup_epochs": 1, "random_state": 0}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda data: data,
        lambda data: Subset(data, range(24)),
        lambda data: Subset(Subset(data, range(24)), range(24)),
        lambda data: random_split(data, [24, 0])[0],
    ],
    ids=["whole", "subset", "of subset", "random"],
)
def test_class_numbers_of_a_dataset_get_its_names(wrap):
    data = wrap(Named(NUMBERS))
    clf = ALRClassifier(**SMALL).fit(data)
    assert clf.classes_.tolist() == ["ant", "cat", "dog"]
    assert sorted(clf.given_labels_) == sorted(NAMES)
    expected = ALRClassifier(**SMALL).fit(data, clf.given_labels_)
    np.testing.assert_array_equal(clf.soft_labels_, expected.soft_labels_)
    assert clf.score(data) == (clf.predict(data) == clf.given_labels_).mean()
    assert set(clf.label_issues().given_label) == {"ant", "cat", "dog"}


@pytest.mark.parametrize(
    "data",
    [
        list(Named(NUMBERS)),
        Named(NUMBERS + 1),  # 3 has no name
        Named(NUMBERS - 1),
        Named(NUMBERS, ["dog", "ant"]),
        Named(NUMBERS, ["dog", "ant", "dog"]),
        Named(NUMBERS, [("dog",), ("ant",), ("cat",)]),
        Named(NUMBERS, 3),
        Named(NUMBERS, None),
        Named(NUMBERS, target_transform=lambda number: number),
        TensorDataset(torch.zeros(24, 1, 8, 8), torch.from_numpy(NUMBERS)),
    ],
    ids=["list", "above", "below", "few", "twice", "tuples", "count", "none", "changed", "tensors"],
)
def test_numbers_stay_where_nothing_names_each_of_them(data):
    clf = ALRClassifier(**SMALL).fit(data)
    assert clf.classes_.dtype.kind == "i"
    assert 0 <= clf.score(data) <= 1


def test_labels_that_are_given_are_taken_as_they_are():
    data = Named(NUMBERS)
    by_number, by_name = (ALRClassifier(**SMALL).fit(data, y) for y in (NUMBERS, NAMES))
    assert by_number.classes_.tolist() == [0, 1, 2]
    assert by_number.score(data) == (by_number.predict(data) == NUMBERS).mean()
    assert by_number.score(data, NUMBERS) == by_number.score(data)
    assert by_name.score(data) == by_name.score(data, NAMES)


def test_another_order_of_the_names_scores_alike():
    clf = ALRClassifier(**SMALL).fit(Named(NUMBERS))
    other = Named(
        np.searchsorted(["ant", "cat", "dog", "elk"], NAMES), ["ant", "cat", "dog", "elk"]
    )
    assert clf.score(other) == clf.score(Named(NUMBERS))


def test_trusted_rows_of_a_dataset_have_the_names_that_fit_knows():
    data, trusted = Named(NUMBERS), Subset(Named(NUMBERS), range(12))
    clf = MetaLabelNetClassifier(**SMALL)
    expected = clf.fit(data, NAMES, meta_X=trusted, meta_y=NAMES[:12]).soft_labels_
    np.testing.assert_array_equal(clf.fit(data, meta_X=trusted).soft_labels_, expected)
    np.testing.assert_array_equal(clf.fit(data, NAMES, meta_X=trusted).soft_labels_, expected)
    clf.fit(data, NUMBERS, meta_X=trusted)
    assert clf.classes_.tolist() == [0, 1, 2]


def test_a_search_scores_and_predicts_by_name():
    data = Named(NUMBERS)
    search = GridSearchCV(ALRClassifier(**SMALL), {"lr": [0.01]}, cv=2, error_score="raise")
    search.fit(data)
    assert set(search.predict(data)) <= {"ant", "cat", "dog"}
    assert search.score(data) == (search.predict(data) == NAMES).mean()
    search.fit(SliceDataset(data), NAMES)
    assert search.score(data) == search.score(data, NAMES)
    search.fit(SliceDataset(data), SliceDataset(data, idx=1))
    assert search.classes_.tolist() == [0, 1, 2]
    assert cross_val_score(ALRClassifier(**SMALL), data, cv=2, error_score="raise").min() >= 0


def test_a_folder_of_images_has_the_names_of_its_folders(tmp_path):
    for k in range(12):
        folder = tmp_path / ["ant", "bee"][k % 2]
        folder.mkdir(exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), 20 * k, np.uint8)).save(folder / f"{k}.png")
    data = ImageFolder(tmp_path, transform=PILToTensor())
    clf = ALRClassifier(**SMALL).fit(data)
    assert clf.given_labels_.tolist() == ["ant"] * 6 + ["bee"] * 6
    assert clf.score(data) == (clf.predict(data) == clf.given_labels_).mean()
    data.target_transform = lambda number: 1 - number
    assert ALRClassifier(**SMALL).fit(data).given_labels_.tolist() == [1] * 6 + [0] * 6


# Missing and mixed labels, and nullable types

LABELS = pd.Series(np.array(["no", "yes"])[Y])
MISSING = {
    "pandas.NA": LABELS.astype("string").mask(Y == 0),
    "None": LABELS.astype(object).where(Y > 0, None),
    "nan in a list": [np.nan if y else "yes" for y in Y],
    "nan text": LABELS.mask(Y == 0),
    "category": LABELS.mask(Y == 0).astype("category"),
    "Int64": pd.Series(Y, dtype="Int64").mask(Y == 0),
    "boolean": pd.Series(Y > 0, dtype="boolean").mask(Y == 0),
    "float": np.where(Y > 0, np.nan, 1.0),
    "NaT": pd.Series(pd.to_datetime(["2026-01-01"] * 60)).mask(Y == 0),
    "polars": pl.Series([None if y else "yes" for y in Y]),
    "polars numbers": pl.Series([None if y else 1 for y in Y]),
    "masked": np.ma.array(Y, mask=Y == 0),
    "column": LABELS.astype("string").mask(Y == 0).to_frame(),
}
MIXED = {
    "number and text": np.array([1, "a"], dtype=object)[Y],
    "text and number in a list": ["a" if y else 1 for y in Y],
    "boolean and text": pd.Series(Y > 0).astype(object).where(Y > 0, "no"),
    "boolean and number": [True if y else 2 for y in Y],
    "bytes and text": [b"a" if y else "a" for y in Y],
    "dates": [datetime.date(2026, 1, 1) if y else datetime.datetime(2026, 1, 1) for y in Y],
    "what does not sort": np.array([{"a": 1}, {"b": 2}], dtype=object)[Y],
}
READERS = {
    "fit": lambda y: fit(X, y),
    "symmetric_noise": lambda y: symmetric_noise(y, 0.2),
    "pair_noise": lambda y: pair_noise(y, 0.2),
    "find_label_issues": lambda y: find_label_issues(y=y, pred_probs=np.eye(2)[Y]),
    "of an estimator": lambda y: find_label_issues(fit(), y),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("case", [*MISSING, *MIXED])
def test_missing_and_mixed_labels_are_named(reader, case):
    message = "y must hold labels of one type, none of them missing, got "
    message += r".* in row \d+, \d+ of 60 are missing; drop" if case in MISSING else ".*(;|sort)"
    with pytest.raises(ValueError, match=message):
        READERS[reader]({**MISSING, **MIXED}[case])


def test_the_first_missing_label_and_their_number_are_told():
    with pytest.raises(ValueError, match="got <NA> in row 2, 2 of 5 are missing"):
        symmetric_noise(pd.array([*"ab", None, "a", None], dtype="string"), 0.5)
    with pytest.raises(ValueError, match="got number and text, such as 1 and 'a'; convert"):
        symmetric_noise(["a", 1], 0.5)


def test_trusted_labels_are_read_alike():
    clf = MetaLabelNetClassifier(max_epochs=3, random_state=0)
    with pytest.raises(ValueError, match="meta_y must hold labels of one type, none .* got None"):
        clf.fit(X, LABELS, meta_X=X[:2], meta_y=["yes", None])
    expected = clf.fit(X, Y, meta_X=X[:20], meta_y=Y[:20]).soft_labels_
    clf.fit(X, Y, meta_X=X[:20], meta_y=pd.Series(Y[:20], dtype="Int64"))
    np.testing.assert_array_equal(clf.soft_labels_, expected)


NUMBERS_OR_TEXT = {
    "Int64": (pd.Series(Y, dtype="Int64"), np.dtype("int64")),
    "Int8": (pd.Series(Y, dtype="Int8"), np.dtype("int8")),
    "boolean": (pd.Series(Y > 0, dtype="boolean"), np.dtype(bool)),
    "Float64": (pd.Series(Y, dtype="Float64"), np.dtype("float64")),
    "string": (LABELS.astype("string"), np.dtype(object)),
    "category": (LABELS.astype("category"), np.dtype(object)),
    "category of numbers": (pd.Series(Y).astype("category"), np.dtype("int64")),
    "object of numbers": (pd.Series(Y).astype(object), np.dtype("int64")),
    "object of booleans": (pd.Series(Y > 0).astype(object), np.dtype(bool)),
    "numpy's booleans": (np.array([*(Y > 0)], dtype=object), np.dtype(bool)),
    "extension array": (pd.array(Y, dtype="Int64"), np.dtype("int64")),
    "polars": (pl.Series(Y > 0), np.dtype(bool)),
    "polars category": (pl.Series(LABELS.tolist(), dtype=pl.Categorical), np.dtype(object)),
    "list": (LABELS.tolist(), np.dtype("<U3")),
    "text of any length": (np.array(LABELS.tolist(), np.dtypes.StringDType()), np.dtype("<U3")),
    "int and float": ([1 if y else 0.0 for y in Y], np.dtype("float64")),
}


@pytest.mark.parametrize("case", NUMBERS_OR_TEXT)
def test_types_without_missing_labels_become_plain_ones(case):
    y, expected = NUMBERS_OR_TEXT[case]
    kind = str if expected.kind in "OU" else type(expected.type(0).item())
    clf = fit(X, y)
    for found in (
        read_labels(y),
        symmetric_noise(y, 0.2, random_state=0),
        clf.given_labels_,
        find_label_issues(y=y, pred_probs=np.eye(2)[Y]).sort_index().given_label.to_numpy(object),
    ):
        assert {type(label) for label in found.tolist()} == {kind}
    assert read_labels(y).dtype == symmetric_noise(y, 0.2).dtype == clf.classes_.dtype == expected
    assert clf.given_labels_.tolist() == np.asarray(y).tolist()
    assert clf.score(X, y) == clf.score(X, clf.given_labels_)


def test_decimals_and_dates_may_be_relabelled():
    for y in ([Decimal(1), Decimal(2)], [datetime.date(2026, 1, 1), datetime.date(2026, 1, 2)]):
        assert symmetric_noise(y, 1.0).tolist() == y[::-1]
