"""How processes join for a fit, and how one that fails is heard by the others."""

import warnings
from contextlib import contextmanager
from datetime import timedelta

import numpy as np
import torch.distributed as dist

from sknoisy.training.ranks import ALONE, Ranks

TIMEOUT = timedelta(minutes=10)  # of waiting for the others; torch's own is 30
KEY = "sknoisy/failed"  # in the processes' common store


class OthersFailedError(RuntimeError):
    """Another process that shared the fit failed; the message is its own."""


class Note:
    """A note of an error, for those that will only see a broken connection.

    Parameters
    ----------
    ranks : Ranks
        The processes; they begin without a note of an earlier fit.
    """

    def __init__(self, ranks):
        # Torch may hide the store: then the others miss the message alone.
        get = getattr(dist.distributed_c10d, "_get_default_store", None)
        self.store = None if get is None else get()
        self.rank = ranks.rank
        if self.rank == 0 and self.store is not None and self.store.check([KEY]):
            self.store.delete_key(KEY)
        ranks.any(False)  # no process goes on before that

    def write(self, error: BaseException) -> None:
        """Leave a note of this process's own error."""
        if self.store is not None and not isinstance(error, OthersFailedError):
            self.store.set(KEY, f"process {self.rank}: {type(error).__name__}: {error}")

    def read(self) -> str | None:
        """Return the note of another process, if there is one."""
        if self.store is None or not self.store.check([KEY]):
            return None
        return self.store.get(KEY).decode()


def check_group() -> None:
    """Raise ValueError unless a launcher has made torch.distributed's process group."""
    if not dist.is_available() or not dist.is_initialized():
        raise ValueError(
            "distributed=True needs a process group, which this process has not joined: start the"
            " script by torchrun and call torch.distributed.init_process_group('gloo') before fit."
            " Inside a worker of a search pass distributed=False; the search itself is parallel."
        )


@contextmanager
def joined(distributed):
    """Yield the processes that share a fit; where one fails, so do the others.

    Parameters
    ----------
    distributed : bool, 'exact' or timedelta
        False: this process alone. 'exact': BatchNorm normalizes by the whole batch. A timedelta is
        how long to wait for the others.
    """
    if not (isinstance(distributed, bool | np.bool_ | timedelta) or distributed == "exact"):
        raise TypeError(
            f"distributed must be True, False, 'exact' or a timedelta to wait for other processes,"
            f" got {distributed!r}."
        )
    if not distributed:
        yield ALONE
        return
    check_group()
    if dist.get_world_size() == 1:
        yield ALONE
        return
    timeout = distributed if isinstance(distributed, timedelta) else TIMEOUT
    ranks = Ranks(timeout, is_exact=distributed == "exact")
    note = Note(ranks)
    try:
        with warnings.catch_warnings():
            if ranks.rank:
                warnings.simplefilter("ignore", UserWarning)
            yield ranks
    except InterruptedError as error:
        note.write(KeyboardInterrupt("amid an epoch"))
        raise KeyboardInterrupt from error
    except RuntimeError as error:
        told = note.read()
        if told is None:
            note.write(error)
            raise
        raise OthersFailedError(f"The fit failed in another process, {told}") from error
    except BaseException as error:
        note.write(error)
        raise
    finally:
        ranks.close()
