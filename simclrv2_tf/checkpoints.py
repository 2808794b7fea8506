"""Weights on disk by variable path: checkpoints, exact to resume, and weights to start from.

Weights to start from are read by `shapes`, `fits`, `load` and `fingerprint`, whose `path` leads to

1. checkpoints of a run: its folder (of several stages: its pretraining's), a folder of
   checkpoints, or one checkpoint's prefix;
2. a SavedModel of `export.export`: its folder;
3. `.keras` files of a run: a folder that has no checkpoints but `encoder.keras`, or that file;
   `head.keras` and `classifier.keras` beside it belong to it. Any other `.keras` file is read
   alone;
4. weights that the reference released, see `official`: a TF1 checkpoint's folder or prefix, a
   SavedModel's folder, or a released model's name.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Mapping

import keras
import numpy as np
import tensorflow as tf
from etils import epath
from tensorflow.core.protobuf import trackable_object_graph_pb2

import simclrv2_tf.resnet  # noqa: F401  (Keras reads a file's layers if their classes are known)
from simclrv2_tf import official

_ROOT = "variables"
_OPTIMIZER = "optimizer/"
_KERAS_FILES = ("encoder.keras", "head.keras", "classifier.keras")


class CheckpointError(ValueError):
    """Weights are missing, unreadable, or of another network."""


class Checkpoints:
    """The checkpoints in one folder, newest last.

    Args:
        directory: Folder of the checkpoints; made with the first one.
        variables: All that the run has to remember, by a name that is the same in every process.
        keep: How many of the newest to keep.
        writes: Whether this process writes them. One of several that train together which does not
            has to call `save` all the same: reading the variables takes all of them.
    """

    def __init__(
        self,
        directory: str,
        variables: Mapping[str, keras.Variable],
        keep: int,
        writes: bool = True,
    ):
        self._variables = dict(variables)
        self._checkpoint = tf.train.Checkpoint(
            **{_ROOT: {name: v.value for name, v in self._variables.items()}}
        )
        self._directory = directory
        # What TensorFlow cannot help writing elsewhere goes where it is removed.
        self._elsewhere = None if writes else tempfile.TemporaryDirectory()
        self._manager = tf.train.CheckpointManager(
            self._checkpoint,
            directory if writes else self._elsewhere.name,
            max_to_keep=keep if writes else 1,
        )

    def restore(self) -> bool:
        """Restores the newest checkpoint, every variable of it; False where there is none.

        Raises:
            CheckpointError: its variables are not those of this run.
        """
        latest = tf.train.latest_checkpoint(self._directory)
        if latest is None:
            return False
        source = _TensorFlowCheckpoint(latest, _ROOT)
        stored = source.shapes()
        expected = {name: tuple(v.shape) for name, v in self._variables.items()}
        if stored != expected:
            wrong = sorted(
                name for name in stored | expected if stored.get(name) != expected.get(name)
            )
            raise CheckpointError(
                f"{latest} holds another network or optimizer: {len(wrong)} variable(s) differ, "
                f"{wrong[0]} the first. Use another `model_dir`, or the flags of that run."
            )
        with source.reading():
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
    names = [f"{_OPTIMIZER}{v.path.split('/', 1)[1]}" for v in slots]
    for name, variable in [*((v.path, v) for v in weights), *zip(names, slots, strict=True)]:
        if result.setdefault(name, variable) is not variable:
            raise ValueError(f"Two variables have the path {name}.")
    return result


def latest(path: str) -> str | None:
    """The newest checkpoint of a run that `path` leads to, as a prefix, or None.

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
    """Tells the weights that `path` leads to by their checksums; None where there are none.

    The same weights have it in every copy, and in every file of one kind and one network.

    Raises:
        CheckpointError: a file there is no checkpoint, SavedModel or `.keras` file.
    """
    source = _source(path) if path else None
    return source.fingerprint() if source else None


def shapes(path: str) -> dict[str, tuple[int, ...]]:
    """The shapes of the weights that `path` leads to, by variable path.

    `shapes(path)["classifier/kernel"][1]` is the number of classes of weights with a classifier.

    Raises:
        CheckpointError: no weights there, or unreadable ones.
    """
    stored = _existing(path).shapes()
    return {name: shape for name, shape in stored.items() if not name.startswith(_OPTIMIZER)}


def fits(path: str, models: Iterable[keras.Model]) -> bool:
    """Whether `path` leads to every weight of `models`; False where there are none at all.

    Raises:
        CheckpointError: the weights there are unreadable.
    """
    source = _source(path)
    stored = source.shapes() if source else {}
    return all(stored.get(v.path) == tuple(v.shape) for m in models for v in m.weights)


def load(path: str, models: Iterable[keras.Model]) -> None:
    """Fills `models` with the weights at `path`, by variable path: all of them, or none.

    Raises:
        CheckpointError: no weights there, unreadable ones, or a weight of the models is missing or
            has another shape. The models are as they were.
    """
    source = _existing(path)
    stored = source.shapes()
    weights = [v for model in models for v in model.weights]
    for variable in weights:
        if stored.get(variable.path) != tuple(variable.shape):
            raise CheckpointError(
                f"`checkpoint` {source} is of another network: {variable.path} has shape "
                f"{stored.get(variable.path, 'none')} there and {tuple(variable.shape)} here. "
                f"Give the network flags it was trained with ({source.flags})."
            )
    values = source.read([variable.path for variable in weights])
    for variable, value in zip(weights, values, strict=True):
        variable.assign(value)


def _existing(path: str) -> _TensorFlowCheckpoint | _OfficialCheckpoint | _KerasFiles:
    source = _source(path)
    if source is None:
        raise CheckpointError(
            "`checkpoint` must be a run's folder, one of its checkpoints, its encoder.keras, a "
            "SavedModel of it, or weights that the reference released. "
            f"Received: checkpoint={path}, where there is none."
        )
    return source


def _source(path: str) -> _TensorFlowCheckpoint | _OfficialCheckpoint | _KerasFiles | None:
    with _reading(path, "Copy it to this machine, and give the copy's path."):
        path, _ = official.resolve(path)
        prefix = latest(path)
    given = epath.Path(path)
    if prefix is None and (given / "saved_model.pb").exists():
        prefix, attribute = str(given / "variables" / "variables"), "weights"
    else:
        attribute = _ROOT
    if prefix is not None:
        ours = _TensorFlowCheckpoint(prefix, attribute)
        return ours if ours.keys else _OfficialCheckpoint(prefix)
    first = _KERAS_FILES[0]
    for file in (given / first, given / "pretrain" / first, given):
        if file.suffix == ".keras" and file.is_file():
            names = _KERAS_FILES if file.name == first else (file.name,)
            return _KerasFiles(tuple(f for f in map(file.with_name, names) if f.exists()))
    try:
        return _OfficialCheckpoint(official.find_prefix(path))
    except official.OfficialError:
        return None


@dataclasses.dataclass(frozen=True)
class _TensorFlowCheckpoint:
    """A checkpoint in TensorFlow's format whose root object has a dict of variables.

    Also what a SavedModel keeps its variables in: read like this, no graph has to be loaded.

    Args:
        prefix: The checkpoint's path without `.index`.
        attribute: The dict's name.
    """

    prefix: str
    attribute: str
    flags = "its run's config.json has them"

    def __str__(self) -> str:
        return self.prefix

    def fingerprint(self) -> str:
        """The index holds a checksum of every variable, so its own checksum tells them all."""
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

    def reading(self):
        if self.attribute == _ROOT:
            advice = "Remove it and name an older one in the file `checkpoint` beside it, or begin "
            return _reading(self, advice + "anew.")
        return _reading(self, "Export it again.")

    @functools.cached_property
    def _reader(self):
        return tf.train.load_checkpoint(self.prefix)

    @functools.cached_property
    def keys(self) -> dict[str, str]:
        """The checkpoint's keys by variable path; none where it is not one of ours.

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
class _OfficialCheckpoint:
    """A checkpoint of the reference's, whose variables have the paths of ours by `official`.

    Args:
        prefix: The checkpoint's path without `.index`.
    """

    prefix: str

    def __str__(self) -> str:
        return self.prefix

    def fingerprint(self) -> str:
        return _TensorFlowCheckpoint(self.prefix, _ROOT).fingerprint()

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
        return _reading(
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
class _KerasFiles:
    """Models as `keras.Model.save` writes them, which together are one network."""

    files: tuple[epath.Path, ...]
    flags = "its run's config.json has them"

    def __str__(self) -> str:
        return str(self.files[0])

    def fingerprint(self) -> str:
        """From the archives' own checksums; without their metadata, which tell the date."""
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
        return _reading(file, "Write it again, or give another.")

    @functools.cached_property
    def _weights(self) -> dict[str, keras.Variable]:
        # The file has values by place, not by path: only the model that its config builds can
        # tell their names.
        weights = []
        for file in self.files:
            with self._reading(file):
                weights += keras.saving.load_model(str(file), compile=False).weights
        return named(weights)


@contextlib.contextmanager
def _reading(what, advice: str):
    """Turns whatever TensorFlow and Keras raise on a damaged file into one error."""
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = lines[0] if lines else type(error).__name__
        raise CheckpointError(f"{what} cannot be read ({reason}). {advice}") from error
