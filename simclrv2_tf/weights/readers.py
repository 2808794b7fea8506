"""Readers of weights on disk: each gives shapes and values by variable path, and a checksum."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import zipfile
import zlib
from collections.abc import Iterable

import keras
import numpy as np
import tensorflow as tf
from etils import epath
from tensorflow.core.protobuf import trackable_object_graph_pb2

import simclrv2_tf.resnet  # noqa: F401  (Keras reads a file's layers if their classes are known)
from simclrv2_tf import official
from simclrv2_tf.weights.errors import reading

OPTIMIZER = "optimizer/"  # begins the names of its variables
# The dicts of variables in a checkpoint of ours, and in a SavedModel of `export.export`.
VARIABLES, EXPORTED = "variables", "weights"


def named(weights: Iterable[keras.Variable], optimizer=None) -> dict[str, keras.Variable]:
    """Weights under their paths, the optimizer's variables under `optimizer/...`.

    Raises:
        ValueError: two variables have one path.
    """
    result = {}
    slots = [] if optimizer is None else optimizer.variables
    # A second optimizer in a process is called lars_1; files leave the optimizer's name out.
    names = [f"{OPTIMIZER}{v.path.split('/', 1)[1]}" for v in slots]
    for name, variable in [*((v.path, v) for v in weights), *zip(names, slots, strict=True)]:
        if result.setdefault(name, variable) is not variable:
            raise ValueError(f"Two variables have the path {name}.")
    return result


@dataclasses.dataclass(frozen=True)
class TensorFlowCheckpoint:
    """A checkpoint in TensorFlow's format whose root object has a dict of variables.

    Also what a SavedModel keeps its variables in: read like this, no graph has to be loaded.

    Args:
        prefix: The checkpoint's path without `.index`.
        attribute: The dict's name.
    """

    prefix: str
    attribute: str = VARIABLES
    flags = "its run's config.json has them"

    def __str__(self) -> str:
        return self.prefix

    def fingerprint(self) -> str:
        """Uses the checksum of the index alone, which holds a checksum of every variable."""
        with self.reading():
            index = epath.Path(self.prefix + ".index").read_bytes()
        return f"{epath.Path(self.prefix).name}-{zlib.crc32(index):08x}"

    def shapes(self) -> dict[str, tuple[int, ...]]:
        with self.reading():
            by_key = self._reader.get_variable_to_shape_map()
        return {name: tuple(by_key[key]) for name, key in self.keys.items()}

    def read(self, names: Iterable[str]) -> list[np.ndarray]:
        with self.reading():
            return [self._reader.get_tensor(self.keys[name]) for name in names]

    def reading(self) -> contextlib.AbstractContextManager[None]:
        """Turns errors of a damaged checkpoint into a `CheckpointError`."""
        if self.attribute == VARIABLES:
            advice = "Remove it and name an older one in the file `checkpoint` beside it, or begin "
            return reading(self, advice + "anew.")
        return reading(self, "Export it again.")

    @functools.cached_property
    def _reader(self):
        return tf.train.load_checkpoint(self.prefix)

    @functools.cached_property
    def keys(self) -> dict[str, str]:
        """The checkpoint's keys by variable path; none if it is not one of ours.

        A key is any one path to the variable in the graph of objects, so only that graph, which
        the checkpoint holds too, says which variable it is.
        """
        with self.reading():
            graph = trackable_object_graph_pb2.TrackableObjectGraph()
            if self._reader.has_tensor("_CHECKPOINTABLE_OBJECT_GRAPH"):  # not in TF1's
                graph.ParseFromString(self._reader.get_tensor("_CHECKPOINTABLE_OBJECT_GRAPH"))
        return {
            variable.local_name: value.checkpoint_key
            for attribute in (graph.nodes[0].children if graph.nodes else ())
            if attribute.local_name == self.attribute
            for variable in graph.nodes[attribute.node_id].children
            for value in graph.nodes[variable.node_id].attributes
            if value.name == "VARIABLE_VALUE"
        }


@dataclasses.dataclass(frozen=True)
class OfficialCheckpoint:
    """A checkpoint of the reference's, whose variables have the paths of ours by `official`.

    Args:
        prefix: The checkpoint's path without `.index`.
    """

    prefix: str

    def __str__(self) -> str:
        return self.prefix

    def fingerprint(self) -> str:
        return TensorFlowCheckpoint(self.prefix).fingerprint()

    @property
    def flags(self) -> str:
        """The options of `run` that make its networks."""
        found = dataclasses.asdict(official.infer(self._variables.shapes))
        names = ("resnet_depth", "width_multiplier", "sk_ratio", "se_ratio", "stem")
        if found["num_proj_layers"]:
            names += ("num_proj_layers", "proj_head_mode", "proj_out_dim")
        return " ".join(f"--{name}={found[name]}" for name in names)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {path: self._variables.shapes[name] for path, name in self._names.items()}

    def read(self, names: Iterable[str]) -> list[np.ndarray]:
        with self._reading():
            return [self._variables[self._names[path]] for path in names]

    def _reading(self):
        return reading(
            self,
            "`checkpoint` must be a run's folder, one of its checkpoints, a `.keras` file, a "
            "SavedModel of `export`, or the released weights of the reference.",
        )

    @functools.cached_property
    def _variables(self) -> official.Variables:
        with self._reading():
            return official.Variables(self.prefix)

    @functools.cached_property
    def _names(self) -> dict[str, str]:
        with self._reading():
            return official.names_by_path(self._variables.shapes)


@dataclasses.dataclass(frozen=True)
class KerasFiles:
    """Models as `keras.Model.save` writes them, which together are one network."""

    files: tuple[epath.Path, ...]
    flags = "its run's config.json has them"

    def __str__(self) -> str:
        return str(self.files[0])

    def fingerprint(self) -> str:
        """Uses the archives' own checksums, without that of the metadata, which hold the date."""
        checksums = []
        for file in self.files:
            with self._reading(file), file.open("rb") as stream, zipfile.ZipFile(stream) as archive:
                checksums += [
                    (entry.filename, entry.CRC)
                    for entry in archive.infolist()
                    if entry.filename != "metadata.json"
                ]
        return f"keras-{zlib.crc32(repr(checksums).encode()):08x}"

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: tuple(v.shape) for name, v in self._weights.items()}

    def read(self, names: Iterable[str]) -> list[np.ndarray]:
        return [self._weights[name].numpy() for name in names]

    @staticmethod
    def _reading(file):
        return reading(file, "Write it again, or give another.")

    @functools.cached_property
    def _weights(self) -> dict[str, keras.Variable]:
        # The file has values by place, not by path: the model that its config builds has the paths.
        weights = []
        for file in self.files:
            with self._reading(file):
                weights += keras.saving.load_model(str(file), compile=False).weights
        return named(weights)
