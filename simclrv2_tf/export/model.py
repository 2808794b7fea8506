"""An exported network as its readers give it, and the notes that are exported with it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Self

from etils import epath, epy

from simclrv2_tf.errors import UserError

with epy.lazy_imports():
    import numpy as np

LABELS_FILE = "labels.txt"
INPUTS_FILE = "inputs.json"


class ExportError(UserError):
    """An export cannot be written as asked."""


class ModelError(UserError):
    """A file holds no network that can be used as asked."""


@dataclasses.dataclass(frozen=True)
class Model:
    """An exported network, for inference.

    Attributes:
        endpoints: Names of its outputs: "logits", "representation" and so on. Empty if it takes
            no images, or if neither the file nor its name says what it gives.
        outputs: Images (B, S, S, 3) float32 in [0, 1], and some of `endpoints`, to (B, ...) arrays
            by name.
        image_size: S; None if the file does not say.
        class_names: (C,); empty if the classes have no names.
        loaded: The Keras model, or the object of the SavedModel, to be called in a function of
            TensorFlow; None for the files of other runtimes.
    """

    endpoints: tuple[str, ...]
    outputs: Callable[[np.ndarray, Sequence[str]], Mapping[str, np.ndarray]]
    image_size: int | None = None
    class_names: tuple[str, ...] = ()
    loaded: Any = None

    @classmethod
    def noted(cls, notes: epath.Path, endpoints: Iterable[str], outputs, loaded=None) -> Self:
        """A model whose image size and class names are in the folder `notes`."""
        inputs, labels = notes / INPUTS_FILE, notes / LABELS_FILE
        return cls(
            tuple(endpoints),
            outputs,
            json.loads(inputs.read_text())["image_size"] if inputs.exists() else None,
            tuple(labels.read_text().splitlines()) if labels.exists() else (),
            loaded,
        )


def inputs_json(image_size: int) -> str:
    """The text of `inputs.json`: how to crop and scale images as in evaluation."""
    return json.dumps({"image_size": image_size, "range": [0, 1], "channels": "RGB"}) + "\n"


def labels_txt(class_names: Sequence[str]) -> str:
    """The text of `labels.txt`: a class name in each line, in the order of the logits."""
    return "".join(f"{name}\n" for name in class_names)
