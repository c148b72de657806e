"""Labels as users have them: missing, mixed, nullable, named by a Dataset."""

import datetime
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from PIL import Image
from sklearn.datasets import make_blobs
from sklearn.model_selection import GridSearchCV, cross_val_score
from skorch.helper import SliceDataset
from torch.utils.data import Dataset, Subset, TensorDataset, random_split
from torchvision.datasets import ImageFolder
from torchvision.transforms.v2 import PILToTensor

from sknoisy import ALRClassifier, MetaLabelNetClassifier
from sknoisy.issues import find_label_issues
from sknoisy.labels import read_labels
from sknoisy.noise import pair_noise, symmetric_noise

FAST = {"max_epochs": 3, "warmup_epochs": 1, "module__hidden": 8, "random_state": 0}
pytestmark = pytest.mark.filterwarnings(
    "ignore:No trusted rows:UserWarning", "ignore:target_momentum:UserWarning"
)
X, Y = make_blobs(60, 3, centers=2, random_state=1)


def fit(X=X, y=Y, **params):
    return ALRClassifier(**FAST, **params).fit(X, y)


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
