"""Inference with exported networks: one reader of every kind, and what is made of images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from etils import epath, epy

from simclrv2_tf.contents import Contents
from simclrv2_tf.errors import UserError
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
    try:
        return row.read(found)
    except UserError:
        raise
    except Exception as error:  # whatever the runtimes raise on a damaged file
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"`{option}` must be readable ({reason}). Received: {option}={path}"
        ) from error


def batches(
    model: Model, images: Split, endpoints: Sequence[str], image_size: int, batch_size: int
) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
    """Yields what the network makes of images, batch by batch.

    Args:
        images: Made by `datasets.open_images`.
        endpoints: Which of the model's.
        image_size: Side that they are cropped and scaled to, as in evaluation.
        batch_size: Images at once.

    Yields:
        Paths below the folder (n,), and the endpoints' arrays (n, ...) by name, of the images of
        each batch that can be read; a warning is logged for each of the others.
    """
    paths, _ = images.labels()
    given = datasets.evaluation_batches(images, batch_size=batch_size, image_size=image_size)
    for number, (pixels, _, weight) in enumerate(given):
        readable = weight.numpy() > 0
        outputs = model.outputs(pixels.numpy(), endpoints)
        here = paths[number * batch_size : (number + 1) * batch_size]
        yield (
            here[readable[: len(here)]],
            {name: value[readable] for name, value in outputs.items()},
        )


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
    return [
        [(names[k], float(row[k])) for k in best]
        for row, best in zip(probabilities, order, strict=True)
    ]
