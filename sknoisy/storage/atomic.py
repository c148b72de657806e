"""Atomic writes of files."""

import os
from contextlib import contextmanager, suppress
from pathlib import Path


def write_whole(path: Path, content) -> None:
    """Write bytes atomically, see `whole_file`."""
    with whole_file(path) as file:
        file.write(content)


@contextmanager
def whole_file(path: Path):
    """Yield a file to write: `path` is that file or the old one, also after a power failure."""
    aside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"{path} must be in a folder that exists, got {path.parent}; create it first."
        )
    try:
        with open(aside, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    finally:
        with suppress(FileNotFoundError):
            aside.unlink()
    with suppress(OSError):  # a folder cannot be opened everywhere
        folder = os.open(path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
