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
    index = index if row_index is None else row_index.index()[index]
    frame = pd.DataFrame(columns, index=index)
    # Of which some are missing: else objects, which scikit-learn does not take for classes.
    nullable = {"integer": "Int64", "boolean": "boolean"}
    kinds = {n: pd.api.types.infer_dtype(v) for n, v in columns.items() if v.dtype == object}
    return frame.astype({n: nullable[kind] for n, kind in kinds.items() if kind in nullable})
