"""The reference's files: what they hold, by variable name, read one variable at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import trackable_object_graph_pb2

from simclrv2_tf.contents import Contents
from simclrv2_tf.errors import UserError

_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"


class OfficialError(UserError):
    """Weights of the reference cannot be read, or fit no network of ours."""


class Variables(Mapping):
    """The variables of a file of the reference's, by name; each is read when it is asked for.

    Args:
        path: A TF1 checkpoint, its prefix or its folder; or the folder of a SavedModel of the TF2
            code, whose graph is not run. `gs://` and whatever else `tf.io.gfile` opens will do.

    Attributes:
        prefix: Of the files that hold them.
        shapes: By name.
        nameless: Keys of the file that no name is given to.

    Raises:
        OfficialError: there is neither, it cannot be reached or read, or its variables have no
            names, or two of them the same one.
    """

    def __init__(self, path: str):
        try:
            self.prefix = find_prefix(path)
            self._reader = tf.train.load_checkpoint(self.prefix)
            by_key = self._reader.get_variable_to_shape_map()
            self._keys = {name: name for name in by_key}
            if _GRAPH in by_key:
                self._keys = _keys_by_name(self._reader.get_tensor(_GRAPH), by_key)
        except OfficialError:
            raise
        except (tf.errors.OpError, ValueError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise OfficialError(f"{path} cannot be read ({reason}).") from error
        if not self._keys:
            raise OfficialError(f"{path} holds no variables with names.")
        self.shapes = {name: tuple(by_key[key]) for name, key in self._keys.items()}
        self.nameless = sorted(by_key.keys() - set(self._keys.values()) - {_GRAPH})

    def __getitem__(self, name: str) -> np.ndarray:
        """Raises `OfficialError` where the file is damaged."""
        try:
            return self._reader.get_tensor(self._keys[name])
        except Exception as error:  # TensorFlow raises many kinds, IndexError among them
            reason = str(error).splitlines()[0]
            raise OfficialError(
                f"{name} of {self.prefix} cannot be read ({reason}). Is the copy complete?"
            ) from error

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


def _keys_by_name(graph: bytes, keys) -> dict[str, str]:
    """The keys of an object-based checkpoint by the names that its graph gives to them."""
    parsed = trackable_object_graph_pb2.TrackableObjectGraph()
    parsed.ParseFromString(graph)
    found = {}
    for node in parsed.nodes:
        for value in node.attributes:
            name, key = value.full_name, value.checkpoint_key
            if name and key in keys and found.setdefault(name, key) != key:
                raise OfficialError(
                    f"Two variables have the name {name}: {found[name]} and {key}. Only the "
                    "released code's own files, which tell them apart, can be read."
                )
    return found


def find_prefix(path: str) -> str:
    """The prefix of the checkpoint's files that `path` leads to.

    Raises:
        OfficialError: there are none.
    """
    found = Contents(path).released
    if found is not None:
        return found
    raise OfficialError(
        "The path must be the prefix of a TF1 checkpoint, the folder of one, or that of a "
        f"SavedModel. Received: {path}"
    )
