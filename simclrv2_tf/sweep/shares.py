"""Divides the machine's cores and GPUs among parallel runs."""

from __future__ import annotations

import os
import pathlib
import re
from collections.abc import Mapping, Sequence

from simclrv2_tf import environment
from simclrv2_tf.options import ConfigError

_GPUS = "CUDA_VISIBLE_DEVICES"
_THREADS = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")


def share_out(items: Sequence, jobs: int) -> list[list]:
    """Divides `items` among `jobs` as evenly as possible."""
    return [list(items[place::jobs]) for place in range(jobs)]


def cores() -> list[int]:
    """Returns the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def gpus() -> list[str]:
    """Returns the visible GPUs: those in the environment variable, or all NVIDIA GPUs."""
    if _GPUS in os.environ:
        return [gpu for gpu in os.environ[_GPUS].split(",") if gpu.strip()]
    nodes = pathlib.Path("/dev").glob("nvidia*")
    return sorted(n[1] for node in nodes if (n := re.fullmatch(r"nvidia(\d+)", node.name)))


def check_jobs(jobs: int) -> None:
    """Raises a `ConfigError` if the machine cannot be divided among `jobs` runs."""
    seen, available = gpus(), len(cores())
    if jobs > 1 and not seen and environment.accelerator_nodes():
        raise ConfigError(
            [f"`jobs` must be 1 on an accelerator that runs cannot share. Received: jobs={jobs}"]
        )
    most, what = (len(seen), "GPUs") if seen else (available, "cores")
    if jobs > max(most, 1):
        raise ConfigError(
            [f"`jobs` must be at most the number of {what}, {most}. Received: jobs={jobs}"]
        )


def variables(
    place: int, jobs: int, seen: Sequence[str], available: int, affinity: bool
) -> Mapping[str, str]:
    """Returns the environment variables that give a run its share.

    Args:
        place: Index of the run, below `jobs`.
        jobs: Number of parallel runs.
        seen: The machine's GPUs.
        available: Number of cores.
        affinity: Whether the system restricts the run to its cores.
    """
    found = {}
    if jobs > 1 and seen:
        found[_GPUS] = ",".join(share_out(seen, jobs)[place])
    if jobs > 1 and not affinity:
        threads = str(max(available // jobs, 1))
        found |= {name: threads for name in _THREADS if name not in os.environ}
    return found
