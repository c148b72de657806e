"""What a benchmark ran on, and the median of its timings."""

import os
import platform
import statistics
from importlib.metadata import version
from time import perf_counter

import torch


def describe() -> str:
    """Name the processor, the cores and threads used, and the versions."""
    packages = ", ".join(f"{p} {version(p)}" for p in ("torch", "skorch", "scikit-learn", "numpy"))
    return (
        f"{processor()}, {os.cpu_count()} cores, {torch.get_num_threads()} torch threads;"
        f" Python {platform.python_version()}, {packages}"
    )


def processor() -> str:
    """Return the processor's name where the system tells it."""
    try:
        with open("/proc/cpuinfo") as lines:
            return next(line.split(":")[1].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        return platform.machine()


def median_seconds(jobs: dict, repeats: int) -> dict:
    """Time the callables of `jobs` in turn, `repeats` times; return name -> median seconds.

    Taking turns spreads slow spells of the machine over all of them.
    """
    seconds = {name: [] for name in jobs}
    for _ in range(repeats):
        for name, job in jobs.items():
            start = perf_counter()
            job()
            seconds[name].append(perf_counter() - start)
    return {name: statistics.median(taken) for name, taken in seconds.items()}
