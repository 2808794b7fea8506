"""Estimates the time left of a sweep from its finished cells."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from simclrv2_tf.sweep.cells import Cell


class TimeLeft:
    """Estimates the seconds left.

    Assumes that a cell takes as long as the cells of its setting with other seeds, else the average
    of all finished cells.

    Args:
        jobs: Number of parallel cells.
    """

    def __init__(self, jobs: int):
        self._jobs = jobs
        self._took: dict[tuple, list[float]] = {}

    def ended(self, cell: Cell, seconds: float) -> None:
        """Records the duration of a cell."""
        self._took.setdefault(_key(cell), []).append(seconds)

    def left(self, waiting: Sequence[Cell], running: Mapping[Cell, float]) -> float | None:
        """Returns the seconds left; None while no cell has ended.

        Args:
            waiting: The cells that have not started.
            running: Maps each running cell to its seconds so far.
        """
        if not self._took:
            return None
        each = [self._expected(cell) for cell in waiting]
        each += [max(self._expected(cell) - spent, 0.0) for cell, spent in running.items()]
        # At least the time of the longest cell.
        return max(sum(each) / self._jobs, max(each, default=0.0))

    def _expected(self, cell: Cell) -> float:
        own = self._took.get(_key(cell))
        return statistics.fmean(own or [s for took in self._took.values() for s in took])


def _key(cell: Cell) -> tuple:
    return tuple(cell.setting.items())
