"""The index that a frame gives its rows: kept for the tables of its labels, and compared."""

import sys

import numpy as np

from sknoisy.user_warnings import warn


def check_order(
    name: str, table, of_name: str, of, *, numbers_count: bool = False, frame: str | None = None
) -> None:
    """Raise where pandas' indexes say that two tables hold the same rows in different orders.

    Rows that are numbered may be those of an array, of which the other index says nothing: then
    warn, unless numbers count. `frame` is what a user calls the one that has the order, if not
    `of_name`.
    """
    pandas = sys.modules.get("pandas")  # whoever has a frame has imported it
    indexes = [
        t.index() if isinstance(t, RowIndex) else getattr(t, "index", None) for t in (table, of)
    ]
    if pandas is None or not all(isinstance(index, pandas.Index) for index in indexes):
        return
    index, other = indexes
    if len(index) != len(other) or index.equals(other) or set(index) != set(other):
        return
    out = f"{name}.loc[{frame or of_name}.index]"
    numbers = pandas.RangeIndex(len(index))
    if not numbers_count and any(found.equals(numbers) for found in indexes):
        warn(
            f"{name} and {of_name} are numbered in different orders: rows are taken by position. If"
            f" they belong together by number, pass {out}; else {name}.to_numpy() says so."
        )
        return
    raise ValueError(
        f"{name} must have its rows in the order of {of_name}, got the index of {of_name} in"
        f" another order; pass {out}, or if the order is right {name}.to_numpy()."
    )


class RowIndex:
    """The index of a pandas frame or series, in pickles and files as arrays.

    pandas is needed to use it, not to open an estimator that holds it.

    Parameters
    ----------
    index : pandas.Index or None
        The index; None: it is made of `levels` when it is used.
    levels : list of ndarray of shape (n_samples,)
        Its values, of a MultiIndex those of each level.
    names : list
        The name of each level; None for a level without.
    """

    def __init__(self, index=None, levels=None, names=None):
        self._index = index
        self._levels = levels
        self._names = names

    @classmethod
    def of(cls, *tables) -> "RowIndex | None":
        """Return the index of the first table that has one; None if that numbers the rows."""
        pandas = sys.modules.get("pandas")  # whoever has a frame has imported it
        for table in tables:
            index = getattr(table, "index", None)
            if pandas is not None and isinstance(index, pandas.Index):
                return cls.of_index(index)
        return None

    @classmethod
    def of_index(cls, index) -> "RowIndex | None":
        """Return a pandas.Index; None if it numbers the rows, or for what is none."""
        pandas = sys.modules.get("pandas")
        if pandas is None or not isinstance(index, pandas.Index):
            return None
        return None if index.equals(pandas.RangeIndex(len(index))) else cls(index)

    def index(self):
        """Return the pandas.Index."""
        if self._index is None:
            import pandas

            if len(self._levels) > 1:
                self._index = pandas.MultiIndex.from_arrays(self._levels, names=self._names)
            else:
                self._index = pandas.Index(self._levels[0], name=self._names[0])
        return self._index

    def levels(self) -> tuple[list, list]:
        """Return the values of each level as an array (n,), and the levels' names.

        Raises
        ------
        TypeError
            For values that only pandas has, such as dates with a time zone.
        """
        if self._levels is not None:
            return self._levels, self._names
        index = self._index
        levels = [np.asarray(index.get_level_values(k)) for k in range(index.nlevels)]
        objects = [value for level in levels if level.dtype == object for value in level]
        others = {type(value).__name__ for value in objects if not isinstance(value, str)}
        if others:
            raise TypeError(f"values of type {', '.join(sorted(others))}")
        return levels, list(index.names)

    def __reduce__(self):
        try:
            return RowIndex, (None, *self.levels())
        except TypeError:
            return RowIndex, (self._index,)
