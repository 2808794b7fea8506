"""The history of a run: metrics and seconds of each epoch, in a file that kills cannot damage."""

import csv
import io
import time

import keras
from etils import epath

from simclrv2_tf import files


class HistoryFile(keras.callbacks.Callback):
    """Writes one row per epoch, with its seconds; a resumed run replaces repeated rows.

    Args:
        path: The file.
        seconds: Holds the seconds of the epoch so far, for checkpoints within it; () float32.
    """

    def __init__(self, path: epath.Path, seconds: keras.Variable):
        super().__init__()
        self._path, self._seconds = path, seconds
        self._rows: list[dict] | None = None
        self._began = 0.0

    def on_epoch_begin(self, epoch, logs=None):
        # Not 0 if the run resumed within this epoch.
        self._began = time.monotonic() - float(self._seconds.numpy())
        if self._rows is None:
            rows = read_history(self._path) if self._path.exists() else []
            self._rows = [row for row in rows if int(row["epoch"]) <= epoch]

    def on_train_batch_end(self, batch, logs=None):
        self._seconds.assign(time.monotonic() - self._began)

    def on_epoch_end(self, epoch, logs=None):
        seconds = round(time.monotonic() - self._began, 3)
        self._seconds.assign(0.0)
        self._rows.append({"epoch": epoch + 1, **logs, "seconds": seconds})
        text = io.StringIO()
        # A metric that is not measured in every epoch has empty cells in the others.
        names = dict.fromkeys(name for row in self._rows for name in row)
        writer = csv.DictWriter(text, names, lineterminator="\n", restval="")
        writer.writeheader()
        writer.writerows(self._rows)
        files.write_text(self._path, text.getvalue())


def read_history(path: epath.Path) -> list[dict[str, str]]:
    """Returns the rows of a `HistoryFile`, by column: `epoch`, the metrics, `seconds`."""
    return list(csv.DictReader(io.StringIO(path.read_text())))


def seconds_spent(path: epath.Path) -> int:
    """Returns the seconds of training in a `HistoryFile`, of all sessions."""
    return round(sum(float(row["seconds"]) for row in read_history(path)))
