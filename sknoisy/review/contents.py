"""What a page shows of each row: a text, a picture, the columns of a table."""

import base64
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from sknoisy.inputs import refuse_containers
from sknoisy.labels import label_is_missing
from sknoisy.pictures import as_bytes, picture_of

LARGEST = 320  # pixels of a side
LOSSLESS = 96  # pictures of no more pixels a side are PNG, others JPEG


def row_contents(X, rows, n_samples, text, images, columns):
    """Return what the page shows of some rows, and the names of columns.

    Parameters
    ----------
    X : array, frame, Dataset, list of texts or None
        Texts and images stand for `text` and `images`; a table has columns.
    rows : ndarray of shape (m,)
        The rows to show.
    n_samples : int
        Number of rows that there are.
    text, images, columns
        See `write_page`.

    Returns
    -------
    contents : list of dict of length m
        'text', 'image' (a data URI) and 'cells' (a text for each column), as there are.
    names : list of str
        Of the columns.
    """
    table, text, images = _sources(X, text, images)
    for name, value in (("X", X), ("text", text), ("images", images)):
        _check_length(value, n_samples, name)
    shown, names = {}, []
    if text is not None:
        shown["text"] = [_cell(value) for value in np.asarray(text, dtype=object)[rows]]
    if images is not None:
        images = images.to_numpy() if hasattr(images, "to_numpy") else images
        shown["image"] = [data_uri(images[int(row)]) for row in rows]
    is_computed = shown and not hasattr(table, "columns")  # numbers, from what is shown
    if table is not None and not (columns is None and is_computed):
        names, cells = _table_cells(table, rows, columns)
        if names:
            shown["cells"] = cells
    return [{k: shown[k][i] for k in shown} for i in range(len(rows))], names


def _sources(X, text, images):
    """Return the table, the texts and the images that a page shows, None for those it does not."""
    refuse_containers(X)
    if X is None and text is None and images is None:
        raise ValueError("X must be given, or text or images, got none: a page shows rows.")
    if isinstance(text, str):
        table, text = _split_column(X, text)
        return table, text, images
    if text is None and _is_texts(X):
        return None, X, images
    if images is None and _is_images(X):
        return None, text, X
    return X, text, images


def _check_length(value, n_samples, name):
    if value is None:
        return
    length = value.shape[0] if hasattr(value, "shape") else len(value)
    if length != n_samples:
        raise ValueError(f"{name} must have {n_samples} rows, as the labels, got {length}.")


def _is_texts(X) -> bool:
    """Return whether X is a list, an array or a series of texts, the first ones may be missing."""
    if not isinstance(X, list | tuple):
        if getattr(X, "ndim", 1) != 1 or hasattr(X, "columns") or not hasattr(X, "dtype"):
            return False
        X = np.asarray(X, dtype=object)
    return isinstance(next((value for value in X if not label_is_missing(value)), None), str)


def _is_images(X) -> bool:
    """Return whether the rows of X have two dimensions or more."""
    if X is None or hasattr(X, "columns") or getattr(X, "ndim", 3) < 3 or len(X) == 0:
        return False
    row = X[0]
    return isinstance(row, Path) or picture_of(row).ndim >= 2


def _split_column(X, name):
    """Return a frame without a column, and the column."""
    if name not in list(getattr(X, "columns", [])):
        raise ValueError(
            f"text must be a column of X, or hold a text for each row, got {name!r}; X is"
            f" {_described(X)}."
        )
    others = [column for column in X.columns if column != name]
    return X[others], X[name]


def _described(X) -> str:
    if hasattr(X, "columns"):
        return f"a frame with columns {list(X.columns)[:10]}"
    return f"of type {type(X).__name__}"


def _table_cells(X, rows, columns):
    """Return the names of columns (k,), and of each row (m, k) their texts."""
    if hasattr(X, "toarray"):
        raise ValueError(
            "X must be a table or hold texts or images to be shown, got a sparse matrix; pass"
            " text=, what it was computed from."
        )
    read = _frame_values if hasattr(X, "columns") else _array_values
    names, found = read(X, rows, columns)
    return [str(name) for name in names], [[_cell(value) for value in row] for row in found]


def _frame_values(X, rows, columns):
    """Return names of columns of a frame, and their values."""
    if isinstance(columns, str):
        raise ValueError(f"columns must be a list of columns of X, got {columns!r}; put it in [].")
    names = list(X.columns) if columns is None else list(columns)
    missing = [name for name in names if name not in list(X.columns)]
    if missing:
        raise ValueError(f"columns must be columns of X, got {missing[0]!r}; X is {_described(X)}.")
    if not names:
        return [], []
    if hasattr(X, "iloc"):
        return names, X[names].iloc[rows].itertuples(index=False, name=None)
    return names, X[names][rows].rows()  # of polars


def _array_values(X, rows, columns):
    """Return names or numbers of the columns of an array, and their values."""
    X = np.asarray(X)
    if X.ndim != 2:
        raise ValueError(
            f"X must be a table or hold texts or images to be shown, got shape {X.shape}; pass"
            " text=, or X of shape (n_samples, n_columns)."
        )
    if columns is None:
        columns = range(X.shape[1])
    elif len(columns) not in (0, X.shape[1]):
        raise ValueError(
            f"columns must name the {X.shape[1]} columns of X, got {len(columns)} names."
        )
    return list(columns), X[rows].tolist()


def _cell(value) -> str:
    """Return the text of a value, numbers to six digits."""
    if label_is_missing(value):
        return ""
    if isinstance(value, float | np.floating):
        return f"{value:.6g}"
    return str(value)


def data_uri(image) -> str:
    """Return an image, an array, a PIL image or the path of a file, scaled down, as a data URI."""
    image = image[0] if isinstance(image, tuple) else image
    if isinstance(image, str | Path):
        image = Image.open(image)
    if isinstance(image, Image.Image):
        image = ImageOps.exif_transpose(image).convert("RGB")
    else:
        image = Image.fromarray(np.ascontiguousarray(as_bytes(picture_of(image))))
    image.thumbnail((LARGEST, LARGEST))
    kind = "png" if max(image.size) <= LOSSLESS else "jpeg"
    file = BytesIO()
    image.save(file, kind, quality=85)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"
