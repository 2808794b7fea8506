"""Inference with exported networks: one reader of every kind, and the outputs for images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from etils import epath, epy

from simclrv2_tf.contents import Contents
from simclrv2_tf.errors import raised_as
from simclrv2_tf.export import formats
from simclrv2_tf.export.model import Model, ModelError

with epy.lazy_imports():
    from simclrv2_tf import datasets

if TYPE_CHECKING:
    from simclrv2_tf.datasets import Split


def load_model(path: str, option: str = "model") -> Model:
    """Loads a network from any file that `artifacts` lists.

    Args:
        path: The folder of a run or of an import, which stands for the newest SavedModel in it;
            the folder of a SavedModel or its tar.gz; a .keras, .onnx or .tflite file.
        option: What errors call the path.

    Raises:
        ModelError: there is no such file, it cannot be read, or its runtime is not installed.
    """
    contents = Contents(path)
    found = epath.Path(path) if contents.kind == "file" else contents.saved_model
    row = formats.of_file(found) if contents.kind == "file" else formats.FORMATS["saved_model"]
    if found is None or row is None:
        runs = contents.runs[:3]
        advice = f" In it there are {', '.join(runs)}." if runs else ""
        raise ModelError(
            f"`{option}` must be a run's folder, a SavedModel's folder or tar.gz, or a .keras, "
            f".onnx or .tflite file. Received: {option}={path}{advice}"
        )
    advice = f"Received: {option}={path}"
    with raised_as(ModelError, f"`{option}` must be readable", advice):
        return row.read(found)


def batches(
    model: Model, images: Split, endpoints: Sequence[str], image_size: int, batch_size: int
) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
    """Yields the network's outputs for images, batch by batch.

    Args:
        images: Made by `datasets.open_images`.
        endpoints: Which of the model's.
        image_size: Side that they are cropped and scaled to, as in evaluation.

    Yields:
        Paths below the folder (n,), and the endpoints' arrays (n, ...) by name, of the images of
        each batch that can be read. Logs a warning for each other image.
    """
    paths, _ = images.labels()
    given = datasets.evaluation_batches(images, batch_size=batch_size, image_size=image_size)
    for number, (pixels, _, weight) in enumerate(given):
        readable = weight.numpy() > 0
        here = paths[number * batch_size : (number + 1) * batch_size]
        outputs = model.outputs(pixels.numpy(), endpoints)
        yield here[readable[: len(here)]], {name: v[readable] for name, v in outputs.items()}


def top_classes(logits, class_names: Sequence[str], top_k: int) -> list[list[tuple[str, float]]]:
    """The most probable classes (name, probability) of each image, the first one first.

    Args:
        logits: (n, C).
        class_names: (C,); empty: classes are called by their number.
        top_k: How many, at most C.
    """
    logits = np.asarray(logits, np.float64)
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    probabilities = exponentials / exponentials.sum(-1, keepdims=True)
    order = np.argsort(-probabilities, axis=-1, kind="stable")[:, :top_k]
    names = class_names or [str(number) for number in range(logits.shape[-1])]
    pairs = zip(probabilities, order, strict=True)
    return [[(names[k], float(row[k])) for k in best] for row, best in pairs]
