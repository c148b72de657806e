"""Processes that share a fit: each takes its part of every batch, and all see the same sums.

Every process runs the same program by the same seeds and takes the same decisions; only the rows of
a batch are split among them. The numbers that decide are sums over all, so they are equal bit by
bit; what may differ by hardware is the first process's. A fit has groups of its own, and closes
them when it fails: by that the others notice.
"""

import math
import os
from datetime import timedelta

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from sknoisy.training import shared_memory

CHUNK_BYTES = 2**22  # of a table, sent at once by each process: larger ones leave the caches


class Alone:
    """The only process: it shares nothing, and its part is all."""

    rank, size, is_exact = 0, 1, False

    def is_split(self, n: int) -> bool:
        """Return whether n rows are split; of fewer than two rows a process, all do all."""
        return False

    def part(self, n: int) -> slice:
        """Return which rows of a batch of n this process passes through the network."""
        return slice(0, n)

    def own(self, rows):
        """Return those of rows (n,) that this process answers for: each has one that does."""
        return rows

    def share(self, n: int) -> float:
        """Return what the mean over this process's part weighs in the mean over n rows."""
        return 1.0

    def counts(self, n: int) -> float:
        """Return what each row of this process's part counts in a sum over n rows."""
        return 1.0

    def gather(self, n: int, tensor: Tensor) -> Tensor:
        """Return n rows, of which each process has its `part`."""
        return tensor

    def gather_own(self, tensor: Tensor) -> Tensor:
        """Return the rows of which each process has its `own`."""
        return tensor

    def zeros(self, shape, dtype: torch.dtype, device="cpu") -> Tensor:
        """Return a table of zeros; a large one is the same memory in all processes of a machine."""
        return torch.zeros(shape, dtype=dtype, device=device)

    def exchange(self, table: Tensor, rows: Tensor) -> None:
        """Write the rows (k,) of a table that each process wrote into the tables of all."""

    def once(self, table: Tensor, write) -> None:
        """Call what changes a table alike in every process; for memory that they share in one."""
        write()

    def meet(self, table: Tensor) -> None:
        """Wait until the processes that share a table's memory have come as far."""

    def sum_(self, tensors: list[Tensor]) -> None:
        """Replace tensors by their sums over the processes."""

    def first(self, value):
        """Return the first process's value."""
        return value

    def all(self, value) -> list:
        """Return the values of all processes."""
        return [value]

    def any(self, flag: bool) -> bool:
        """Return whether a flag is set in any process."""
        return flag

    def share_state(self, module: nn.Module) -> None:
        """Give all processes the first one's weights and buffers."""

    def seed_own(self, seed: int | None) -> None:
        """Let dropout and augmentation draw other numbers in each process."""

    def device(self, device: torch.device) -> torch.device:
        """Return the device of this process, of those of the same type."""
        return device

    def check_same(self, described: dict[str, str]) -> None:
        """Raise in all processes where one was given something else."""

    def __reduce__(self):
        return Alone, ()

    def __deepcopy__(self, memo):
        return self


ALONE = Alone()


class Ranks(Alone):
    """One of the processes of torch.distributed's default group.

    Parameters
    ----------
    timeout : timedelta
        How long to wait for the others.
    is_exact : bool, default=False
        Whether BatchNorm's statistics are those of the whole batch.
    members : list of int or None, default=None
        The processes, by their ranks in the default group; None for all of them.
    """

    is_agreed = False  # that training ends: all processes know
    machine = None

    def __init__(self, timeout: timedelta, *, is_exact: bool = False, members=None):
        self.timeout, self.is_exact = timeout, is_exact
        self.groups = {"cpu": dist.new_group(members, backend="gloo", timeout=timeout)}
        self.rank = dist.get_rank(self.groups["cpu"])
        self.size = dist.get_world_size(self.groups["cpu"])
        if members is None and torch.cuda.is_available() and dist.is_nccl_available():
            self.groups["cuda"] = dist.new_group(backend="nccl", timeout=timeout)
        self.n_bytes = self.n_messages = 0

    def subset(self, members) -> "Ranks":
        """Return some of the processes, of which all make a group; others have rank -1 in it."""
        return Ranks(self.timeout, members=members)

    def close(self) -> None:
        """Leave the groups."""
        if self.machine is not None:
            self.machine.close()
            self.machine = None
        # gloo closes its sockets, by which the others notice, with the last reference alone.
        while self.groups:
            dist.destroy_process_group(self.groups.popitem()[1])

    def is_split(self, n):
        """Return whether n rows are split; of fewer than two rows a process, all do all."""
        return n >= 2 * self.size

    def part(self, n):
        """Return which rows of a batch of n this process passes through the network."""
        if not self.is_split(n):
            return slice(0, n)
        return slice(n * self.rank // self.size, n * (self.rank + 1) // self.size)

    def own(self, rows):
        """Return those of rows (n,) that this process answers for: each has one that does."""
        if not self.is_split(len(rows)) and self.rank:
            return rows[:0]
        return rows[self.part(len(rows))]

    def share(self, n):
        """Return what the mean over this process's part weighs in the mean over n rows."""
        part = self.part(n)
        return (part.stop - part.start) / n if self.is_split(n) else 1 / self.size

    def counts(self, n):
        """Return what each row of this process's part counts in a sum over n rows."""
        return 1.0 if self.is_split(n) else 1 / self.size

    def gather(self, n, tensor):
        """Return n rows, of which each process has its `part`; of all of them the first's."""
        if self.is_split(n):
            return self.gather_own(tensor)
        sent, group = self._sendable(tensor)
        dist.broadcast(sent, src=0, group=group)
        return sent.to(tensor.device)

    def gather_own(self, tensor):
        """Return the rows of which each process has its `own`, one process's below another's."""
        return self._gather(tensor, self._lengths(len(tensor)))

    def _lengths(self, n):
        found = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        dist.all_gather(found, torch.tensor([n]), group=self.groups["cpu"])
        return [int(k) for k in found]

    def _gather(self, tensor, lengths):
        sent, group = self._sendable(tensor)
        padded = sent.new_zeros(max(lengths), *sent.shape[1:])
        padded[: len(sent)] = sent
        parts = [torch.empty_like(padded) for _ in lengths]
        self._count(padded)
        dist.all_gather(parts, padded, group=group)
        found = torch.cat([part[:n] for part, n in zip(parts, lengths, strict=True)])
        return found.to(tensor.device)

    def _sendable(self, tensor):
        """Return a contiguous tensor, and the group that carries its device's tensors."""
        if tensor.device.type not in self.groups:
            tensor = tensor.cpu()
        return tensor.detach().contiguous(), self.groups[tensor.device.type]

    def _count(self, tensor):
        self.n_messages += 1
        self.n_bytes += tensor.nbytes

    def zeros(self, shape, dtype, device="cpu"):
        """Return a table of zeros; a large one is the same memory in all processes of a machine."""
        n_bytes = math.prod(shape) * dtype.itemsize
        if n_bytes < shared_memory.SHARED_BYTES or torch.device(device).type != "cpu":
            return super().zeros(shape, dtype, device)
        if self.machine is None:
            self.machine = shared_memory.Machine(self)
        memory = self.machine.map(n_bytes)
        if self.any(memory is None):  # in one, then nowhere: all have to exchange alike
            return super().zeros(shape, dtype, device)
        return self.machine.tensor(memory, shape, dtype)

    def _is_shared(self, table):
        return self.machine is not None and self.machine.holds(table)

    def once(self, table, write):
        """Call what changes a table alike in every process; for memory that they share in one."""
        self.meet(table)
        if not self._is_shared(table) or self.machine.local.rank == 0:
            write()
        self.meet(table)

    def meet(self, table):
        """Wait until the processes that share a table's memory have come as far."""
        if self._is_shared(table):
            self.machine.local.any(False)

    def exchange(self, table, rows):
        """Write the rows (k,) of a table that each process wrote into the tables of all."""
        if self._is_shared(table):
            self.machine.exchange(table, rows)
            return
        rows, lengths = rows.to(table.device), self._lengths(len(rows))
        if not max(lengths):
            return
        of_all = self._gather(rows, lengths).split(lengths)
        size = min(max(1, CHUNK_BYTES // table[:1].nbytes), max(lengths))
        device = table.device if table.device.type in self.groups else torch.device("cpu")
        # Newer versions of torch warn of the older name.
        gather_into = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
        sent = table.new_zeros(2, size, *table.shape[1:], device=device)
        found = table.new_empty(2, self.size * size, *table.shape[1:], device=device)
        pending = None  # while one chunk travels, the one before is written
        for k, first in enumerate(range(0, max(lengths), size)):
            mine = rows[first : first + size]
            sent[k % 2, : len(mine)] = table[mine]
            work = gather_into(
                found[k % 2], sent[k % 2], group=self.groups[device.type], async_op=True
            )
            self._count(sent[k % 2])
            self._write(table, of_all, pending)
            pending = work, first, size, found[k % 2]
        self._write(table, of_all, pending)

    def _write(self, table, of_all, pending):
        """Write what other processes sent of a chunk of their rows."""
        if pending is None:
            return
        work, first, size, found = pending
        work.wait()
        for rank, (theirs, values) in enumerate(zip(of_all, found.split(size), strict=True)):
            part = theirs[first : first + size]
            if rank != self.rank:
                table[part] = values[: len(part)].to(table.device)

    def sum_(self, tensors):
        """Replace tensors by their sums over the processes, a message a type and device."""
        kinds = {}
        for tensor in tensors:
            kinds.setdefault((tensor.dtype, tensor.device), []).append(tensor)
        for same in kinds.values():
            flat, group = self._sendable(torch.cat([t.detach().reshape(-1) for t in same]))
            self._count(flat)
            dist.all_reduce(flat, group=group)
            parts = flat.split([t.numel() for t in same])
            for tensor, total in zip(same, parts, strict=True):
                tensor.detach().copy_(total.view(tensor.shape))

    def first(self, value):
        """Return the first process's value."""
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self.groups["cpu"])
        return box[0]

    def all(self, value):
        """Return the values of all processes."""
        found = [None] * self.size
        dist.all_gather_object(found, value, group=self.groups["cpu"])
        return found

    def any(self, flag):
        """Return whether a flag is set in any process."""
        found = torch.tensor([int(flag)])
        dist.all_reduce(found, op=dist.ReduceOp.MAX, group=self.groups["cpu"])
        return bool(found.item())

    @torch.no_grad()
    def share_state(self, module):
        """Give all processes the first one's weights and buffers."""
        for tensor in module.state_dict().values():
            tensor.copy_(self.gather(0, tensor))

    def seed_own(self, seed):
        """Let dropout and augmentation draw other numbers in each process."""
        own = int(np.random.SeedSequence([seed or 0, self.rank]).generate_state(1)[0])
        torch.manual_seed(own)
        np.random.seed(own)  # noqa: NPY002 - augmentations may draw by it

    def device(self, device):
        """Return the device of this process: the one that its launcher chose, or the rank's."""
        if device.type != "cuda" or device.index is not None:
            return device
        index = torch.cuda.current_device()
        if index == 0 and torch.cuda.device_count() > 1:
            index = int(os.environ.get("LOCAL_RANK", self.rank)) % torch.cuda.device_count()
        torch.cuda.set_device(index)
        return torch.device("cuda", index)

    def check_same(self, described):
        """Raise in all processes where one was given something else."""
        found = self.all(described)
        for rank, other in enumerate(found):
            for name in {**found[0], **other}:
                if other.get(name) != found[0].get(name):
                    raise ValueError(
                        f"distributed=True needs the same {name} in every process, got"
                        f" {found[0].get(name)} in process 0 and {other.get(name)} in process"
                        f" {rank}; read the same data, and pass the same parameters, in all."
                    )
