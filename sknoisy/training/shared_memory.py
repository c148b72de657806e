"""Tables in memory that the processes of a machine share: one copy, however many they are.

A table is a file without a name that one process makes, and the others map as well: it is gone with
the last of them, however they end. Linux alone has such files.
"""

import mmap
import os
from contextlib import suppress
from math import prod
from pathlib import Path
from weakref import WeakValueDictionary

import torch
from torch import Tensor

SHARED_BYTES = 2**28  # of a table: 0.4 GB took 0.6 s an epoch to exchange, small ones take nothing


def machine_name() -> tuple:
    """Return what processes have in common that can open each other's files."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
        return boot, os.readlink("/proc/self/ns/pid"), os.getuid()
    except OSError:  # no other one has this
        return (os.urandom(16),)


class Machine:
    """The processes of this machine, and the first one of each machine.

    Parameters
    ----------
    ranks : Ranks
        All processes; each of them makes one at the same time.
    """

    def __init__(self, ranks):
        names = ranks.all(machine_name())
        members = [[r for r, name in enumerate(names) if name == own] for own in {*names}]
        groups = [ranks.subset(ranks_of_one) for ranks_of_one in sorted(members)]
        self.local = next(group for group in groups if group.rank >= 0)
        self.leaders = ranks.subset(sorted(group[0] for group in members))
        self.maps = WeakValueDictionary()  # by address

    def close(self) -> None:
        """Leave the groups."""
        self.local.close()
        self.leaders.close()

    def holds(self, table: Tensor) -> bool:
        """Return whether a table is in memory that the processes share."""
        return table.untyped_storage().data_ptr() in self.maps

    def map(self, n_bytes: int) -> mmap.mmap | None:
        """Return memory of zeros that the machine's processes share, or None where they cannot."""
        file = memory = path = None
        if self.local.rank == 0 and hasattr(os, "memfd_create"):
            with suppress(OSError):
                file = os.memfd_create("sknoisy")
                os.ftruncate(file, n_bytes)
                path = f"/proc/{os.getpid()}/fd/{file}"
        path = self.local.all(path)[0]
        if path is not None:
            with suppress(OSError):
                file = os.open(path, os.O_RDWR) if file is None else file
                memory = mmap.mmap(file, n_bytes)
        self.local.any(False)  # the first one's file is open until all have mapped it
        if file is not None:
            os.close(file)
        return memory

    def tensor(self, memory: mmap.mmap, shape, dtype) -> Tensor:
        """Return a table (n, ...) in shared memory."""
        table = torch.frombuffer(memory, dtype=dtype, count=prod(shape)).view(shape)
        self.maps[table.untyped_storage().data_ptr()] = memory
        return table

    def exchange(self, table: Tensor, rows: Tensor) -> None:
        """Write the rows (k,) that other machines' processes wrote into this one's table."""
        rows = self.local.gather_own(rows)  # by then each has written its own
        if self.leaders.size > 1 and self.local.rank == 0:
            self.leaders.exchange(table, rows)
        self.local.any(False)
