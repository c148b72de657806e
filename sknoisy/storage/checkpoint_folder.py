"""The files of a fit's checkpoints: written atomically, read back only if intact.

A file holds a digest and a state of tensors, numbers and text, which torch reads without running
any code. The last two files are kept.
"""

import hashlib
import io
import re
from pathlib import Path

import torch

from sknoisy.storage.atomic import whole_file
from sknoisy.user_warnings import warn

try:
    import fcntl
except ImportError:  # Windows: two fits in one folder are not detected
    fcntl = None

MAGIC = b"sknoisy checkpoint 2\n"
PATTERN = re.compile(r"epoch-\d{6}\.checkpoint(\.\d+\.tmp)?")


def write_state(path: Path, state: dict) -> None:
    """Write a state and its digest atomically, and without a copy of it in memory."""
    with whole_file(path) as file:
        file.write(MAGIC + bytes(hashlib.sha256().digest_size))
        payload = Digested(file)
        torch.save(state, payload)
        file.seek(len(MAGIC))
        file.write(payload.digest.digest())


class Digested(io.RawIOBase):
    """A file to write to that knows the digest of what was written."""

    def __init__(self, file):
        self.file = file
        self.digest = hashlib.sha256()

    def write(self, content):
        """Write bytes."""
        self.digest.update(content)
        return self.file.write(content)

    def flush(self):
        """Flush the file."""
        self.file.flush()


def read_state(path: Path) -> dict:
    """Return the state in a file; ValueError if its digest does not match."""
    content = path.read_bytes()
    head, payload = content[: len(MAGIC) + 32], content[len(MAGIC) + 32 :]
    if not head.startswith(MAGIC):
        raise ValueError("it does not begin as a checkpoint does")
    if hashlib.sha256(payload).digest() != head[len(MAGIC) :]:
        raise ValueError("its digest is another: it is cut short or changed")
    return torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)


def _lock(folder):
    """Return an open file that no other fit can lock; the lock ends with the process."""
    if fcntl is None:
        return None
    file = open(folder / "fit.lock", "w")  # noqa: SIM115 - open as long as the fit
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise BlockingIOError("another fit writes to it; pass a folder of its own") from error
    return file


class CheckpointFolder:
    """The checkpoints of one fit.

    Parameters
    ----------
    path : str or Path
        A folder, created if it does not exist.

    Attributes
    ----------
    state : dict or None
        State after the last epoch whose file is intact, or None.
    """

    def __init__(self, path):
        try:
            self.path = Path(path)
            self.path.mkdir(parents=True, exist_ok=True)
            self.lock = _lock(self.path)
        except (OSError, TypeError) as error:
            raise ValueError(
                f"checkpoint_dir must be a folder to write to, got {path!r}: {error}"
            ) from error
        self.state = None
        self.last = None
        for file in sorted(self.own_files(), reverse=True):
            if file.suffix != ".checkpoint":
                continue
            try:
                self.state, self.last = read_state(file), file
                break
            except Exception as error:  # whatever torch raises for a damaged file
                reason = str(error).partition("\n")[0]
                warn(
                    f"checkpoint_dir holds a file that cannot be used, {file}: {reason}. The one"
                    " before it is used, if there is one.",
                )

    @property
    def epochs_done(self) -> int:
        """Number of epochs that need not be trained again."""
        return 0 if self.state is None else len(self.state["history"])

    def check(self, fingerprint: dict) -> None:
        """Raise ValueError unless the state is of the same data, parameters and versions."""
        if self.state is None:
            return
        before = self.state["fingerprint"]
        for name in {**fingerprint, **before}:  # the estimator first, the data last
            old, new = before.get(name), fingerprint.get(name)
            if old != new:
                raise ValueError(
                    f"checkpoint_dir={str(self.path)!r} holds a fit with {name}={old}, this one"
                    f" has {name}={new}; pass another folder, or what that fit was given. A folder"
                    " belongs to one fit: leave it out in cross-validation and searches."
                )

    def write(self, state: dict) -> None:
        """Add the state after an epoch; remove all files but it and the one before."""
        path = self.path / f"epoch-{len(state['history']):06d}.checkpoint"
        write_state(path, state)
        for file in self.own_files():  # also what a killed fit was writing
            if file not in (path, self.last):
                file.unlink()
        self.last = path

    def own_files(self) -> list[Path]:
        """Return the files that fits have written here."""
        return [file for file in self.path.iterdir() if PATTERN.fullmatch(file.name)]

    def close(self) -> None:
        """Release the lock of the folder."""
        if self.lock is not None:
            self.lock.close()
            self.lock = None


class FollowedFolder:
    """The checkpoints that the first of several processes reads and writes, as another sees them.

    Parameters
    ----------
    state : dict or None
        What the first process found.
    """

    def __init__(self, state):
        self.state = state

    epochs_done = CheckpointFolder.epochs_done

    def check(self, fingerprint):
        """Leave it to the first process, which has the same."""

    def write(self, state):
        """Leave it to the first process."""

    def close(self):
        """Nothing is open."""


def folder_of(path, ranks) -> CheckpointFolder | FollowedFolder:
    """Return the folder of a fit's checkpoints, as one of the processes that share it."""
    folder = CheckpointFolder(path) if ranks.rank == 0 else None
    state = ranks.first(folder and folder.state)
    return FollowedFolder(state) if folder is None else folder
