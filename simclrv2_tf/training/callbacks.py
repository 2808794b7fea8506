"""Callbacks: checkpoints, TensorBoard, and the alarm of collapse."""

from __future__ import annotations

from collections.abc import Callable

import keras
import tensorflow as tf
from absl import logging
from etils import epath

from simclrv2_tf import weights
from simclrv2_tf.metrics import representations
from simclrv2_tf.training.loop import NonFiniteError


class _EverySteps:
    """Says when so many steps have passed, where several may be made at once; 0: never."""

    def __init__(self, every: int):
        self._every, self._last = every, 0

    def begin(self, step: int) -> None:
        self._last = step

    def passed(self, step: int) -> bool:
        last, self._last = self._last, step
        return self._every > 0 and step // self._every > last // self._every


class SaveCheckpoints(keras.callbacks.Callback):
    """Saves every so many steps or, with `every_steps` 0, epochs; and at the end.

    Comes after the callbacks that write at an epoch's end.

    Raises:
        NonFiniteError: a weight is NaN or infinite; nothing is saved then.
    """

    def __init__(self, store: weights.Checkpoints, every_steps: int, every_epochs: int):
        super().__init__()
        self._store, self._by_epochs, self._every_epochs = store, not every_steps, every_epochs
        self._steps = _EverySteps(every_steps)
        self._due, self._saved = False, None

    def on_train_begin(self, logs=None):
        self._steps.begin(_step_of(self.model))

    def on_train_batch_end(self, batch, logs=None):
        self._due |= self._steps.passed(_step_of(self.model))
        # An epoch's last checkpoint waits for its row of the history, which a run that is killed
        # between the two would never have.
        if self._due and batch + 1 < self.params["steps"]:
            self._save()

    def on_epoch_end(self, epoch, logs=None):
        if self._due or (self._by_epochs and (epoch + 1) % self._every_epochs == 0):
            self._save()

    def on_train_end(self, logs=None):
        if self._saved != _step_of(self.model):
            self._save()

    def _save(self):
        self._due, self._saved = False, _step_of(self.model)
        try:
            self._store.save(self._saved)
        except FloatingPointError as error:
            raise NonFiniteError(f"After step {self._saved}: {error}") from None


class Summaries(keras.callbacks.Callback):
    """TensorBoard scalars by global step, every so many steps or at each epoch's end."""

    def __init__(self, directory: epath.Path, every_steps: int):
        super().__init__()
        self._directory, self._by_epochs = str(directory), not every_steps
        self._steps = _EverySteps(every_steps)

    def on_train_begin(self, logs=None):
        self._steps.begin(_step_of(self.model))
        self._writer = tf.summary.create_file_writer(self._directory)

    def on_train_batch_end(self, batch, logs=None):
        step = _step_of(self.model)
        if self._steps.passed(step):
            self._write(step, logs)

    def on_epoch_end(self, epoch, logs=None):
        if self._by_epochs:
            self._write(_step_of(self.model), logs)

    def on_train_end(self, logs=None):
        self._writer.close()

    def _write(self, step, logs):
        with self._writer.as_default():
            for name, value in logs.items():
                tf.summary.scalar(name, value, step=step)


class Health(keras.callbacks.Callback):
    """Adds health numbers to the logs where they are written, and warns once of a collapse.

    Comes before the callbacks that write, which see what it added.

    Args:
        measure: Gives what `representations.measure` gives, of the stage as it now is.
        every_steps: As that of `Summaries`.
        settled_after: Steps after which embeddings are judged too, see `representations.collapsed`.
    """

    def __init__(
        self, measure: Callable[[], dict[str, float]], every_steps: int, settled_after: int
    ):
        super().__init__()
        self._measure_now = measure
        self._settled_after = settled_after
        self._steps = _EverySteps(every_steps)
        self._warned = False

    def on_train_begin(self, logs=None):
        self._steps.begin(_step_of(self.model))

    def on_train_batch_end(self, batch, logs=None):
        if self._steps.passed(_step_of(self.model)):
            self._measure(logs)

    def on_epoch_end(self, epoch, logs=None):
        self._measure(logs)

    def _measure(self, logs):
        numbers = self._measure_now()
        logs.update(numbers)
        step = _step_of(self.model)
        what = representations.collapsed(numbers, settled=step >= self._settled_after)
        if what and not self._warned:
            self._warned = True
            logging.warning(
                "Collapse at step %d: %s. What is learned now is of no use; a lower learning rate, "
                "a longer warm-up or other weights of the objective may keep it from happening.",
                step,
                what,
            )


def _step_of(stage: keras.Model) -> int:
    return int(stage.optimizer.iterations.numpy())
