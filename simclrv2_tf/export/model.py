"""An exported network as its readers give it, and the notes that are exported with it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Self

from etils import epath, epy

from simclrv2_tf.channels import RGB
from simclrv2_tf.errors import UserError

with epy.lazy_imports():
    import numpy as np

_LABELS, INPUTS = "labels.txt", "inputs.json"


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
        outputs: Images (B, S, S, C) float32 in [0, 1], and some of `endpoints`, to (B, ...) arrays
            by name.
        image_size: S; None if the file does not say.
        class_names: (C,); empty if the classes have no names.
        antialias: Whether it was trained on images that are resized with antialiasing.
        value_range: The 16-bit samples that are black and white; None: 0 and 65,535.
        channels: C: 1 (gray), 3 (RGB), or the number of bands.
        loaded: The Keras model, or the object of the SavedModel, to be called in a function of
            TensorFlow; None for the files of other runtimes.
    """

    endpoints: tuple[str, ...]
    outputs: Callable[[np.ndarray, Sequence[str]], Mapping[str, np.ndarray]]
    image_size: int | None = None
    class_names: tuple[str, ...] = ()
    antialias: bool = False
    value_range: tuple[float, float] | None = None
    channels: int = RGB
    loaded: Any = None

    @classmethod
    def noted(
        cls, folder: epath.Path, endpoints: Iterable[str], outputs, shape: Sequence, loaded=None
    ) -> Self:
        """A model whose notes are in `folder`, and which takes images of `shape`."""
        file = folder / INPUTS
        inputs = json.loads(file.read_text()) if file.exists() else {}
        return cls(
            tuple(endpoints),
            outputs,
            inputs.get("image_size"),
            class_names(folder),
            bool(inputs.get("antialias")),  # files of earlier versions lack it, and the next
            tuple(inputs.get("value_range") or ()) or None,
            shape[-1] if shape and isinstance(shape[-1], int) else RGB,
            loaded,
        )


def class_names(folder: epath.Path) -> tuple[str, ...]:
    """The names of `labels.txt` in `folder`, in the order of the logits; empty without it."""
    labels = folder / _LABELS
    return tuple(labels.read_text().splitlines()) if labels.exists() else ()


def notes(
    image_size: int | None,
    class_names: Sequence[str],
    antialias: bool = False,
    value_range: tuple[float, float] | None = None,
    channels: int = RGB,
) -> dict[str, str]:
    """The texts of the files that say how to use a network, by name, of those that are known.

    `labels.txt` has a class name in each line, in the order of the logits; `inputs.json` says how
    to crop and scale images as `augment.evaluation_image` does with its `image_size` and
    `antialias`, and how files are decoded, as `datasets.decode` does with its `value_range` and
    `channels`.
    """
    found = {}
    if class_names:
        found[_LABELS] = "".join(f"{name}\n" for name in class_names)
    if image_size:
        inputs = {
            "image_size": image_size,
            "antialias": antialias,
            "value_range": value_range,
            "range": [0, 1],
            "channels": channels,
        }
        found[INPUTS] = json.dumps(inputs) + "\n"
    return found
