"""Tables: a frame where pandas is importable, else a structured array."""

import numpy as np


def table(columns, row_index=None):
    """Return a frame, or without pandas a structured array, which has its index as field `row`.

    Parameters
    ----------
    columns : dict of str to ndarray of shape (n_rows,)
        Of them ``row`` is the index; without it ``position``.
    row_index : RowIndex or None
        The labels of the positions that the index holds.
    """
    try:
        import pandas as pd
    except ImportError:
        first = next(iter(columns.values()))
        array = np.empty(len(first), dtype=[(name, v.dtype) for name, v in columns.items()])
        for name, value in columns.items():
            array[name] = value
        return array
    columns = dict(columns)
    index = columns.pop("row") if "row" in columns else columns["position"]
    return pd.DataFrame(columns, index=index if row_index is None else row_index.index()[index])
