"""An exported network as returned by readers, and its metadata files."""

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
    """Raised for an export that cannot be written as requested."""


class ModelError(UserError):
    """Raised for a file without a network that can be used as requested."""


@dataclasses.dataclass(frozen=True)
class Model:
    """An exported network, for inference.

    Attributes:
        endpoints: Names of its outputs: "logits", "representation" and so on. Empty if its input is
            not images, or if neither the file nor its name gives the output.
        outputs: Function of images (B, S, S, C) float32 in [0, 1] and some of `endpoints`; returns
            (B, ...) arrays by name.
        image_size: S; None if not known.
        class_names: (C,); empty if the classes have no names.
        antialias: Whether it was trained on images resized with antialiasing.
        value_range: The 16-bit samples that are black and white; None: 0 and 65,535.
        channels: C: 1 (gray), 3 (RGB), or the number of bands.
        loaded: The Keras model or the SavedModel's object, for calls in a TensorFlow function; None
            for files of other runtimes.
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
        """Makes a model whose metadata files are in `folder`, for images of `shape`."""
        file = folder / INPUTS
        inputs = json.loads(file.read_text()) if file.exists() else {}
        return cls(
            tuple(endpoints),
            outputs,
            inputs.get("image_size"),
            class_names(folder),
            bool(inputs.get("antialias")),  # missing in files of earlier versions, like the next
            tuple(inputs.get("value_range") or ()) or None,
            shape[-1] if shape and isinstance(shape[-1], int) else RGB,
            loaded,
        )


def class_names(folder: epath.Path) -> tuple[str, ...]:
    """Returns the names in `labels.txt`, in the order of the logits; empty without this file."""
    labels = folder / _LABELS
    return tuple(labels.read_text().splitlines()) if labels.exists() else ()


def notes(
    image_size: int | None,
    class_names: Sequence[str],
    antialias: bool = False,
    value_range: tuple[float, float] | None = None,
    channels: int = RGB,
) -> dict[str, str]:
    """Returns the texts of a network's metadata files, by name, as far as they are known.

    `labels.txt` has one class name per line, in the order of the logits. `inputs.json` has the
    arguments to crop and scale images, `image_size` and `antialias` of `augment.evaluation_image`,
    and to decode files, `value_range` and `channels` of `datasets.decode`.
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
