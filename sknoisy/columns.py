"""Tables with a column a class: an array, or a frame whose columns may be called by the classes."""

import sys

import numpy as np
from scipy import sparse


def read_columns(table, name: str, out="pass probabilities") -> tuple[np.ndarray, list | None]:
    """Return the numbers of a table, in float64 with NaN, and what its columns are called.

    They have no names in an array, nor in a frame whose columns are numbered. `out` is the way out
    of an error.
    """
    pandas = sys.modules.get("pandas")  # whoever has a frame has imported it
    names = list(getattr(table, "columns", []))
    try:
        if pandas is not None and isinstance(table, pandas.DataFrame):
            numbers = table.to_numpy(dtype=np.float64, na_value=np.nan)
        elif sparse.issparse(table):
            numbers = table.toarray().astype(np.float64)
        elif hasattr(table, "detach"):  # a tensor, perhaps of a type or device that numpy lacks
            numbers = table.detach().cpu().double().numpy()
        else:
            numbers = np.asarray(table, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must hold numbers, got {error}; {out}.") from error
    return numbers, names if names and names != list(range(len(names))) else None


def check_numbered(table, classes: np.ndarray, name: str) -> None:
    """Raise where columns are numbered and classes these numbers as texts, "10" before "2"."""
    columns = list(getattr(table, "columns", []))
    texts = [str(column) for column in columns]
    is_numbered = columns == list(range(len(columns)))
    if is_numbered and texts != classes.tolist() and set(texts) == set(classes.tolist()):
        raise ValueError(
            f"{name} must have columns called by the classes, texts such as"
            f" {classes.tolist()[:3]}, got numbers, which sort in another order; pass"
            f" {name}.rename(columns=str)."
        )
