"""Callbacks: checkpoints, validation, profiling, and a warning of collapse."""

import math
import time
from collections.abc import Callable

import keras
import tensorflow as tf
from absl import logging
from etils import epath

from simclrv2_tf import weights
from simclrv2_tf.metrics import representations
from simclrv2_tf.training.divergence import NonFiniteError
from simclrv2_tf.training.history import read_history


class EverySteps(keras.callbacks.Callback):
    """Tracks the step, and whether `every_steps` have passed since the last call; 0: never."""

    def __init__(self, every_steps: int):
        super().__init__()
        self._every, self._last = every_steps, 0

    def on_train_begin(self, logs=None):
        self._last = self.step

    @property
    def step(self) -> int:
        return int(self.model.optimizer.iterations.numpy())

    def passed(self) -> bool:
        last, self._last = self._last, self.step
        return self._every > 0 and self._last // self._every > last // self._every


class SaveCheckpoints(EverySteps):
    """Saves every `every_steps` steps or, if that is 0, every `every_epochs` epochs; and at the
    end.

    Place it after the callbacks that write at an epoch's end.

    Args:
        store: The store of checkpoints.
        every_steps, every_epochs: As the options `checkpoint_steps` and `checkpoint_epochs`.
        every_minutes: Also save when this many minutes have passed since the last checkpoint; 0:
            never.
        agree: Function that combines this process's answer, whether the minutes have passed, with
            the answers of all processes that train together: all must save after the same step.

    Raises:
        NonFiniteError: A weight is NaN or infinite; nothing is saved then.
    """

    def __init__(
        self,
        store: weights.Checkpoints,
        every_steps: int,
        every_epochs: int,
        every_minutes: float = 0,
        agree: Callable[[int], int] = int,
    ):
        super().__init__(every_steps)
        self._store, self._every_epochs = store, every_epochs
        self._seconds, self._agree = 60 * every_minutes, agree
        self._due, self._saved, self._saved_at = False, -1, time.monotonic()

    def on_train_begin(self, logs=None):
        super().on_train_begin()
        self._saved_at = time.monotonic()

    def on_train_batch_end(self, batch, logs=None):
        self._due |= self.passed()
        if self._seconds:
            late = time.monotonic() - self._saved_at >= self._seconds
            self._due |= bool(self._agree(int(late)))
        # An epoch's last checkpoint waits for its row of the history; otherwise a run killed
        # between the two would lose that row.
        if self._due and batch + 1 < self.params["steps"]:
            self.save()

    def on_epoch_end(self, epoch, logs=None):
        if self._due or (not self._every and (epoch + 1) % self._every_epochs == 0):
            self.save()

    def on_train_end(self, logs=None):
        self.save()

    def save(self) -> None:
        """Saves the current step, unless it is already saved."""
        if self._saved == self.step:
            return
        self._due, self._saved, self._saved_at = False, self.step, time.monotonic()
        try:
            self._store.save(self._saved)
        except FloatingPointError as error:
            raise NonFiniteError(f"After step {self._saved}: {error}") from None


class Validate(keras.callbacks.Callback):
    """Adds validation metrics to an epoch's logs.

    Place it before the callbacks that write.

    Args:
        measure: Returns the metrics of the stage in its current state, by name.
        every_epochs: Epochs between measurements; the last epoch is always measured.
    """

    def __init__(self, measure: Callable[[], dict[str, float]], every_epochs: int):
        super().__init__()
        self._measure, self._every = measure, every_epochs

    def on_epoch_end(self, epoch, logs=None):
        if (epoch + 1) % self._every == 0 or epoch + 1 == self.params["epochs"]:
            logs.update(self._measure())


class KeepBest(keras.callbacks.Callback):
    """Saves the weights whenever a metric reaches a new maximum.

    Place it after the callback that adds the metric to the logs, and before the one that writes the
    epoch's row of the history: a run killed between the two measures the epoch again.

    Args:
        store: The store of the weights.
        metric: Its name in the logs.
        history: The file of the epochs' metrics, which exists in a resumed run.
    """

    def __init__(self, store: weights.Checkpoints, metric: str, history: epath.Path):
        super().__init__()
        self._store, self._metric, self._history = store, metric, history
        self._best: float | None = None

    def on_epoch_begin(self, epoch, logs=None):
        if self._best is not None:
            return
        # Epochs after the checkpoint from which the run resumes are measured again.
        self._store.remove_after(int(self.model.optimizer.iterations.numpy()))
        rows = read_history(self._history) if self._history.exists() else []
        earlier = (row.get(self._metric) for row in rows if int(row["epoch"]) <= epoch)
        found = [float(value) for value in earlier if value]
        self._best = max(found, default=-math.inf) if self._store.newest_step() else -math.inf

    def on_epoch_end(self, epoch, logs=None):
        value = logs.get(self._metric, -math.inf)
        if value > self._best:
            self._best = value
            self._store.save(int(self.model.optimizer.iterations.numpy()))


class Profile(keras.callbacks.Callback):
    """Writes a trace of training steps for TensorBoard, without the first calls, which compile.

    Args:
        directory: The folder of the TensorBoard files.
        skipped: Calls of the compiled function before the trace.
        traced: Calls in the trace.
    """

    def __init__(self, directory: epath.Path, skipped: int = 5, traced: int = 10):
        super().__init__()
        self._directory, self._skipped, self._traced = str(directory), skipped, traced
        self._calls, self._running = 0, False

    def on_train_batch_begin(self, batch, logs=None):
        if self._calls == self._skipped:
            tf.profiler.experimental.start(self._directory)
            self._running = True

    def on_train_batch_end(self, batch, logs=None):
        self._calls += 1
        if self._calls == self._skipped + self._traced:
            self._stop()

    def on_train_end(self, logs=None):
        self._stop()
        if self._calls <= self._skipped:
            logging.warning(
                "No profile was written: profiling starts after %d calls of the training step. "
                "Received: %d calls. Train for more steps.",
                self._skipped,
                self._calls,
            )

    def _stop(self):
        if self._running:
            self._running = False
            tf.profiler.experimental.stop()
            print(f"Wrote a profile to {self._directory}", flush=True)


class Health(EverySteps):
    """Adds measures of the representation to written logs, and warns once of a collapse.

    Place it before the callbacks that write, so that these receive the numbers.

    Args:
        measure: Returns `representations.measure` for the stage in its current state.
        every_steps: Steps between measurements, 0 for none; also at each epoch's end.
        settled_after: Steps after which embeddings are also checked, see
            `representations.collapsed`.
    """

    def __init__(
        self, measure: Callable[[], dict[str, float]], every_steps: int, settled_after: int
    ):
        super().__init__(every_steps)
        self._measure, self._settled_after = measure, settled_after
        self._warned = False

    def on_train_batch_end(self, batch, logs=None):
        if self.passed():
            self.on_epoch_end(None, logs)

    def on_epoch_end(self, epoch, logs=None):
        numbers = self._measure()
        logs.update(numbers)
        what = representations.collapsed(numbers, settled=self.step >= self._settled_after)
        if what and not self._warned:
            self._warned = True
            logging.warning(
                "Collapse at step %d: %s. The representation is useless; a lower learning rate, a "
                "longer warm-up or other weights of the objective may prevent the collapse.",
                self.step,
                what,
            )
