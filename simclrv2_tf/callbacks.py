"""What a run does beside training: checkpoints, TensorBoard, and a history that survives a kill."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable

import keras
import tensorflow as tf
from absl import logging
from etils import epath

from simclrv2_tf import health, loop, run_directory
from simclrv2_tf.weights import Checkpoints


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

    def __init__(self, store: Checkpoints, every_steps: int, every_epochs: int):
        super().__init__()
        self._store, self._by_epochs, self._every_epochs = store, not every_steps, every_epochs
        self._steps = _EverySteps(every_steps)
        self._due, self._saved = False, None

    def on_train_begin(self, logs=None):
        self._steps.begin(self._step())

    def on_train_batch_end(self, batch, logs=None):
        self._due |= self._steps.passed(self._step())
        # An epoch's last checkpoint waits for its row of the history, which a run that is killed
        # between the two would never have.
        if self._due and batch + 1 < self.params["steps"]:
            self._save()

    def on_epoch_end(self, epoch, logs=None):
        if self._due or (self._by_epochs and (epoch + 1) % self._every_epochs == 0):
            self._save()

    def on_train_end(self, logs=None):
        if self._saved != self._step():
            self._save()

    def _step(self) -> int:
        return int(self.model.optimizer.iterations.numpy())

    def _save(self):
        self._due, self._saved = False, self._step()
        try:
            self._store.save(self._saved)
        except FloatingPointError as error:
            raise loop.NonFiniteError(
                f"After step {self._saved}: {error} No checkpoint of it was made. Lower the "
                "learning rate, lengthen the warm-up or use float32."
            ) from None


class Summaries(keras.callbacks.Callback):
    """TensorBoard scalars by global step, every so many steps or at each epoch's end."""

    def __init__(self, directory: epath.Path, every_steps: int):
        super().__init__()
        self._directory, self._by_epochs = str(directory), not every_steps
        self._steps = _EverySteps(every_steps)

    def on_train_begin(self, logs=None):
        self._steps.begin(int(self.model.optimizer.iterations.numpy()))
        self._writer = tf.summary.create_file_writer(self._directory)

    def on_train_batch_end(self, batch, logs=None):
        step = int(self.model.optimizer.iterations.numpy())
        if self._steps.passed(step):
            self._write(step, logs)

    def on_epoch_end(self, epoch, logs=None):
        if self._by_epochs:
            self._write(int(self.model.optimizer.iterations.numpy()), logs)

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
        measure: Gives what `health.measure` gives, of the stage as it now is.
        every_steps: As that of `Summaries`.
        settled_after: Steps after which embeddings are judged too, see `health.collapsed`.
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
        self._steps.begin(int(self.model.optimizer.iterations.numpy()))

    def on_train_batch_end(self, batch, logs=None):
        if self._steps.passed(int(self.model.optimizer.iterations.numpy())):
            self._measure(logs)

    def on_epoch_end(self, epoch, logs=None):
        self._measure(logs)

    def _measure(self, logs):
        numbers = self._measure_now()
        logs.update(numbers)
        step = int(self.model.optimizer.iterations.numpy())
        what = health.collapsed(numbers, settled=step >= self._settled_after)
        if what and not self._warned:
            self._warned = True
            logging.warning(
                "Collapse at step %d: %s. What is learned now is of no use; a lower learning rate, "
                "a longer warm-up or other weights of the objective may keep it from happening.",
                step,
                what,
            )


class HistoryFile(keras.callbacks.Callback):
    """A row an epoch, with its seconds; a resumed run drops the rows that it makes again."""

    def __init__(self, path: epath.Path):
        super().__init__()
        self._path = path
        self._rows = None
        self._began = None

    def on_epoch_begin(self, epoch, logs=None):
        self._began = time.monotonic()
        if self._rows is None:
            text = self._path.read_text() if self._path.exists() else ""
            rows = csv.DictReader(io.StringIO(text))
            self._rows = [row for row in rows if int(row["epoch"]) <= epoch]

    def on_epoch_end(self, epoch, logs=None):
        seconds = round(time.monotonic() - self._began, 3)
        self._rows.append({"epoch": epoch + 1, **logs, "seconds": seconds})
        text = io.StringIO()
        writer = csv.DictWriter(text, self._rows[-1], lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._rows)
        run_directory.write(self._path, text.getvalue())


def seconds_spent(history: epath.Path) -> int:
    """What training took by a file of `HistoryFile`, over all the sittings of a run."""
    rows = csv.DictReader(io.StringIO(history.read_text()))
    return round(sum(float(row["seconds"]) for row in rows))
