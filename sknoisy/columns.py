"""Tables with a column a class: an array, or a frame whose columns may be called by the classes."""

import sys

import numpy as np
from scipy import sparse


def read_columns(table, name: str) -> tuple[np.ndarray, list | None]:
    """Return the numbers of a table, in float64 with NaN, and what its columns are called.

    They have no names in an array, nor in a frame whose columns are numbered.
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
        raise ValueError(f"{name} must hold numbers, got {error}.") from error
    return numbers, names if names and names != list(range(len(names))) else None
