"""Estimates the time left of a run from its speed so far."""

from __future__ import annotations

from collections.abc import Sequence

_LEAST_WORK = 0.02  # share of a stage's work needed for an estimate


class TimeLeft:
    """Estimates the seconds left of a run of one or more stages.

    Assumes that training continues at the speed of the stages so far, and that each stage still to
    come spends as long outside training (building, evaluation, export) as the earlier stages.

    Args:
        works: The work of each stage's training, in any unit that they share.
    """

    def __init__(self, works: Sequence[float]):
        self._works = works
        self._place = -1
        self._began = self._training_began = self._ended = 0.0
        self._first = self._fraction = 0.0  # of the training of this stage, in [0, 1]
        self._work = self._training = 0.0  # of the stages before this one
        self._others: list[float] = []  # seconds outside training, of each stage so far

    def begin(self, place: int, now: float) -> None:
        """Begins the stage at `place`, at a time in seconds."""
        self._place, self._began = place, now
        self._training_began, self._first = 0.0, 0.0
        self._fraction = 0.0

    def trained(self, fraction: float, now: float) -> None:
        """Records the share of its training that the stage has done; at first, where it resumed."""
        if not self._training_began:
            self._training_began, self._first = now, fraction
        self._fraction, self._ended = fraction, now

    def end(self, now: float) -> None:
        """Ends the stage; a stage that had finished before, and did not train, does not count."""
        trained = self._training_began > 0
        work, training = self._own_work, self._own_training
        # Set first: another thread draws the terminal.
        self._training_began = self._first = self._fraction = 0.0
        if trained:
            self._work, self._training = self._work + work, self._training + training
            self._others.append(now - self._began - training)
        self._place += 1

    def left(self, now: float) -> float | None:
        """Returns the seconds left at a time; None while too little is known."""
        work = self._work + self._own_work
        known = sum(self._works[: max(self._place, 0) + 1])
        if work <= _LEAST_WORK * known or not work:
            return None
        speed = work / (self._training + self._own_training)
        to_do = sum(self._works[self._place + 1 :])
        if self._place < len(self._works):
            to_do += (1 - self._fraction) * self._works[self._place]
        # About half of a stage's other time comes before training.
        others = self._others or [self._training_began - self._began]
        stages = len(self._works) - self._place - (0.5 if self._training_began else 0)
        return to_do / speed + max(stages, 0) * sum(others) / len(others)

    @property
    def _own_work(self) -> float:
        done = self._fraction - self._first
        return done * self._works[self._place] if self._training_began else 0.0

    @property
    def _own_training(self) -> float:
        return self._ended - self._training_began if self._training_began else 0.0


def duration(seconds: float) -> str:
    """Formats seconds, such as "42 s", "3 min 20 s", "2 h 5 min" or "3 d 4 h"."""
    seconds = round(seconds)
    for unit, smaller, name, smaller_name in (
        (86400, 3600, "d", "h"),
        (3600, 60, "h", "min"),
        (60, 1, "min", "s"),
    ):
        if seconds >= unit:
            rest = seconds % unit // smaller
            return f"{seconds // unit} {name}" + (f" {rest} {smaller_name}" if rest else "")
    return f"{seconds} s"
