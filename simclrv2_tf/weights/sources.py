"""Starting weights: their shapes, values and checksum, by path."""

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
    """Returns the reader of the weights at `path`, or None."""
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
            f"SavedModel of it, or weights released by the reference. Received: checkpoint={path}, "
            "which holds none of these."
        )
    return found


def latest(path: str) -> str | None:
    """Returns the prefix of the newest checkpoint at `path`, such as a run's, or None."""
    return Contents(path).checkpoint


def fingerprint(path: str | None) -> str | None:
    """Returns a fingerprint of the weights at `path`, from checksums; None if there are none.

    Copies of the weights, and files of one type and one network, have the same fingerprint.

    Raises:
        CheckpointError: a file is not a checkpoint, SavedModel or `.keras` file.
    """
    found = _source(path) if path else None
    return found.fingerprint() if found else None


def shapes(path: str) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of the weights at `path`, by variable path.

    `shapes(path)["classifier/kernel"][1]` is the number of classes of weights with a classifier.

    Raises:
        CheckpointError: the weights are missing or unreadable.
    """
    stored = _existing(path).shapes()
    return {name: shape for name, shape in stored.items() if not name.startswith(OPTIMIZER)}


def fits(path: str, models: Iterable[keras.Model]) -> bool:
    """Whether `path` has every weight of `models`; False if there are no weights.

    Raises:
        CheckpointError: the weights are unreadable.
    """
    found = _source(path)
    stored = found.shapes() if found else {}
    return all(stored.get(v.path) == tuple(v.shape) for m in models for v in m.weights)


def load(path: str, models: Iterable[keras.Model]) -> None:
    """Fills `models` with the weights at `path`, by variable path, completely or not at all.

    Raises:
        CheckpointError: the weights are missing or unreadable, or a weight of the models is missing
            or has another shape.
    """
    found = _existing(path)
    stored = found.shapes()
    weights = [v for model in models for v in model.weights]
    for variable in weights:
        if stored.get(variable.path) != tuple(variable.shape):
            _check_channels(found, variable.path, stored.get(variable.path), variable.shape)
            raise CheckpointError(
                f"`checkpoint` {found} has another network: {variable.path} has shape "
                f"{stored.get(variable.path, 'none')} in the file and {tuple(variable.shape)} "
                f"here. Give the network flags of its training ({found.flags})."
            )
    for variable, value in zip(weights, found.read([v.path for v in weights]), strict=True):
        variable.assign(value)


def _check_channels(
    source: Source, name: str, there: tuple[int, ...] | None, here: tuple[int, ...]
) -> None:
    """Raises an error for the channels, if the first convolution only differs in these."""
    if name not in FIRST or there is None or len(there) != 4:
        return
    *size, channels, width = there
    if (*size, here[2], width) == tuple(here):
        raise CheckpointError(
            f"`channels` must be {channels}, as in the weights of `checkpoint`. Received: "
            f"channels={here[2]}, checkpoint={source}. For other channels, pretrain on such images."
        )
