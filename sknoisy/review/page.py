"""A page for the review of labels: one HTML file that needs no server and no network."""

import base64
import hashlib
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
from jinja2 import Environment

from sknoisy.confident_learning import label_quality
from sknoisy.issues import judged
from sknoisy.pipeline import fitted_estimator
from sknoisy.review.contents import row_contents
from sknoisy.review.names import dataset_of, index_name, names_of
from sknoisy.review.selection import select_rows
from sknoisy.row_index import RowIndex, check_order
from sknoisy.storage.atomic import write_whole

MOST_PROBABLE = 5  # classes of a row whose probability is shown


def write_page(
    estimator=None,
    X=None,
    path="review.html",
    *,
    y=None,
    pred_probs=None,
    classes=None,
    rows="issues",
    n_rows=200,
    text=None,
    images=None,
    columns=None,
    random_state=None,
):
    """Write a page on which a person confirms or corrects labels.

    One HTML file for Firefox and Chromium, that opens from a folder, without a server and without a
    network. Work is kept in the browser, and its export is what `Corrections.read` reads. Keys:
    Enter accepts the suggestion, Space keeps the given label, digits and letters choose a class,
    ``/`` finds one, left and right move, U undoes.

    Parameters
    ----------
    estimator, y, pred_probs, classes
        What judges the labels, see `sknoisy.issues.find_label_issues`. Classes that no row has as
        its given label are not suggested.
    X : array-like, frame, Dataset, list of texts or None
        What the page shows of each row: images or texts, or else the columns of a table. It may be
        another form of the rows than `fit` got.
    path : str or Path, default='review.html'
        The file; replaced once the new one is whole.
    rows : {'issues', 'sample', 'mixed'} or array-like, default='issues'
        - 'issues': the labels of lowest quality, worst first.
        - 'sample': rows drawn at random, in proportion from strata of confidence, and within them
          from classes, in a random order: what `Corrections.noise_rate` and `trusted` rest on.
          Review all of them, or the first ones without a filter.
        - 'mixed': half a sample, of all rows, and before it the worst of the others.
        - row numbers of shape (m,), or a mask of shape (n_samples,): these, all of them.
    n_rows : int, default=200
        How many, at most, where `rows` is a mode.
    text : str, array-like of str of shape (n_samples,) or None, default=None
        A text for each row, or the name of the column of a frame X that has it.
    images : array-like of shape (n_samples, ...), Dataset, list of PIL images or paths, or None, \
            default=None
        An image for each row, shown scaled down to 320 pixels.
    columns : list or None, default=None
        The columns of a frame X to show, or names of the columns of an array X. None: all, of an
        array if there is neither text nor image; ``[]``: none.
    random_state : int, RandomState or None, default=None
        Decides the sample.

    Returns
    -------
    rows : pandas.DataFrame, or structured ndarray without pandas
        A row for each on the page, in its order, with the columns of the export: ``row``, the
        number in X and y; ``index``, that of the frame, or ''; ``given`` and ``suggested`` labels;
        ``decision`` and ``label``, still ''; ``origin``, 'issue', 'sample' or 'chosen';
        ``stratum`` and ``stratum_size``, '' and 0 outside of the sample; ``dataset``, the number
        and digest of the given labels.
    """
    found = judged(estimator, y, pred_probs, classes)
    given = _given_of(found, estimator)
    proba, given, classes = _of_given_classes(found.all_proba, given, found.classes)
    # No mode takes rows without any vote: they have no label to review.
    places = found.rows if isinstance(rows, str) else np.arange(len(given))
    quality = label_quality(proba, given)
    quality[found.rows] = found.quality
    selection = select_rows(rows, n_rows, given[places], quality[places], random_state)
    selection = replace(selection, rows=places[selection.rows])
    contents, names = row_contents(X, selection.rows, len(given), text, images, columns)
    row_index = _index_of(estimator, y, pred_probs)
    for name, shown in (("X", X), ("text", text), ("images", images)):
        check_order(name, shown, "the labels", row_index, frame="y")
    index = row_index or RowIndex.of(X)
    table = _export_columns(selection, proba, given, classes, index)
    page = _page_data(table, contents, names, proba, given, quality, classes)
    write_whole(Path(path), render(page).encode())
    return _as_frame(table)


def _given_of(found, estimator):
    """Return the class numbers (n_samples,) of all rows."""
    if len(found.rows) == len(found.all_proba):
        return found.given
    return np.searchsorted(found.classes, fitted_estimator(estimator).given_labels_)


def _of_given_classes(proba, given, classes):
    """Leave out classes that no row has as its given label."""
    seen = np.unique(given)
    return np.asarray(proba)[:, seen], np.searchsorted(seen, given), classes[seen]


def _index_of(estimator, y, pred_probs):
    """Return the index that the labels have in a frame, or None: that of `find_label_issues`."""
    of_fit = None if estimator is None else fitted_estimator(estimator)._row_index
    return RowIndex.of(y, pred_probs) or of_fit


def _export_columns(selection, proba, given, classes, row_index) -> dict:
    """Return the columns of the export (m,), by name."""
    rows = selection.rows
    index = [""] * len(rows)
    if row_index is not None:
        index = [index_name(value) for value in row_index.index()[rows]]
    return {
        "row": rows,
        "index": index,
        "given": classes[given[rows]],
        "suggested": classes[proba[rows].argmax(axis=1)],
        "decision": [""] * len(rows),
        "label": [""] * len(rows),
        "origin": selection.origins,
        "stratum": selection.strata,
        "stratum_size": selection.sizes,
        "dataset": [dataset_of(names_of(classes[given]))] * len(rows),
    }


def _as_frame(table):
    """Return columns as a frame, or as a structured array without pandas."""
    columns = {name: np.asarray(value) for name, value in table.items()}
    try:
        import pandas as pd
    except ImportError:
        kinds = [(name, value.dtype) for name, value in columns.items()]
        kinds = [(n, object if n in ("decision", "label") else kind) for n, kind in kinds]
        found = np.empty(len(table["row"]), dtype=kinds)
        for name, value in columns.items():
            found[name] = value
        return found
    frame = pd.DataFrame(table)
    return frame.astype({"decision": object, "label": object})  # they take labels of any type


def _page_data(table, contents, columns, proba, given, quality, classes) -> dict:
    """Return what the page's script reads."""
    rows = []
    for i, row in enumerate(table["row"].tolist()):
        best = np.argsort(-proba[row], kind="stable")[:MOST_PROBABLE]
        rows.append(
            {
                "row": row,
                "index": table["index"][i],
                "given": int(given[row]),
                "suggested": int(proba[row].argmax()),
                "quality": round(float(quality[row]), 3),
                "probable": [[int(k), round(float(proba[row, k]), 3)] for k in best],
                "origin": table["origin"][i],
                "stratum": table["stratum"][i],
                "stratum_size": table["stratum_size"][i],
                **contents[i],
            }
        )
    names, dataset = names_of(classes), table["dataset"][0]
    key = repr((dataset, names, table["row"].tolist(), table["suggested"].tolist()))
    return {
        "id": hashlib.sha256(key.encode()).hexdigest()[:16],
        "dataset": dataset,
        "classes": names,
        "columns": columns,
        "rows": rows,
    }


def render(page) -> str:
    """Return the HTML of a page, its style, script and data inside."""
    style, script, template = (
        files("sknoisy.review").joinpath(name).read_text(encoding="utf-8")
        for name in ("page.css", "page.js", "page.html.jinja")
    )
    digest = hashlib.sha256(script.encode()).digest()  # the only script that the page may run
    return (
        Environment(autoescape=True)
        .from_string(template)
        .render(
            page=page,
            style=style,
            script=script,
            script_hash=base64.b64encode(digest).decode(),
        )
    )
