"""Runs cells in separate processes, several in parallel, and stops them together."""

from __future__ import annotations

import collections
import contextlib
import ctypes
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Sequence

from simclrv2_tf.sweep import shares
from simclrv2_tf.sweep.cells import Cell

PROGRAM = (sys.executable, "-m", "simclrv2_tf.run")
_PAUSE = 0.1  # seconds between checks of the processes
_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux's prctl
_LONGEST_LINE = 300


class Running:
    """The process of a cell.

    Attributes:
        cell: The cell.
        place: Index of its share of the machine.
        began: Start time, by `time.monotonic`.
    """

    def __init__(self, cell: Cell, place: int, jobs: int, program: Sequence[str]):
        self.cell, self.place, self.began = cell, place, time.monotonic()
        self.log = log_of(cell)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._offset = self.log.stat().st_size if self.log.exists() else 0
        cores, affinity = shares.cores(), hasattr(os, "sched_setaffinity")
        own = shares.variables(place, jobs, shares.gpus(), len(cores), affinity)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*program, *cell.flags],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **own},
                # Only the sweep receives a terminal's Ctrl-C: a run that receives two ends without
                # a checkpoint.
                process_group=0,
                preexec_fn=_prepare(shares.share_out(cores, jobs)[place] if affinity else None),
            )

    @property
    def seconds(self) -> float:
        """Seconds since its start."""
        return time.monotonic() - self.began

    def problem(self) -> str:
        """Its last line of error, or its last line."""
        text = self.log.read_bytes()[self._offset :].decode(errors="replace")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        said = [line for line in lines if line.startswith("Error: ")] or lines
        status = self.process.returncode
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        return f"{said[-1][:_LONGEST_LINE] if said else 'No output.'} ({how})"


def log_of(cell: Cell) -> pathlib.Path:
    """Returns the file to which a cell's output is appended."""
    return pathlib.Path(f"{cell.folder}.log")


def run(
    cells: Sequence[Cell],
    jobs: int,
    began: Callable[[Running], None] = lambda _: None,
    program: Sequence[str] = PROGRAM,
) -> Generator[tuple[Running, Sequence[Running]], None, None]:
    """Runs cells in order, `jobs` in parallel.

    Close the generator if you may leave it before its end: this stops the running cells, each of
    which writes a checkpoint. An exception while they stop, such as a second Ctrl-C, stops them
    immediately.

    Args:
        cells: The cells.
        jobs: Number of cells in parallel; each has its share of the cores and the GPUs.
        began: Called for each started cell.
        program: The program that receives a cell's flags.

    Yields:
        Each ended cell, successful or not, and the running cells.
    """
    waiting = collections.deque(cells)
    free = list(range(jobs))[::-1]
    running: list[Running] = []
    try:
        while waiting or running:
            while waiting and free:
                running.append(Running(waiting.popleft(), free.pop(), jobs, program))
                began(running[-1])
            ended = [each for each in running if each.process.poll() is not None]
            for each in ended:
                running.remove(each)
                free.append(each.place)
                yield each, running
            if not ended:
                time.sleep(_PAUSE)
    finally:
        _stop(running)


def _stop(running: Sequence[Running]) -> None:
    if running:
        print("Stopping each run after its step. Press again to stop immediately.", flush=True)
    for signals in (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):
        for each in running:
            with contextlib.suppress(ProcessLookupError):
                if each.process.poll() is None:
                    each.process.send_signal(signals)
        try:
            for each in running:
                each.process.wait()
            return
        except KeyboardInterrupt:  # a second request stops immediately
            continue


def _prepare(share: Sequence[int] | None) -> Callable[[], None]:
    """Prepares a child process before the run: sets its cores, and ends it with its parent."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None) if sys.platform == "linux" else None

    def prepare():
        if share is not None:
            os.sched_setaffinity(0, share)
        if prctl is not None:
            prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)

    return prepare
