"""Reads the reference's files by variable name, one variable at a time."""

from collections.abc import Iterator, Mapping

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import trackable_object_graph_pb2

from simclrv2_tf import checkpoint_files
from simclrv2_tf.contents import Contents
from simclrv2_tf.errors import UserError, raised_as

_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"


class OfficialError(UserError):
    """Raised if weights of the reference cannot be read or match none of our networks."""


class Variables(Mapping):
    """The variables of a file of the reference, by name; each is read on access.

    Args:
        path: A TF1 checkpoint, as a prefix or a folder; or the folder of a SavedModel of the TF2
            code, whose graph is not run. `tf.io.gfile` opens the path, so `gs://` works too.

    Attributes:
        prefix: Prefix of the files.
        shapes: Shapes by name.
        nameless: Keys of the file without a name.

    Raises:
        OfficialError: there is no such file, it cannot be read, its variables have no names, or two
            variables have the same name.
    """

    def __init__(self, path: str):
        with raised_as(OfficialError, f"{path} cannot be read"):
            self.prefix = Contents(path).released
            if self.prefix is None:
                raise OfficialError(
                    "The path must be the prefix or the folder of a TF1 checkpoint, or the folder "
                    f"of a SavedModel. Received: {path}"
                )
            self._reader = tf.train.load_checkpoint(checkpoint_files.for_tensorflow(self.prefix))
            by_key = self._reader.get_variable_to_shape_map()
            self._keys = {name: name for name in by_key}
            if _GRAPH in by_key:
                self._keys = _keys_by_name(self._reader, by_key)
        if not self._keys:
            raise OfficialError(f"{path} has no variables with names.")
        self.shapes = {name: tuple(by_key[key]) for name, key in self._keys.items()}
        self.nameless = sorted(by_key.keys() - set(self._keys.values()) - {_GRAPH})

    def __getitem__(self, name: str) -> np.ndarray:
        """Reads a variable; raises an `OfficialError` if the file is damaged."""
        problem = f"{name} of {self.prefix} cannot be read"
        with raised_as(OfficialError, problem, "Is the copy complete?"):
            return self._reader.get_tensor(self._keys[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


def object_graph(reader) -> trackable_object_graph_pb2.TrackableObjectGraph:
    """Returns the object graph of a TF2 checkpoint; empty for TF1."""
    graph = trackable_object_graph_pb2.TrackableObjectGraph()
    if reader.has_tensor(_GRAPH):
        graph.ParseFromString(reader.get_tensor(_GRAPH))
    return graph


def _keys_by_name(reader, keys) -> dict[str, str]:
    """Returns the keys of an object-based checkpoint by their names in its graph."""
    found: dict[str, str] = {}
    for value in (value for node in object_graph(reader).nodes for value in node.attributes):
        name, key = value.full_name, value.checkpoint_key
        if name and key in keys and found.setdefault(name, key) != key:
            raise OfficialError(
                f"Two variables have the name {name}: {found[name]} and {key}. Only files of the "
                "released code, which have unique names, can be read."
            )
    return found
