"""Fitted estimators in a file that cannot run code: JSON and arrays, in safetensors' format.

The header holds one JSON text and its digest, which covers the arrays as well. Classes and
functions are written by import path; reading looks them up in torch and in a list that the caller
gives, and imports nothing that the file names.
"""

import hashlib
import importlib
import json
from pathlib import Path

import numpy as np
import torch
from torch import nn

from sknoisy.storage.atomic import write_whole

FORMAT = 3


def import_path(value) -> str:
    """Return where a class or function can be imported from; TypeError if nowhere."""
    name = getattr(value, "__qualname__", "<>")
    if "<" in name or not hasattr(value, "__module__"):
        raise TypeError(f"{value!r} has no import path")
    return f"{value.__module__}.{name}"


def encode(value):
    """Return a parameter as JSON; TypeError for what has no such form."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, np.generic):
        return encode(value.item())
    if isinstance(value, int | float):
        return value
    if isinstance(value, tuple):
        return {"tuple": [encode(v) for v in value]}
    if isinstance(value, list):
        return [encode(v) for v in value]
    if isinstance(value, dict) and all(isinstance(k, str) for k in value):
        return {"dict": {k: encode(v) for k, v in value.items()}}
    if isinstance(value, dict):
        return {"pairs": [[encode(k), encode(v)] for k, v in value.items()]}
    if isinstance(value, Path):
        return str(value)
    return {"import": import_path(value)}


class AllowList:
    """Classes and functions a file may name: torch's optimizers and layers, and the caller's list.

    Parameters
    ----------
    listed : class, function, str, iterable of these, or dict of them
        A str is an import path, imported here. The keys of a dict are the paths that files name.
    """

    def __init__(self, listed):
        self.listed = {}
        if isinstance(listed, dict):
            self.listed.update(listed)
            return
        for value in [listed] if isinstance(listed, str) or callable(listed) else listed:
            found = self.find(value) if isinstance(value, str) else value
            self.listed[import_path(found)] = found
            if isinstance(value, str):
                self.listed[value] = found

    @staticmethod
    def find(path):
        """Import what the caller names."""
        parent, *names = path.split(".")
        try:
            found = importlib.import_module(parent)
            for name in names:  # modules, then classes in each other
                parent = f"{parent}.{name}"
                found = getattr(found, name, None) or importlib.import_module(parent)
        except (ImportError, ValueError) as error:
            raise ValueError(f"allow must hold import paths, got {path!r}: {error}") from error
        return found

    def __getitem__(self, path):
        """Return the class or function that a file names; ValueError unless it is allowed."""
        if path in self.listed:
            return self.listed[path]
        name = str(path).rpartition(".")[2]
        families = ((torch.optim, torch.optim.Optimizer), (nn, nn.Module))
        for module, kind in families:
            found = vars(module).get(name)
            if isinstance(found, type) and issubclass(found, kind) and import_path(found) == path:
                return found
        raise ValueError(
            f"it asks for {path!r}; if you trust that, pass allow=[{name}] with the class or"
            f" function that can be imported so, or allow={{{path!r}: {name}}} with one from"
            " elsewhere"
        )

    def decode(self, value):
        """Return the parameter that `encode` wrote."""
        if isinstance(value, list):
            return [self.decode(v) for v in value]
        if not isinstance(value, dict):
            return value
        (kind, content), *more = value.items()
        if more:
            raise ValueError(f"it holds a parameter of an unknown kind: {value!r}")
        if kind == "tuple":
            return tuple(self.decode(v) for v in content)
        if kind == "dict":
            return {k: self.decode(v) for k, v in content.items()}
        if kind == "pairs":
            return {self.decode(k): self.decode(v) for k, v in content}
        if kind == "import":
            return self[content]
        raise ValueError(f"it holds a parameter of an unknown kind: {value!r}")


def digest(document: str, tensors: dict[str, torch.Tensor]) -> str:
    """Return a digest of the JSON text and of the names, types, shapes and bytes of tensors."""
    found = hashlib.sha256(document.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        found.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return found.hexdigest()


def require_safetensors():
    """Return the module that reads and writes the format."""
    try:
        import safetensors.torch
    except ImportError as error:
        raise ImportError(
            'save and load need the package safetensors: pip install "sknoisy[save]".'
        ) from error
    return safetensors


def write_file(path, document: dict, tensors: dict[str, torch.Tensor]) -> None:
    """Write a document and tensors atomically."""
    safetensors = require_safetensors()
    tensors = {k: t.detach().cpu().contiguous().clone() for k, t in tensors.items()}
    text = json.dumps(document)
    header = {"sknoisy": json.dumps({"digest": digest(text, tensors), "document": text})}
    try:
        write_whole(Path(path), safetensors.torch.save(tensors, metadata=header))
    except OSError as error:
        raise type(error)(f"path must be a file to write, got {str(path)!r}: {error}") from error


def read_file(path) -> tuple[dict, dict[str, torch.Tensor]]:
    """Return the document and tensors of a file; ValueError if its digest does not match."""
    safetensors = require_safetensors()
    path = Path(path)
    content = path.read_bytes()  # once: the bytes that are checked are those that are used
    try:
        tensors = safetensors.torch.load(content)
        size = int.from_bytes(content[:8], "little")
        header = json.loads(json.loads(content[8 : 8 + size])["__metadata__"]["sknoisy"])
        text = header["document"]
        is_whole = digest(text, tensors) == header["digest"]
        document = json.loads(text)
        if not isinstance(document, dict):
            raise TypeError("its document is no JSON object")
    except Exception as error:  # whatever the parsers raise for a damaged header
        raise ValueError(
            f"path must be a file that save wrote, whole and unchanged, got {str(path)!r}:"
            f" {type(error).__name__}: {error}. A pickle is read by joblib.load."
        ) from error
    if not is_whole:
        raise ValueError(
            f"path must be a file that save wrote, got {str(path)!r}, which was changed since: its"
            " digest is another."
        )
    if document.get("format") not in range(1, FORMAT + 1):
        raise ValueError(
            f"path must be a file of format {FORMAT} or older, got {str(path)!r} of format"
            f" {document.get('format')}, written with {document.get('versions')}; install a newer"
            " sknoisy."
        )
    return document, tensors
