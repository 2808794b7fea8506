"""`predictions.csv`: a classifier's answer for each labelled image of an evaluation."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Sequence

import numpy as np
from etils import epath

from simclrv2_tf import files
from simclrv2_tf.kept_results import kept_results

NAME = "predictions.csv"
_COLUMNS = ("file", "class", "predicted", "confidence")


@dataclasses.dataclass(frozen=True)
class Predictions:
    """Predictions of N images.

    Attributes:
        ids: (N,) str, as in `datasets.Split.labels`.
        labels: (N,) int, the class of each image.
        predicted: (N,) int, the predicted class.
        confidence: (N,) float, the softmax probability of `predicted`, in [0, 1].
        class_names: The names of the classes, by number.
    """

    ids: np.ndarray
    labels: np.ndarray
    predicted: np.ndarray
    confidence: np.ndarray
    class_names: tuple[str, ...]

    @property
    def right(self) -> np.ndarray:
        """(N,) bool."""
        return self.labels == self.predicted


def write(path: epath.Path, predictions: Predictions) -> None:
    """Writes `predictions.csv`, one row per image: id, class, predicted class and confidence."""
    names = predictions.class_names
    columns = (
        predictions.ids,
        predictions.labels,
        predictions.predicted,
        predictions.confidence,
    )
    rows = (
        (image, names[label], names[predicted], f"{share:.6f}")
        for image, label, predicted, share in zip(*columns, strict=True)
    )
    files.write_text(path, files.csv_text([_COLUMNS, *rows]))


def read(path: epath.Path) -> Predictions:
    """Reads a file by `write`; the class names are those in the file, in alphabetical order.

    Raises:
        OSError: The file cannot be read.
        ValueError: The file has another format.
    """
    return _parsed(path.read_text(), str(path))


@kept_results(most=32)
def _parsed(text: str, path: str) -> Predictions:
    header, *rows = [*csv.reader(io.StringIO(text))] or [[]]
    if tuple(header) != _COLUMNS or any(len(row) != len(_COLUMNS) for row in rows):
        raise ValueError(
            f"`path` must have the columns {', '.join(_COLUMNS)}. Received: path={path}, "
            f"with {', '.join(header)}"
        )
    ids, labels, predicted, confidence = zip(*rows, strict=True) if rows else ((), (), (), ())
    names = tuple(sorted({*labels, *predicted}))
    place = {name: index for index, name in enumerate(names)}

    def places(column: Sequence[str]) -> np.ndarray:
        return np.array([place[name] for name in column], np.int64)

    return Predictions(
        np.array(ids, np.str_),
        places(labels),
        places(predicted),
        np.array(confidence, np.float64),
        names,
    )
