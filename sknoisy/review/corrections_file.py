"""The file of corrections that a review page exports: read, and checked by itself."""

import csv
import json
from io import StringIO
from pathlib import Path

from sknoisy.review.names import FORM
from sknoisy.review.selection import STRATA

EARLIER_STRATA = ("differs",)  # of pages that earlier versions wrote
COLUMNS = (
    "row",
    "index",
    "given",
    "suggested",
    "decision",
    "label",
    "origin",
    "stratum",
    "stratum_size",
    "dataset",
)
ORIGINS = ("issue", "sample", "chosen")


def read_records(path) -> list[dict]:
    """Return the decisions in a file, CSV or JSON, each a dict of `COLUMNS`.

    The row number and the stratum's size are int, the rest str. Lines without a decision and a
    label are left out.

    Raises
    ------
    ValueError
        That names the file, the line or record, the column, the rule and the value.
    """
    path = Path(path)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} must be UTF-8, got {error}; save it as CSV UTF-8.") from error
    is_json = text.lstrip().startswith(("[", "{")) or path.suffix == ".json"
    found = _json_records(text, path) if is_json else _csv_records(text, path)
    records = [
        _checked(record, f"{path}, {place}")
        for place, record in found
        if record["decision"] or record["label"]
    ]
    if not records:
        raise ValueError(f"{path} must hold at least one decision, got none.")
    _check_together(records, path)
    return records


def _csv_records(text, path):
    """Return pairs of a place and a dict of texts."""
    try:
        lines = list(csv.reader(StringIO(text, newline=""), strict=True))
    except csv.Error as error:
        raise ValueError(f"{path} must be CSV with commas, got: {error}.") from error
    if not lines:
        raise ValueError(f"{path} must begin with the line {','.join(COLUMNS)}, got no line.")
    header = lines[0]
    _check_columns(header, str(path))
    found = []
    for number, line in enumerate(lines[1:], start=2):
        if not line:
            continue
        if len(line) != len(header):
            raise ValueError(
                f"{path}, record {number} must have {len(header)} fields, as the header, got"
                f" {len(line)}: {','.join(line)[:60]!r}."
            )
        found.append((f"record {number}", dict(zip(header, line, strict=True))))
    return found


def _json_records(text, path):
    try:
        records = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} must be JSON, got: {error}.") from error
    if not isinstance(records, list):
        raise ValueError(f"{path} must hold a list of records, got {type(records).__name__}.")
    found = []
    for number, record in enumerate(records, start=1):
        place = f"record {number}"
        if not isinstance(record, dict):
            raise ValueError(f"{path}, {place} must be an object, got {str(record)[:60]!r}.")
        _check_columns(list(record), f"{path}, {place}")
        for name in COLUMNS:
            if isinstance(record[name], bool) or not isinstance(record[name], str | int):
                raise ValueError(
                    f"{path}, {place}: {name} must be a text or a whole number, got"
                    f" {str(record[name])[:60]!r}."
                )
        found.append((place, {name: str(record[name]) for name in COLUMNS}))
    return found


def _check_columns(names, where):
    missing = [name for name in COLUMNS if name not in names]
    if missing:
        raise ValueError(
            f"{where} must have the columns {','.join(COLUMNS)}, without {missing[0]!r}: got"
            f" {','.join(map(str, names))[:60]!r}."
        )
    twice = [name for name in COLUMNS if names.count(name) > 1]
    if twice:
        raise ValueError(f"{where} must have each column once, got {twice[0]!r} twice.")


def _checked(record, where) -> dict:
    """Return a record with numbers, checked by itself."""
    if not FORM.fullmatch(record["dataset"]):
        raise ValueError(
            f"{where}: dataset must be the number and digest of labels, such as"
            f" 1347-labels-0123456789abcdef, got {record['dataset'][:60]!r}."
        )
    n_samples = n_samples_of(record["dataset"])
    row = _whole(record["row"], 0, n_samples - 1, f"{where}: row")
    _check_choice(record["origin"], ORIGINS, f"{where}: origin")
    expected = decision_of(record["given"], record["suggested"], record["label"])
    if record["decision"] != expected:
        raise ValueError(
            f"{where}: decision must be {expected!r} for label {record['label']!r}, given"
            f" {record['given']!r} and suggested {record['suggested']!r}, got"
            f" {record['decision']!r}."
        )
    size = 0
    if record["origin"] == "sample":
        _check_choice(record["stratum"], (*STRATA, *EARLIER_STRATA), f"{where}: stratum")
        size = _whole(record["stratum_size"], 1, n_samples, f"{where}: stratum_size")
    return {**{name: record[name] for name in COLUMNS}, "row": row, "stratum_size": size}


def decision_of(given, suggested, label) -> str:
    """Return what a decision for a label is called."""
    if label == given:
        return "kept"
    return "accepted" if label == suggested else "corrected"


def n_samples_of(dataset) -> int:
    """Return the number of labels of a data set."""
    return int(FORM.fullmatch(dataset).group(1))


def _whole(text, low, high, name) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 13 and low <= int(text) <= high):
        raise ValueError(f"{name} must be a whole number in [{low}, {high}], got {text[:60]!r}.")
    return int(text)


def _check_choice(value, choices, name):
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value[:60]!r}.")


def _check_together(records, path):
    """Raise unless records are of one data set, of different rows, and agree on their strata."""
    rows, sizes, counts = {}, {}, {}
    for record in records:
        if record["dataset"] != records[0]["dataset"]:
            raise ValueError(
                f"{path} must hold corrections of one data set, got {records[0]['dataset']} and"
                f" {record['dataset']}; read a file for each."
            )
        row, stratum = record["row"], record["stratum"]
        if row in rows:
            raise ValueError(
                f"{path} must hold each row once, got row {row} with labels {rows[row]!r} and"
                f" {record['label']!r}."
            )
        rows[row] = record["label"]
        if record["origin"] != "sample":
            continue
        counts[stratum] = counts.get(stratum, 0) + 1
        if sizes.setdefault(stratum, record["stratum_size"]) != record["stratum_size"]:
            raise ValueError(
                f"{path}: stratum_size must be the same for each row of stratum {stratum!r}, got"
                f" {sizes[stratum]} and {record['stratum_size']}."
            )
    n_samples = n_samples_of(records[0]["dataset"])
    for stratum, size in sizes.items():
        if counts[stratum] > size:
            raise ValueError(
                f"{path}: stratum_size of {stratum!r} must be at least the {counts[stratum]} rows"
                f" of it, got {size}."
            )
    if sum(sizes.values()) > n_samples:
        raise ValueError(
            f"{path}: sizes of strata must sum to at most {n_samples}, got {sum(sizes.values())}."
        )
