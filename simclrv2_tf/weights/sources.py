"""Weights to start from: their shapes, values and checksum, by the path that leads to them."""

from collections.abc import Iterable

import keras

from simclrv2_tf import official
from simclrv2_tf.contents import Contents
from simclrv2_tf.weights.readers import (
    OPTIMIZER,
    CheckpointError,
    ExportedWeights,
    KerasFiles,
    OfficialCheckpoint,
    TensorFlowCheckpoint,
    reading,
)

Source = TensorFlowCheckpoint | KerasFiles

# The first convolution of an encoder, by its stem: (h, w, channels, width).
FIRST = ("stem_conv/kernel", "stem_conv1/kernel", "stem_stride2_conv/kernel")


def _source(path: str) -> Source | None:
    """The reader of the weights that `path` leads to, or None if it leads to none."""
    with reading(path, "Copy it to this machine, and give the copy's path."):
        path, _ = official.resolve(path)
        contents = Contents(path)
        checkpoint = contents.checkpoint
    prefix = checkpoint or (contents.released if contents.kind == "saved model" else None)
    if prefix:
        ours = (TensorFlowCheckpoint if checkpoint else ExportedWeights)(prefix)
        return ours if ours.keys else OfficialCheckpoint(prefix)
    if contents.keras_files:
        return KerasFiles(contents.keras_files)
    return OfficialCheckpoint(contents.released) if contents.released else None


def _existing(path: str) -> Source:
    found = _source(path)
    if found is None:
        raise CheckpointError(
            "`checkpoint` must be a run's folder, one of its checkpoints, its encoder.keras, a "
            "SavedModel of it, or weights that the reference released. "
            f"Received: checkpoint={path}, where there is none."
        )
    return found


def latest(path: str) -> str | None:
    """The prefix of the newest checkpoint that `path` leads to, a run's for example, or None."""
    return Contents(path).checkpoint


def fingerprint(path: str | None) -> str | None:
    """Names the weights that `path` leads to by their checksums; None if there are none.

    Copies of the weights, and files of one kind and one network, have the same fingerprint.

    Raises:
        CheckpointError: a file there is no checkpoint, SavedModel or `.keras` file.
    """
    found = _source(path) if path else None
    return found.fingerprint() if found else None


def shapes(path: str) -> dict[str, tuple[int, ...]]:
    """The shapes of the weights that `path` leads to, by variable path.

    `shapes(path)["classifier/kernel"][1]` is the number of classes of weights with a classifier.

    Raises:
        CheckpointError: no weights there, or unreadable ones.
    """
    stored = _existing(path).shapes()
    return {name: shape for name, shape in stored.items() if not name.startswith(OPTIMIZER)}


def fits(path: str, models: Iterable[keras.Model]) -> bool:
    """Whether `path` leads to every weight of `models`; False if there are no weights at all.

    Raises:
        CheckpointError: the weights there are unreadable.
    """
    found = _source(path)
    stored = found.shapes() if found else {}
    return all(stored.get(v.path) == tuple(v.shape) for m in models for v in m.weights)


def load(path: str, models: Iterable[keras.Model]) -> None:
    """Fills `models` with the weights at `path`, by variable path: all of them, or none.

    Raises:
        CheckpointError: no weights there, unreadable ones, or a weight of the models is missing or
            has another shape.
    """
    found = _existing(path)
    stored = found.shapes()
    weights = [v for model in models for v in model.weights]
    for variable in weights:
        if stored.get(variable.path) != tuple(variable.shape):
            _check_channels(found, variable.path, stored.get(variable.path), variable.shape)
            raise CheckpointError(
                f"`checkpoint` {found} is of another network: {variable.path} has shape "
                f"{stored.get(variable.path, 'none')} there and {tuple(variable.shape)} here. "
                f"Give the network flags it was trained with ({found.flags})."
            )
    for variable, value in zip(weights, found.read([v.path for v in weights]), strict=True):
        variable.assign(value)


def _check_channels(
    source: Source, name: str, there: tuple[int, ...] | None, here: tuple[int, ...]
) -> None:
    """Names the channels of the images where the first convolution differs in them alone."""
    if name not in FIRST or there is None or len(there) != 4:
        return
    *size, channels, width = there
    if (*size, here[2], width) == tuple(here):
        raise CheckpointError(
            f"`channels` must be {channels}, as in the weights of `checkpoint`. Received: "
            f"channels={here[2]}, checkpoint={source}. Weights for other channels are made by a "
            "pretraining on such images."
        )
