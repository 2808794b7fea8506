"""Progress bars on a terminal: the stage with a few metrics, and the run with its time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

import keras
from absl import logging
from rich import progress
from rich.console import Console as RichConsole
from rich.live import Live
from rich.table import Table
from rich.text import Text

from simclrv2_tf.console.consoles import Console
from simclrv2_tf.console.text import metrics_in_words, progress_in_words
from simclrv2_tf.console.time_left import TimeLeft, duration

_NARROWEST = 50  # columns


class TerminalConsole(Console):
    """Draws up to three lines below the output: bars of the stage and the run, and metrics.

    Args:
        works: As for `TimeLeft`.
    """

    def __init__(self, works: Sequence[float]):
        self._works, self._left = works, TimeLeft(works)
        self._place, self._fraction = 0, 0.0
        self._doing, self._metrics = "start", ""
        self._live = Live(
            self._draw(), console=RichConsole(), refresh_per_second=4, transient=True,
            get_renderable=self._draw, redirect_stderr=sys.stderr.isatty(),
        )  # fmt: skip

    def __enter__(self):
        self._live.start()
        # Its handler keeps its first stream: the bars would overwrite a warning.
        _warn_to(sys.stderr)
        return self

    def __exit__(self, *error):
        self._live.stop()
        _warn_to(sys.stderr)

    def begin(self, place):
        self._place = place
        self._left.begin(place, time.monotonic())
        self._show("building", 0.0, "")

    def end(self):
        self._left.end(time.monotonic())

    def training(self, total_steps):
        return [_Training(self, total_steps)]

    def evaluation(self):
        return [_Evaluation(self)]

    def trained(self, step: int, total_steps: int, metrics: str) -> None:
        """Shows the training at a step."""
        self._left.trained(step / total_steps, time.monotonic())
        self._show(f"step {step:,} of {total_steps:,}", step / total_steps, metrics)

    def evaluated(self, batch: int, batches: int) -> None:
        """Shows an evaluation after a batch."""
        self._show(f"evaluation, batch {batch:,} of {batches:,}", batch / batches, self._metrics)

    def _show(self, doing: str, fraction: float, metrics: str) -> None:
        self._doing, self._fraction, self._metrics = doing, fraction, metrics

    def _draw(self):
        table = Table.grid(padding=(0, 2), expand=False)
        left = self._left.left(time.monotonic())
        several = len(self._works) > 1
        remaining = "" if left is None else f"about {duration(_rounded(left))} left"
        table.add_row(
            f"stage {self._place + 1} of {len(self._works)}" if several else "training",
            progress.ProgressBar(total=1, completed=self._fraction, width=24),
            _cut(f"{self._doing}{'' if several or not remaining else ', ' + remaining}"),
        )
        if several:
            done = sum(self._works[: self._place])
            if self._doing.startswith("step"):
                done += self._fraction * self._works[self._place]
            total = sum(self._works)
            table.add_row(
                "run",
                progress.ProgressBar(total=total, completed=done, width=24),
                _cut(remaining),
            )
        if self._metrics:
            table.add_row("", "", _cut(self._metrics))
        return table


def is_drawable() -> bool:
    """Whether standard output is a terminal on which bars can be drawn."""
    console = RichConsole()
    return sys.stdout.isatty() and not console.is_dumb_terminal and console.width >= _NARROWEST


def _warn_to(stream) -> None:
    logging.get_absl_handler().python_handler.setStream(stream)


def _cut(text: str) -> Text:
    return Text(text, no_wrap=True, overflow="ellipsis")


def _rounded(seconds: float) -> float:
    """Rounds an estimate to 5 s, and to 1 min above ten minutes."""
    unit = 5 if seconds < 600 else 60
    return max(round(seconds / unit), 1) * unit


class _Training(keras.callbacks.Callback):
    def __init__(self, console: TerminalConsole, total_steps: int):
        super().__init__()
        self._console, self._total = console, total_steps
        self._began = time.monotonic()

    def _show(self, logs):
        step = int(self.model.optimizer.iterations.numpy())
        self._console.trained(step, self._total, metrics_in_words(logs or {}))

    def on_train_begin(self, logs=None):
        self._began = time.monotonic()
        self._show(logs)

    def on_train_batch_end(self, batch, logs=None):
        self._show(logs)

    def on_epoch_end(self, epoch, logs=None):
        self._show(logs)

    def on_train_end(self, logs=None):
        step, spent = int(self.model.optimizer.iterations.numpy()), time.monotonic() - self._began
        print(progress_in_words(self.model, step, self._total, spent, logs or {}), flush=True)


class _Evaluation(keras.callbacks.Callback):
    def __init__(self, console: TerminalConsole):
        super().__init__()
        self._console = console

    def on_test_batch_end(self, batch, logs=None):
        self._console.evaluated(batch + 1, self.params["steps"])
