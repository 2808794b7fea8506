"""The time that a sweep still takes, by the cells that have finished."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from simclrv2_tf.sweep.cells import Cell


class TimeLeft:
    """Estimates the seconds that cells still take.

    A cell is taken to take as long as the cells of its setting with other seeds have, else as long
    as all others have on average.

    Args:
        jobs: Cells at once.
    """

    def __init__(self, jobs: int):
        self._jobs = jobs
        self._took: dict[tuple, list[float]] = {}

    def ended(self, cell: Cell, seconds: float) -> None:
        """Notes how long a cell has taken."""
        self._took.setdefault(_key(cell), []).append(seconds)

    def left(self, waiting: Sequence[Cell], running: Mapping[Cell, float]) -> float | None:
        """The seconds that are left; None while no cell has ended.

        Args:
            waiting: The cells that have not begun.
            running: For each cell that is running, how long it has been.
        """
        if not self._took:
            return None
        each = [self._expected(cell) for cell in waiting]
        each += [max(self._expected(cell) - spent, 0.0) for cell, spent in running.items()]
        # No sooner than the longest of them by itself.
        return max(sum(each) / self._jobs, max(each, default=0.0))

    def _expected(self, cell: Cell) -> float:
        own = self._took.get(_key(cell))
        return statistics.fmean(own or [s for took in self._took.values() for s in took])


def _key(cell: Cell) -> tuple:
    return tuple(cell.setting.items())
