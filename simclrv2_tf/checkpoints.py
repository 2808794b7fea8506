"""Checkpoints of a run by variable path: exact to resume, and readable as starting weights."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Iterable, Mapping

import keras
import numpy as np
import tensorflow as tf
from etils import epath

_ROOT = "variables"
_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"


class CheckpointError(ValueError):
    """A checkpoint is missing, unreadable, or of another network."""


class Checkpoints:
    """The checkpoints in one folder, newest last.

    Args:
        directory: Folder of the checkpoints; made with the first one.
        variables: All that the run has to remember, by a name that is the same in every process.
        keep: How many of the newest to keep.
    """

    def __init__(self, directory: str, variables: Mapping[str, keras.Variable], keep: int):
        self._variables = dict(variables)
        self._checkpoint = tf.train.Checkpoint(
            **{_ROOT: {name: v.value for name, v in self._variables.items()}}
        )
        self._manager = tf.train.CheckpointManager(self._checkpoint, directory, max_to_keep=keep)

    def restore(self) -> bool:
        """Restores the newest checkpoint, every variable of it; False where there is none.

        Raises:
            CheckpointError: its variables are not those of this run.
        """
        latest = self._manager.latest_checkpoint
        if latest is None:
            return False
        stored = _shapes(latest)
        expected = {name: tuple(v.shape) for name, v in self._variables.items()}
        if stored != expected:
            wrong = sorted(
                name for name in stored | expected if stored.get(name) != expected.get(name)
            )
            raise CheckpointError(
                f"{latest} holds another network or optimizer: {len(wrong)} variable(s) differ, "
                f"{wrong[0]} the first. Use another `model_dir`, or the flags of that run."
            )
        with _reading(latest):
            self._checkpoint.restore(latest).assert_consumed()
        return True

    def save(self, step: int) -> str:
        """Saves all variables as of `step`; returns the checkpoint's path.

        Raises:
            FloatingPointError: a weight is NaN or infinite. Nothing is written.
        """
        for name, variable in self._variables.items():
            if variable.dtype.startswith(("float", "bfloat")) and not np.all(
                np.isfinite(variable.numpy())
            ):
                raise FloatingPointError(f"{name} has a value that is NaN or infinite.")
        return self._manager.save(checkpoint_number=step)


def named(weights: Iterable[keras.Variable], optimizer=None) -> dict[str, keras.Variable]:
    """Weights under their paths, the optimizer's variables under `optimizer/...`.

    Raises:
        ValueError: two variables have one path.
    """
    result = {}
    slots = [] if optimizer is None else optimizer.variables
    # A second optimizer in a process is called lars_1: its own name has no place in a file.
    names = [f"optimizer/{v.path.split('/', 1)[1]}" for v in slots]
    for name, variable in [*((v.path, v) for v in weights), *zip(names, slots, strict=True)]:
        if result.setdefault(name, variable) is not variable:
            raise ValueError(f"Two variables have the path {name}.")
    return result


def latest(path: str) -> str | None:
    """The newest checkpoint that `path` leads to, or None.

    Args:
        path: A run's folder (of several stages: its pretraining's), a folder of checkpoints, or a
            checkpoint's prefix.
    """
    folder = epath.Path(path)
    for candidate in (folder / "checkpoints", folder / "pretrain" / "checkpoints", folder):
        found = tf.train.latest_checkpoint(str(candidate)) if candidate.is_dir() else None
        if found:
            return found
    return path if tf.io.gfile.exists(path + ".index") else None


def fingerprint(path: str | None) -> str | None:
    """Tells the contents of the checkpoint that `path` leads to; None where there is none.

    The index holds a checksum of every variable, so its own checksum tells them all.
    """
    prefix = latest(path) if path else None
    if prefix is None:
        return None
    index = epath.Path(prefix + ".index").read_bytes()
    return f"{epath.Path(prefix).name}-{zlib.crc32(index):08x}"


def fits(path: str, models: Iterable[keras.Model]) -> bool:
    """Whether the checkpoint that `path` leads to has every weight of `models`."""
    prefix = latest(path)
    stored = _shapes(prefix) if prefix else {}
    return all(stored.get(v.path) == tuple(v.shape) for m in models for v in m.weights)


def load(path: str, models: Iterable[keras.Model]) -> None:
    """Fills `models` from our checkpoint at `path`, by variable path, all weights or none.

    Args:
        path: As in `latest`.

    Raises:
        CheckpointError: no checkpoint there, or it lacks a weight of the models or has it in
            another shape.
    """
    prefix = latest(path)
    if prefix is None:
        raise CheckpointError(
            f"`checkpoint` must be a run's folder or one of its checkpoints. "
            f"Received: checkpoint={path}, where there is none."
        )
    stored = _shapes(prefix)
    weights = [v for model in models for v in model.weights]
    for variable in weights:
        if stored.get(variable.path) != tuple(variable.shape):
            raise CheckpointError(
                f"`checkpoint` {prefix} is of another network: {variable.path} has shape "
                f"{stored.get(variable.path, 'none')} there and {tuple(variable.shape)} here. "
                "Give the network flags it was trained with (its run's config.json has them)."
            )
    with _reading(prefix):
        reader = tf.train.load_checkpoint(prefix)
        values = [reader.get_tensor(_key(variable.path)) for variable in weights]
    for variable, value in zip(weights, values, strict=True):
        variable.assign(value)


def _key(name: str) -> str:
    return f"{_ROOT}/{name.replace('/', '.S')}{_VALUE}"


@contextlib.contextmanager
def _reading(prefix: str):
    try:
        yield
    except (tf.errors.OpError, RuntimeError, ValueError) as error:
        raise CheckpointError(
            f"The checkpoint {prefix} cannot be read ({str(error).splitlines()[0]}). Remove it "
            "and name an older one in the file `checkpoint` beside it, or begin anew."
        ) from error


def _shapes(prefix: str) -> dict[str, tuple[int, ...]]:
    with _reading(prefix):
        shapes = tf.train.load_checkpoint(prefix).get_variable_to_shape_map()
    return {
        key[len(_ROOT) + 1 : -len(_VALUE)].replace(".S", "/"): tuple(shape)
        for key, shape in shapes.items()
        if key.startswith(_ROOT + "/") and key.endswith(_VALUE)
    }
