"""Many runs of `simclrv2_tf.run`, several at once on shares of the cores, for the studies here.

A study that is stopped takes its runs along; one that is killed outright leaves a run that has the
study's lock as long as it lives, and the next study waits for it.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.metadata
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent import futures

from simclrv2_tf.config import ConfigError

JOBS_HELP = """{what} at once, each on its share of the cores and with its progress in
    {log}; on few cores and with a small network it takes less time in all
    (default: %(default)s)"""

_running: set[subprocess.Popen] = set()


def check_jobs(jobs: int) -> None:
    """Raises `ConfigError` where there are fewer cores to share out than `jobs`."""
    cores = len(_cores())
    if not 1 <= jobs <= cores:
        raise ConfigError(
            [
                f"`jobs` must be from 1 to the {cores} cores that can be shared out here. "
                f"Received: jobs={jobs}"
            ]
        )


@contextlib.contextmanager
def lock(folder: pathlib.Path) -> Iterator:
    """The lock of a study's folder, which is made; waits for whoever has it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"Waiting for the run that is at work in {folder}.", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file


def execute(flags: Sequence[str], lock, log=None) -> None:
    """Runs `simclrv2_tf.run` in a process of its own, which has the lock as long as it lives.

    Args:
        flags: Of the command line.
        lock: What `lock` gives.
        log: An open file that gets its output; None: this process's own.

    Raises:
        subprocess.CalledProcessError: it did not end with status 0.
    """
    command = [sys.executable, "-m", "simclrv2_tf.run", *flags]
    streams = {} if log is None else {"stdout": log, "stderr": subprocess.STDOUT}
    with subprocess.Popen(command, pass_fds=[lock.fileno()], **streams) as process:
        _running.add(process)
        try:
            status = process.wait()
        except BaseException:
            process.terminate()
            raise
        finally:
            _running.discard(process)
    if status:
        raise subprocess.CalledProcessError(status, command)


def in_parallel(function: Callable, items: Iterable, jobs: int) -> Iterator:
    """Calls `function` for each item, `jobs` at once; yields the items done, as they are done.

    The processes that a call begins run on its share of the cores. Once a call fails no other
    begins, the runs at work are stopped and the error is raised. To be closed where it may be left
    before its end.
    """
    if jobs == 1:
        for item in items:
            function(item)
            yield item
        return
    cores = _cores()
    shares = iter([cores[i::jobs] for i in range(jobs)])
    failed = threading.Event()

    def take_share():
        # That of a thread, which the processes that it starts inherit.
        os.sched_setaffinity(0, next(shares))

    def attempt(item) -> bool:
        if failed.is_set():  # nothing else begins, even before the failure is seen below
            return False
        try:
            function(item)
        except BaseException:
            failed.set()
            raise
        return True

    with futures.ThreadPoolExecutor(jobs, initializer=take_share) as pool:
        started = {pool.submit(attempt, item): item for item in items}
        try:
            for done in futures.as_completed(started):
                if done.result():
                    yield started[done]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            while not all(call.done() for call in started):
                for process in list(_running):
                    process.terminate()
                time.sleep(0.1)


def _cores() -> list[int]:
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]


def machine() -> dict:
    """The versions and the processor that results were made with."""
    info = pathlib.Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return {
        "versions": {name: importlib.metadata.version(name) for name in ("tensorflow", "keras")},
        "cpu": {"model": models[0] if models else platform.processor(), "cores": os.cpu_count()},
    }


def mean_and_std(name: str, values: Sequence[float]) -> dict:
    """Their mean as `name`, and their sample standard deviation (n - 1) as `name`_std.

    The deviation of a single value is None.
    """
    std = statistics.stdev(values) if len(values) > 1 else None
    return {name: statistics.fmean(values), f"{name}_std": std}


def percent(row: dict, measure: str, sign: str = "") -> str | None:
    """Mean and deviation as `mean_and_std` gives them, such as "81.20 ± 0.70"; None: not there."""
    if measure not in row:
        return None
    std = row[f"{measure}_std"]
    return f"{100 * row[measure]:{sign}.2f}" + ("" if std is None else f" ± {100 * std:.2f}")
