"""Corrections: applied to labels of any type, trusted rows, estimates, files that are refused."""

import csv
import io
import json

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch

from sknoisy import MetaLabelNetClassifier
from sknoisy.noise import symmetric_noise
from sknoisy.review import Corrections, write_page

RNG = np.random.default_rng(0)
N = 80
NAMES = np.array(["ant", "bee", "cat"])
TRUE = np.r_[0, 1, 2, RNG.integers(3, size=N - 3)]
GIVEN = symmetric_noise(TRUE, 0.3, random_state=0)
PROBA = 0.7 * np.eye(3)[TRUE] + 0.1
COLUMNS = [
    "row", "index", "given", "suggested", "decision", "label", "origin", "stratum", "stratum_size",
    "dataset",
]  # fmt: skip


def reviewed(table, labels):
    """Return a page's table as a reviewer leaves it who gives each row its true label."""
    table = table.copy()
    table["label"] = labels[table["row"]]
    table["decision"] = np.where(
        table["label"] == table["given"], "kept",
        np.where(table["label"] == table["suggested"], "accepted", "corrected"),
    )  # fmt: skip
    return table


def write(tmp_path, given=GIVEN, true=TRUE, names=NAMES, y=None, **params):
    """Write corrections.csv, the review of a page: 30 of 80 rows, half of them a sample."""
    params = {"rows": "mixed", "n_rows": 30, "random_state": 0, **params}
    y = names[given] if y is None else y
    page = tmp_path / "review.html"
    table = write_page(y=y, pred_probs=PROBA, X=np.eye(N), path=page, **params)
    table = reviewed(table, names[true])
    path = tmp_path / "corrections.csv"
    table.to_csv(path, index=False)
    return path, table


def test_the_table_of_a_page_is_a_file_of_corrections(tmp_path):
    path, table = write(tmp_path)
    corrections = Corrections.read(path)
    assert list(table.columns) == COLUMNS
    np.testing.assert_array_equal(corrections.rows, table["row"])
    assert corrections.labels == NAMES[TRUE[table["row"]]].tolist()
    assert corrections.suggested == table["suggested"].tolist()


def test_rows_without_a_decision_are_left_out(tmp_path):
    path, table = write(tmp_path)
    table.loc[5:, ["decision", "label"]] = ""
    table.to_csv(path, index=False)
    assert Corrections.read(path).rows.tolist() == table["row"][:5].tolist()


def test_files_of_spreadsheets_are_read(tmp_path):
    """With a byte order mark, other ends of lines, everything in quotes, more columns, no end."""
    path, table = write(tmp_path)
    expected = Corrections.read(path)
    text = table.assign(remark="a, \u2028 b").to_csv(
        index=False, quoting=csv.QUOTE_ALL, lineterminator="\r\n"
    )
    path.write_bytes(b"\xef\xbb\xbf" + text.rstrip().encode())
    assert Corrections.read(path).labels == expected.labels
    shuffled = table[COLUMNS[::-1]].sample(frac=1, random_state=0)
    shuffled.to_csv(path, index=False)
    assert sorted(Corrections.read(path).rows) == sorted(expected.rows)


CONTAINERS = {
    "array": lambda y: y,
    "objects": lambda y: y.astype(object),
    "list": lambda y: y.tolist(),
    "tuple": lambda y: tuple(y.tolist()),
    "series": lambda y: pd.Series(y, [f"id{k}" for k in range(N)], name="label"),
    "column": lambda y: pd.DataFrame({"label": y}, [f"id{k}" for k in range(N)]),
    "category": lambda y: pd.Series(y).astype("category"),
    "polars": lambda y: pl.Series("label", y),
}


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("names", [NAMES, np.array([1, 5, 10]), np.array([0.5, 1.0, 7.25])])
def test_labels_keep_their_type_and_index(tmp_path, container, names):
    given, wanted = names[GIVEN].copy(), names[GIVEN].copy()
    path, table = write(tmp_path, names=names)
    wanted[table["row"]] = names[TRUE[table["row"]]]
    y = CONTAINERS[container](given)
    corrected, expected = Corrections.read(path).apply(y), CONTAINERS[container](wanted)
    assert type(corrected) is type(expected)
    assert getattr(corrected, "dtype", None) == getattr(expected, "dtype", None)
    np.testing.assert_array_equal(np.asarray(corrected), np.asarray(expected))
    if hasattr(y, "index") and hasattr(y, "iloc"):
        assert corrected.equals(expected)
    np.testing.assert_array_equal(np.asarray(y).ravel(), names[GIVEN])  # stays as it is


@pytest.mark.parametrize("dtype", ["Int64", "string", "boolean"])
def test_nullable_labels_of_pandas(tmp_path, dtype):
    names = {"Int64": [0, 1, 2], "string": [*"abc"], "boolean": [False, True, True]}[dtype]
    given, true = (np.minimum(k, len(set(names)) - 1) for k in (GIVEN, TRUE))
    y = pd.Series(np.array(names)[given]).astype(dtype)
    proba = np.eye(len(set(names)))[true]
    table = write_page(y=y, pred_probs=proba, X=np.eye(N), path=tmp_path / "a.html", n_rows=N)
    reviewed(table, np.array(names)[true]).to_csv(tmp_path / "a.csv", index=False)
    corrected = Corrections.read(tmp_path / "a.csv").apply(y)
    assert corrected.dtype == y.dtype
    assert corrected.tolist() == np.array(names)[true].tolist()


def test_labels_in_a_tensor(tmp_path):
    path, _ = write(tmp_path, names=np.arange(3), rows="issues", n_rows=N)
    corrected = Corrections.read(path).apply(torch.from_numpy(GIVEN.copy()))
    assert corrected.dtype == torch.int64
    np.testing.assert_array_equal(corrected, TRUE)


@pytest.mark.filterwarnings("ignore:The columns of pred_probs")
def test_labels_with_signs_of_csv_in_them(tmp_path):
    names = np.array(['a,"b"', "line\nbreak\r\n", " =1+1 \u2028"])
    path, table = write(tmp_path, names=names)
    corrected = Corrections.read(path).apply(names[GIVEN])
    np.testing.assert_array_equal(corrected[table["row"]], names[TRUE[table["row"]]])


def test_trusted_rows_are_those_of_the_sample(tmp_path):
    path, table = write(tmp_path)
    corrections = Corrections.read(path)
    is_sample = table["origin"] == "sample"
    assert is_sample.sum() == 15
    np.testing.assert_array_equal(np.flatnonzero(corrections.trusted), sorted(table.row[is_sample]))
    np.testing.assert_array_equal(np.flatnonzero(corrections.reviewed), sorted(table["row"]))
    path, _ = write(tmp_path, rows="issues")
    assert not Corrections.read(path).trusted.any()


@pytest.mark.filterwarnings("ignore")
def test_a_fit_takes_corrected_labels_and_trusted_rows(tmp_path):
    path, table = write(tmp_path)
    corrections = Corrections.read(path)
    clf = MetaLabelNetClassifier(max_epochs=4, random_state=0, evidence=False)
    clf.fit(RNG.random((N, 3)), corrections.apply(NAMES[GIVEN]), trusted=corrections.trusted)
    assert clf.n_meta_ == (table["origin"] == "sample").sum()


def test_estimates_of_a_whole_review_are_the_truth(tmp_path):
    path, _ = write(tmp_path, rows="sample", n_rows=N)
    corrections = Corrections.read(path)
    wrong = (GIVEN != TRUE).mean()
    assert corrections.noise_rate() == pytest.approx((wrong, wrong, wrong))
    assert corrections.suggestion_accuracy() == pytest.approx((1, 1, 1))


def test_estimates_use_the_sample_alone(tmp_path):
    path, table = write(tmp_path)
    expected = Corrections.read(path).noise_rate()
    table[table["origin"] == "sample"].to_csv(path, index=False)
    assert Corrections.read(path).noise_rate() == expected
    assert expected.low < (GIVEN != TRUE).mean() < expected.high


def test_estimates_need_a_sample_and_a_confidence(tmp_path):
    corrections = Corrections.read(write(tmp_path, rows="issues")[0])
    with pytest.raises(ValueError, match="rows of a sample .*got 30 others; write the page with"):
        corrections.noise_rate()
    for confidence in (0, 1, 95, "high"):
        with pytest.raises(ValueError, match=r"confidence must be a number in \(0, 1\), got"):
            corrections.noise_rate(confidence)


SERIES = pd.Series(NAMES[GIVEN], [f"id{k}" for k in range(N)])


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (NAMES[GIVEN][:-1], "80 of them, got 79; pass the labels that the page was written for"),
        (NAMES[TRUE], "data set 80-labels-[0-9a-f]{16}, with '.*' in row .*, got '.*'; pass"),
        (GIVEN, "with '.*' in row .*, got '[012]'"),
        (NAMES[GIVEN][:, None] == NAMES, r"y must have shape \(n_samples,\), got \(80, 3\)"),
        ([None, *NAMES[GIVEN][1:]], "none of them missing"),
        (SERIES.iloc[::-1], "y must be the labels|index"),
    ],
)
def test_labels_of_another_data_set_are_refused(tmp_path, y, message):
    path, _ = write(tmp_path, y=SERIES)
    with pytest.raises(ValueError, match=message):
        Corrections.read(path).apply(y)


def test_another_label_of_a_row_that_was_not_reviewed_is_another_data_set(tmp_path):
    path, table = write(tmp_path)
    y = NAMES[GIVEN].copy()
    other = np.setdiff1d(np.arange(N), table["row"])[0]
    y[other] = NAMES[(GIVEN[other] + 1) % 3]
    with pytest.raises(ValueError, match="got 80-labels-.*rows that were not reviewed differ"):
        Corrections.read(path).apply(y)


def test_equal_labels_in_another_order_of_the_index_are_refused(tmp_path):
    path, _ = write(tmp_path, y=SERIES)
    other = pd.Series(NAMES[GIVEN], [f"id{k}" for k in range(N)][::-1])
    with pytest.raises(ValueError, match="y must have index 'id.*' in row .*, got 'id"):
        Corrections.read(path).apply(other)
    Corrections.read(path).apply(NAMES[GIVEN])  # without an index there is none to compare


def lines_of(table):
    return list(csv.reader(io.StringIO(table.to_csv(index=False))))


def test_a_stratum_of_its_earlier_name_is_read(tmp_path):
    path, _ = write(tmp_path)
    text = path.read_text()
    assert ",unlikely," in text
    path.write_text(text.replace(",unlikely,", ",differs,"))
    assert "differs" in Corrections.read(path).strata


def with_field(name, value, line=3):
    """Return a change of one field of a file, given as lines."""

    def change(lines):
        lines[line][COLUMNS.index(name)] = value
        return lines

    return change


FOREIGN = "9-labels-0123456789abcdef"
FIELDS = {
    "row": ["", "-1", "80", "1e3", "3.0", "0x10", " 7 x", "nan", "9" * 30, "\u0664", "seven"],
    "given": ["", "dog", "ANT", "ant "],
    "suggested": ["dog", ""],
    "decision": ["", "Kept", "yes", "accepted?", "None", "corrected "],
    "label": ["dog", "", "0", "ant,bee"],
    "origin": ["", "Sample", "random", "issue,sample", "0"],
    "stratum": ["", "hard", "SURE", "0"],
    "stratum_size": ["", "0", "-3", "81", "12.5", "many", "\u00b2", "1e2"],
    "dataset": ["", "80", FOREIGN, "80-labels-xyz", "80-labels-0123", "labels",
                "80-LABELS-" + "0" * 16],
}  # fmt: skip


def table_of(lines):
    """Return lines as CSV."""
    text = io.StringIO()
    csv.writer(text).writerows(lines)
    return text.getvalue()


def csv_texts(table):
    """Yield a name and the text or bytes of malformed CSV files."""
    lines = lines_of(table)
    good = table_of(lines)
    sampled = next(k for k, line in enumerate(lines) if line[6] == "sample")
    for name, values in FIELDS.items():
        place = sampled if name.startswith("stratum") else 3
        for value in values:
            yield f"{name} {value!r}", table_of(with_field(name, value, place)(lines_of(table)))
    for name in COLUMNS:
        at = COLUMNS.index(name)
        yield f"without {name}", table_of([line[:at] + line[at + 1 :] for line in lines])
        yield f"{name} twice", table_of([[*line, line[at]] for line in lines])
    yield "nothing", ""
    yield "lines without text", "\n\n\n"
    yield "the header alone", table_of(lines[:1])
    yield "no header", table_of(lines[1:])
    yield "semicolons", good.replace(",", ";")
    yield "tabs", good.replace(",", "\t")
    yield "a row twice", table_of([*lines, lines[4]])
    other = list(lines[4])
    other[4], other[5] = "corrected", "dog"
    yield "a row twice, with two labels", table_of([*lines, other])
    yield "a field too few", table_of([*lines[:5], lines[5][:-1], *lines[6:]])
    yield "a field too many", table_of([*lines[:5], [*lines[5], "x"], *lines[6:]])
    yield "an open quote", good.replace("ant", '"ant', 1)
    yield "cut in the middle", good[: len(good) // 2 - 7]
    yield "UTF-16", good.encode("utf-16")
    yield "Latin-1", good.replace("ant", "\u00e4nt").encode("latin-1")
    yield "bytes", bytes(range(256)) * 4
    yield "zeros", b"\x00" * 100
    yield "HTML", "<!doctype html><title>Sign in</title>"
    yield "sizes of two kinds", table_of(with_field("stratum_size", "79", sampled)(lines_of(table)))
    small = [list(line) for line in lines]
    for line in small[1:]:
        line[8] = "1" if line[7] else line[8]
    yield "strata smaller than their sample", table_of(small)
    large = [list(line) for line in lines]
    for line in large[1:]:
        line[8] = "60" if line[7] else line[8]
    yield "strata larger than the data", table_of(large)
    yield "a field of a megabyte", good.replace("ant", "a" * 2**20, 1)


def json_texts(table):
    """Yield a name and the text of malformed JSON files."""
    records = json.loads(table.to_json(orient="records"))
    good = json.dumps(records)
    yield "cut JSON", good[:-20]
    yield "an object", json.dumps({"records": records})
    yield "a list of lists", json.dumps([list(record.values()) for record in records])
    yield "an empty list", "[]"
    yield "deep lists", "[" * 100_000
    yield (
        "a number of 5000 digits",
        good.replace('"row": ', '"row": ' + "9" * 5000, 1),
    )
    for name, value in [("row", 1.5), ("row", None), ("row", True), ("row", -1), ("label", None),
                        ("label", ["ant"]), ("given", {"a": 1}), ("origin", 3)]:  # fmt: skip
        yield f"{name} {value!r}", json.dumps([{**records[0], name: value}, *records[1:]])
    yield "without label", json.dumps([{k: v for k, v in records[0].items() if k != "label"}])


def malformed(table):
    yield from ((f"csv: {name}", "csv", text) for name, text in csv_texts(table))
    yield from ((f"json: {name}", "json", text) for name, text in json_texts(table))


def test_a_hundred_malformed_files_are_refused_and_labels_stay(tmp_path):
    _, table = write(tmp_path)
    y = NAMES[GIVEN]
    Corrections.read(tmp_path / "corrections.csv").apply(y)  # as it is, it is good
    seen = set()
    for name, kind, text in malformed(table):
        path = tmp_path / f"bad.{kind}"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(ValueError, match=r" must (be|hold|have|begin|sum)\b") as error:
            Corrections.read(path).apply(y)
        message = str(error.value)
        assert "got" in message, name
        assert len(message) < 500, name
        assert type(error.value) is ValueError, name
        seen.add(name)
    assert len(seen) >= 100
    np.testing.assert_array_equal(y, NAMES[GIVEN])


def test_json_is_read_as_csv_is(tmp_path):
    path, table = write(tmp_path)
    other = tmp_path / "corrections.json"
    other.write_text(table.to_json(orient="records"))
    for name, value in vars(Corrections.read(path)).items():
        np.testing.assert_array_equal(value, getattr(Corrections.read(other), name))


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.csv"):
        Corrections.read(tmp_path / "none.csv")
