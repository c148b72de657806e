"""The index of a fit's rows to files and back: arrays as bytes, texts with their lengths."""

import numpy as np
import torch

from sknoisy.row_index import RowIndex
from sknoisy.user_warnings import warn


def encode_index(row_index: RowIndex | None) -> tuple[dict | None, dict]:
    """Return an index as JSON and tensors; warn, and return none, where it has no such form."""
    if row_index is None:
        return None, {}
    try:
        levels, names = row_index.levels()
        if not all(isinstance(name, str | int | None) for name in names):
            raise TypeError(f"the names {names}")
    except TypeError as error:
        warn(
            f"save leaves out the index of the training rows, which has {error}: the tables of a"
            " loaded estimator number the rows. Pickle keeps it."
        )
        return None, {}
    tensors, kinds = {}, []
    for k, level in enumerate(levels):
        kinds.append("text" if level.dtype == object else level.dtype.str)
        if level.dtype == object:
            texts = [text.encode(errors="surrogatepass") for text in level]
            tensors[f"{k}.lengths"] = torch.tensor([len(t) for t in texts], dtype=torch.int64)
            content = b"".join(texts)
        else:
            content = level.tobytes()
        tensors[f"{k}.bytes"] = torch.from_numpy(np.frombuffer(content, dtype=np.uint8).copy())
    return {"names": names, "kinds": kinds}, tensors


def decode_index(written: dict | None, tensors: dict, n_rows: int) -> RowIndex | None:
    """Return the index that `encode_index` wrote, of a fit on so many rows."""
    if written is None:
        return None
    levels = []
    for k, kind in enumerate(written["kinds"]):
        content = tensors[f"{k}.bytes"].numpy().tobytes()
        if kind == "text":
            ends = np.cumsum(tensors[f"{k}.lengths"].numpy()).tolist()
            bounds = zip([0, *ends[:-1]], ends, strict=True)
            texts = [content[a:b].decode(errors="surrogatepass") for a, b in bounds]
            level = np.array(texts, dtype=object)
        else:
            if np.dtype(kind).kind not in "biufmM":
                raise ValueError(f"its index is of type {kind!r}")
            level = np.frombuffer(content, dtype=np.dtype(kind))
        levels.append(level)
    names = written["names"]
    is_right = len(names) == len(levels) > 0 and all(len(level) == n_rows for level in levels)
    if not is_right or not all(isinstance(name, str | int | None) for name in names):
        raise ValueError("its index does not fit its rows")
    return RowIndex(levels=levels, names=names)
