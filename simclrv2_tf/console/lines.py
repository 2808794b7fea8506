"""A few lines per stage, for files and pipes."""

from __future__ import annotations

import time

import keras

from simclrv2_tf.console.consoles import Console
from simclrv2_tf.console.text import progress_in_words

_LINES = 2  # per stage
_MOST_SILENT = 600  # seconds


class LineConsole(Console):
    """Prints a line after each half of a stage's training, and after ten minutes without one."""

    def training(self, total_steps):
        return [_Lines(total_steps)]


class _Lines(keras.callbacks.Callback):
    def __init__(self, total_steps: int):
        super().__init__()
        self._total, self._said, self._said_step = total_steps, 0, -1
        self._began = self._last = time.monotonic()

    @property
    def _step(self) -> int:
        return int(self.model.optimizer.iterations.numpy())

    def on_train_begin(self, logs=None):
        self._began = self._last = time.monotonic()
        self._said = self._part()

    def on_train_batch_end(self, batch, logs=None):
        # An epoch's own line has more metrics.
        if batch + 1 < self.params["steps"] and time.monotonic() - self._last > _MOST_SILENT:
            self._say(logs)

    def on_epoch_end(self, epoch, logs=None):
        if self._part() > self._said or time.monotonic() - self._last > _MOST_SILENT:
            self._say(logs)

    def on_train_end(self, logs=None):
        if self._said_step != self._step:  # after early stopping
            self._say(logs or {})

    def _part(self) -> int:
        return _LINES * self._step // self._total

    def _say(self, logs):
        self._said, self._said_step = self._part(), self._step
        self._last = time.monotonic()
        spent = self._last - self._began
        print(progress_in_words(self.model, self._step, self._total, spent, logs), flush=True)
