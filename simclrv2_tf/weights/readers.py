"""Readers of weights on disk: shapes and values by variable path, and a checksum."""

import contextlib
import dataclasses
import functools
import zipfile
import zlib
from collections.abc import Iterable
from typing import ClassVar

import keras
import numpy as np
import tensorflow as tf
from etils import epath

import simclrv2_tf.resnet  # noqa: F401  (registers the layers with Keras)
from simclrv2_tf import checkpoint_files, official, sums
from simclrv2_tf.errors import UserError, raised_as

OPTIMIZER = "optimizer/"  # prefix of its variables' names


class CheckpointError(UserError):
    """Raised if weights are missing, unreadable, or of another network."""


def reading(path: object, advice: str) -> contextlib.AbstractContextManager[None]:
    """Converts TensorFlow's and Keras's exceptions for a damaged file to a `CheckpointError`."""
    return raised_as(CheckpointError, f"{path} cannot be read", advice)


def named(weights: Iterable[keras.Variable], optimizer=None) -> dict[str, keras.Variable]:
    """Returns weights by path, and the optimizer's variables as `optimizer/...`.

    Raises:
        ValueError: two variables have one path.
    """
    result: dict[str, keras.Variable] = {}
    slots = [] if optimizer is None else optimizer.variables
    # A second optimizer in a process is called lars_1, so files omit the optimizer's name.
    names = [f"{OPTIMIZER}{v.path.split('/', 1)[1]}" for v in slots]
    for name, variable in [*((v.path, v) for v in weights), *zip(names, slots, strict=True)]:
        if result.setdefault(name, variable) is not variable:
            raise ValueError(f"Two variables have the path {name}.")
    return result


@dataclasses.dataclass(frozen=True)
class TensorFlowCheckpoint:
    """A checkpoint of a run; `attribute` of its root object is a dict of variables by path.

    Args:
        prefix: The checkpoint's path without `.index`.
    """

    prefix: str
    attribute: ClassVar[str] = "variables"
    flags: ClassVar[str] = "they are in its run's config.json"
    advice: ClassVar[str] = (
        "Copy it again from an intact source, or remove its folder to train from the beginning."
    )

    def __str__(self) -> str:
        return self.prefix

    def fingerprint(self) -> str:
        """Only uses the checksum of the index, which holds a checksum of every variable."""
        with self.reading():
            index = epath.Path(self.prefix + ".index").read_bytes()
        return f"{epath.Path(self.prefix).name}-{zlib.crc32(index):08x}"

    def shapes(self) -> dict[str, tuple[int, ...]]:
        with self.reading():
            by_key = self._reader.get_variable_to_shape_map()
        return {path: tuple(by_key[key]) for path, key in self.keys.items()}

    def read(self, paths: Iterable[str]) -> list[np.ndarray]:
        with self.reading():
            return [self._reader.get_tensor(self.keys[path]) for path in paths]

    def reading(self) -> contextlib.AbstractContextManager[None]:
        return reading(self, self.advice)

    @functools.cached_property
    def _reader(self):
        return tf.train.load_checkpoint(checkpoint_files.for_tensorflow(self.prefix))

    @functools.cached_property
    def keys(self) -> dict[str, str]:
        """Returns the checkpoint's keys by variable path; empty if it is not one of ours.

        A key can be any path to the variable, so only the object graph identifies it.
        """
        with self.reading():
            nodes = official.object_graph(self._reader).nodes
        return {
            variable.local_name: value.checkpoint_key
            for attribute in (nodes[0].children if nodes else ())
            if attribute.local_name == self.attribute
            for variable in nodes[attribute.node_id].children
            for value in nodes[variable.node_id].attributes
            if value.name == "VARIABLE_VALUE"
        }


class ExportedWeights(TensorFlowCheckpoint):
    """The checkpoint in a SavedModel of `export.export`, read without loading its graph."""

    attribute = "weights"
    advice = "Export it again."

    def read(self, paths: Iterable[str]) -> list[np.ndarray]:
        sums.check(epath.Path(self.prefix).parent.parent)
        return super().read(paths)


class OfficialCheckpoint(TensorFlowCheckpoint):
    """A checkpoint of the reference; `official` maps its variables to our paths."""

    advice = (
        "`checkpoint` must be a run's folder, one of its checkpoints, a `.keras` file, a "
        "SavedModel of `export`, or the released weights of the reference."
    )

    @property
    def flags(self) -> str:  # type: ignore[override]
        """The options of `run` for its networks."""
        found = official.infer(self._variables.shapes)
        names = ["resnet_depth", "width_multiplier", "sk_ratio", "se_ratio", "stem"]
        if found.num_proj_layers:
            names += ["num_proj_layers", "proj_head_mode", "proj_out_dim"]
        return " ".join(f"--{name}={getattr(found, name)}" for name in names)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {path: self._variables.shapes[name] for path, name in self.keys.items()}

    def read(self, paths: Iterable[str]) -> list[np.ndarray]:
        with self.reading():
            return [self._variables[self.keys[path]] for path in paths]

    @functools.cached_property
    def _variables(self) -> official.Variables:
        with self.reading():
            return official.Variables(self.prefix)

    @functools.cached_property
    def keys(self) -> dict[str, str]:
        """Returns the reference's names by variable path."""
        with self.reading():
            return official.names_by_path(self._variables.shapes)


@dataclasses.dataclass(frozen=True)
class KerasFiles:
    """Files of `keras.Model.save`, which together are one network."""

    files: tuple[epath.Path, ...]
    flags = TensorFlowCheckpoint.flags

    def __str__(self) -> str:
        return str(self.files[0])

    def fingerprint(self) -> str:
        """Uses the archives' own checksums, except for the metadata, which include the date."""
        checksums = []
        for file in self.files:
            with self._reading(file), file.open("rb") as stream, zipfile.ZipFile(stream) as archive:
                entries = [(entry.filename, entry.CRC) for entry in archive.infolist()]
            checksums += [entry for entry in entries if entry[0] != "metadata.json"]
        return f"keras-{zlib.crc32(repr(checksums).encode()):08x}"

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {path: tuple(v.shape) for path, v in self._weights.items()}

    def read(self, paths: Iterable[str]) -> list[np.ndarray]:
        return [self._weights[path].numpy() for path in paths]

    @staticmethod
    def _reading(file):
        return reading(file, "Write it again, or give another file.")

    @functools.cached_property
    def _weights(self) -> dict[str, keras.Variable]:
        # The file has values by position, not by path: the model built from its config has the
        # paths.
        weights = []
        for file in self.files:
            sums.check(file.parent, [file.name])
            with self._reading(file):
                weights += keras.saving.load_model(str(file), compile=False).weights
        return named(weights)
