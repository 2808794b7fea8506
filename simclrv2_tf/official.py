"""The reference's weights in our models: its TF1 and TF2 variable names, used one to one.

The released code numbers its layers in the order in which it creates them, one counter for
convolutions and one for batch norms, and creates a block's shortcut before its main path. A
variable's place is therefore told by its scope, its kind and its counter, not by its position in
a list.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import re
from collections.abc import Iterable, Iterator, Mapping

import keras
import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import trackable_object_graph_pb2

from simclrv2_tf import heads, resnet

_SCOPES = {
    "base_model": "encoder",
    "resnet": "encoder",
    "resnet_model": "encoder",
    "head_contrastive": "head",
    "projection_head": "head",
    "head_supervised": "classifier",
}
_NAME = re.compile(
    r"(?:^|/)(?P<scope>" + "|".join(_SCOPES) + r")/"
    r"(?:.*/)?(?P<kind>conv2d|batch_normalization|dense)(?:_(?P<count>\d+))?/"
    r"(?P<slot>kernel|bias|gamma|beta|moving_mean|moving_variance)(?::0)?$"
)
_HEAD_LAYER = re.compile(r"/n?l_(\d+)/")
# Optimizer slots and counters stand in checkpoints beside the weights.
_NOT_WEIGHTS = re.compile(
    r"(^|/)(global_step|iter|save_counter|learning_rate|decay|momentum|Momentum|Adam|Adam_1|"
    r"beta1_power|beta2_power)(:0)?$|(^|/)(SGD|Adam|LARSOptimizer)/"
)
_MOMENTUM_NETWORK = "ema_model/"
_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
# Creation order within a residual block of the reference.
_BLOCK_ORDER = ("shortcut", "conv1", "bn1", "sk_", "conv2", "bn2", "conv3", "bn3", "se_")
_SK_ORDER = ("sk_conv", "sk_bn", "sk_squeeze", "sk_squeeze_bn", "sk_mix")
_SE_ORDER = ("se_reduce", "se_expand")


class OfficialError(ValueError):
    """Weights of the reference that cannot be read, or fit no network of ours."""


class Variables(Mapping):
    """The variables of a file of the reference's, by name; each is read when it is asked for.

    Args:
        path: A TF1 checkpoint, its prefix or its folder; or the folder of a SavedModel of the TF2
            code, whose graph is not run. `gs://` and whatever else `tf.io.gfile` opens will do.

    Attributes:
        prefix: Of the files that hold them.
        shapes: By name.

    Raises:
        OfficialError: there is neither, it cannot be read, or its variables have no names.
    """

    def __init__(self, path: str):
        self.prefix = _prefix(path)
        try:
            self._reader = tf.train.load_checkpoint(self.prefix)
            by_key = self._reader.get_variable_to_shape_map()
            self._keys = {name: name for name in by_key}
            if _GRAPH in by_key:
                self._keys = _keys_by_name(self._reader.get_tensor(_GRAPH), by_key)
        except (tf.errors.OpError, ValueError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise OfficialError(f"{self.prefix} cannot be read ({reason}).") from error
        if not self._keys:
            raise OfficialError(f"{self.prefix} holds no variables with names.")
        self.shapes = {name: tuple(by_key[key]) for name, key in self._keys.items()}

    def __getitem__(self, name: str) -> np.ndarray:
        return self._reader.get_tensor(self._keys[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


def _keys_by_name(graph: bytes, keys) -> dict[str, str]:
    """The names that an object-based checkpoint's graph gives to its keys."""
    parsed = trackable_object_graph_pb2.TrackableObjectGraph()
    parsed.ParseFromString(graph)
    return {
        value.full_name: value.checkpoint_key
        for node in parsed.nodes
        for value in node.attributes
        if value.full_name and value.checkpoint_key in keys
    }


def _prefix(path: str) -> str:
    if tf.io.gfile.exists(path + ".index"):
        return path
    if tf.io.gfile.isdir(path):
        if tf.io.gfile.exists(os.path.join(path, "saved_model.pb")):
            return os.path.join(path, "variables", "variables")
        found = tf.train.latest_checkpoint(path)
        # It may have been copied without the file that names it.
        indices = [name for name in tf.io.gfile.listdir(path) if name.endswith(".index")]
        if found is None and len(indices) == 1:
            found = os.path.join(path, indices[0].removesuffix(".index"))
        if found is not None:
            return found
    raise OfficialError(
        "`path` must be the prefix of a TF1 checkpoint, the folder of one, or that of a "
        f"SavedModel. Received: path={path}"
    )


@dataclasses.dataclass(frozen=True)
class Architecture:
    """What names and shapes tell of the networks; attributes are called as the options of `run`.

    What no shape tells is as the reference has it by default: the `sk_ratio` of 0.0625 where all
    widths are at their floor, and no selective kernels for basic blocks with the CIFAR stem.

    Attributes:
        num_proj_layers: 0 without a head.
        num_classes: 0 without a classifier.
    """

    resnet_depth: int
    width_multiplier: float
    sk_ratio: float
    se_ratio: float
    stem: str
    num_proj_layers: int
    proj_head_mode: str
    proj_out_dim: int
    num_classes: int

    def build(self) -> dict[str, keras.Model]:
        """The networks, at random weights: "encoder", and "head" and "classifier" if there."""
        models = {
            "encoder": resnet.resnet(
                self.resnet_depth,
                self.width_multiplier,
                self.sk_ratio,
                self.se_ratio,
                stem=self.stem,
            )
        }
        width = models["encoder"].output_shape[-1]
        if self.num_proj_layers:
            models["head"] = heads.projection_head(
                width, self.num_proj_layers, self.proj_out_dim, self.proj_head_mode
            )
        if self.num_classes:
            models["classifier"] = heads.classifier(width, self.num_classes)
        return models


def architecture(shapes: Mapping[str, tuple[int, ...]], momentum: bool = False) -> Architecture:
    """Infers the networks from the reference's variable names and their shapes.

    Args:
        shapes: By name, as `Variables.shapes`.
        momentum: Of the momentum network, `ema_model/...`, in place of the network itself.

    Raises:
        OfficialError: no network of `resnet.resnet` has these.
    """
    names = _sort(shapes, momentum).names
    shape = {place: shapes[name] for place, name in names.items()}
    encoder = {key: value for (part, key), value in shape.items() if part == "encoder"}
    counts = sorted(count for kind, count, slot in encoder if (kind, slot) == ("conv2d", "kernel"))
    kernels = [encoder["conv2d", count, "kernel"] for count in counts]
    patterns = [
        (*kernel[:2], ("conv2d", count, "bias") in encoder)
        for count, kernel in zip(counts, kernels, strict=True)
    ]
    structure = _structure(patterns)
    found = {}
    for (role, _), kernel in zip(_convolutions(*structure), kernels, strict=True):
        found.setdefault(role, []).append(kernel)
    depth, selective, excited, stem = structure
    expansion = 4 if depth >= 50 else 1
    squeezes = [(width, hidden) for _, _, width, hidden in found.get("sk_squeeze", ())]
    reduces = [(width // expansion, hidden) for _, _, width, hidden in found.get("se_reduce", ())]
    dense = [
        value
        for (part, key), value in sorted(shape.items(), key=lambda item: str(item[0]))
        if part == "head" and (key[0], key[2]) == ("dense", "kernel")
    ]
    linear = any(part == "head" and "/l_" in name for (part, _), name in names.items())
    return Architecture(
        resnet_depth=depth,
        width_multiplier=found["stem"][-1][3] / 64,
        sk_ratio=_ratio(squeezes, resnet.MIN_MIXING_DIM) if selective else 0.0,
        se_ratio=_ratio(reduces, 1) if excited else 0.0,
        stem=stem,
        num_proj_layers=len(dense),
        proj_head_mode="linear" if linear else "nonlinear" if dense else "none",
        proj_out_dim=dense[-1][1] if dense else 0,
        num_classes=shape.get(("classifier", "kernel"), (0, 0))[1],
    )


def _structure(patterns: list[tuple]) -> tuple[int, bool, bool, str]:
    """Depth, selective kernels, squeeze-excitation and stem of an encoder's convolutions."""
    for depth in resnet.DEPTHS:
        for selective, excited, stem in itertools.product(
            (False, True), (False, True), ("imagenet", "cifar")
        ):
            expected = _convolutions(depth, selective, excited, stem)
            if [pattern for _, pattern in expected] == patterns:
                return depth, selective, excited, stem
    raise OfficialError(
        f"An encoder of {len(patterns)} convolutions, {sum(bias for *_, bias in patterns)} of them "
        f"with a bias, is of none of the depths {resnet.DEPTHS}, with or without selective kernels "
        "and squeeze-excitation: variables are missing, superfluous or of other shapes."
    )


def _convolutions(depth: int, selective: bool, excited: bool, stem: str) -> list[tuple]:
    """Role, and (height, width, has a bias), of an encoder's convolutions in order of creation."""
    small, large = (1, 1, False), (3, 3, False)
    found = [("stem", large)]
    if stem == "imagenet":
        found = [("stem", large)] * 3 if selective else [("stem", (7, 7, False))]
    for blocks in resnet.BLOCKS[depth]:
        for block in range(blocks):
            found += [("shortcut", small)] * (block == 0)
            if depth < 50:
                found += [("main", large)] * 2
            else:
                found += [("main", small), ("main", large)]
                found += [("sk_squeeze", small), ("sk_mix", small)] * selective
                found += [("main", small)]
            found += [("se_reduce", (1, 1, True)), ("se_expand", (1, 1, True))] * excited
    return found


def _ratio(widths: list[tuple[int, int]], floor: int) -> float:
    """The ratio of hidden to given width, which is rounded down and no less than `floor`."""
    # Where several will do: the recommended one, else the one that a person would have chosen.
    exact = [hidden / width for width, hidden in reversed(widths)]
    within = [(hidden + 0.5) / width for width, hidden in widths]
    for ratio in (0.0625, *exact, *within):
        if all(hidden == max(int(width * ratio), floor) for width, hidden in widths):
            return ratio
    raise OfficialError(f"No ratio makes the hidden widths {sorted(set(widths))}.")


@dataclasses.dataclass(frozen=True)
class Report:
    """What became of each of the reference's variables.

    Attributes:
        used: The path of our variable, by the name of theirs.
        skipped: Why it was not used, by name.
    """

    used: dict[str, str]
    skipped: dict[str, str]


def load_checkpoint(
    path: str,
    encoder: keras.Model,
    head: keras.Model | None = None,
    classifier: keras.Model | keras.layers.Layer | None = None,
    momentum: bool = False,
) -> Report:
    """Fills our models from a file of the reference's; see `Variables` and `load_weights`."""
    return load_weights(Variables(path), encoder, head, classifier, momentum)


def load_weights(
    mapping: Mapping[str, np.ndarray],
    encoder: keras.Model,
    head: keras.Model | None = None,
    classifier: keras.Model | keras.layers.Layer | None = None,
    momentum: bool = False,
) -> Report:
    """Fills our models with the reference's variables, all of them or none.

    Args:
        mapping: Reference variable name, of its TF1 code (`base_model/conv2d_3/kernel`) or its
            TF2 code (`resnet/block_group1/.../conv2d_3/kernel`, with or without `:0`), to its
            value; or `Variables`, read one at a time. Optimizer slots and the global step are
            passed over. So are the variables of a part that is not handed in.
        encoder: A model of `resnet.resnet`.
        head: A model of `heads.projection_head`.
        classifier: Any Keras model or layer whose weights are a kernel and a bias.
        momentum: Whether to take the momentum network, `ema_model/...`, in place of the network
            itself.

    Returns:
        What was used for what, and what was not.

    Raises:
        OfficialError: naming every variable of `mapping` that is not known, has no place or another
            shape, and every variable of ours that nothing fills. Nothing is assigned then.
    """
    places = _places(encoder, head, classifier)
    if isinstance(mapping, Variables):
        shapes = mapping.shapes
    else:
        shapes = {name: tuple(np.shape(value)) for name, value in mapping.items()}

    sorted_names = _sort(shapes, momentum, places)
    problems, skipped = list(sorted_names.problems), dict(sorted_names.skipped)
    assignments, used = [], {}
    for (part, key), name in sorted_names.names.items():
        if part not in places:
            skipped[name] = f"no {part} was asked for"
            continue
        variable = places[part].pop(key, None)
        if variable is None:
            problems.append(f"{name}: the {part} has no such variable")
        elif tuple(variable.shape) != shapes[name]:
            problems.append(
                f"{name}: shape {shapes[name]} does not fit {variable.path} of shape "
                f"{tuple(variable.shape)}"
            )
        else:
            assignments.append((variable, name))
            used[name] = variable.path
    for part, left in places.items():
        for key, variable in left.items():
            problems.append(f"{variable.path}: nothing fills it (the {part}'s {_describe(key)})")
    if problems:
        raise OfficialError(
            f"`mapping` does not fit the models, {len(problems)} problem(s):\n  "
            + "\n  ".join(problems)
        )
    for variable, name in assignments:
        variable.assign(mapping[name])
    return Report(used, skipped)


@dataclasses.dataclass
class _Sorted:
    """Names by their place (part, key); those that have none, and why; those that are wrong."""

    names: dict[tuple, str]
    skipped: dict[str, str]
    problems: list[str]


def _sort(names: Iterable[str], momentum: bool, places: Mapping[str, Mapping] | None = None):
    found = _Sorted({}, {}, [])
    for name in names:
        if _NOT_WEIGHTS.search(name):
            found.skipped[name] = "no weight: a counter or an optimizer's"
            continue
        if name.startswith(_MOMENTUM_NETWORK) != momentum:
            found.skipped[name] = "of the momentum network" if not momentum else "of the network"
            continue
        match = _NAME.search(name)
        if match is None:
            found.problems.append(f"{name}: not a variable name of the reference")
            continue
        part = _SCOPES[match["scope"]]
        place = (part, _reference_key(part, name, match))
        if place in found.names:
            found.problems.append(f"{name}: has the same place as {found.names[place]}")
        found.names[place] = name
    _start_counters_at_zero(found.names, places)
    return found


def _reference_key(part, name, match):
    if part == "classifier":
        return match["slot"]
    if part == "head":
        layer = _HEAD_LAYER.search(name)
        return (match["kind"], int(layer[1]) if layer else 0, match["slot"])
    return (match["kind"], int(match["count"] or 0), match["slot"])


def _describe(key):
    return key if isinstance(key, str) else f"{key[0]} number {key[1]}, {key[2]}"


def _start_counters_at_zero(names, places=None):
    """Moves the counters of an encoder that was not the first network of its process."""
    for kind in ("conv2d", "batch_normalization"):
        of_kind = [(part, key) for part, key in names if part == "encoder" and key[0] == kind]
        counts = {key[1] for _, key in of_kind}
        if not counts or min(counts) == 0:
            continue
        # Both ends off: shifted. One end off: a variable is missing or superfluous, and is named.
        if places and max(counts) == max(k[1] for k in places["encoder"] if k[0] == kind):
            continue
        for place in sorted(of_kind, key=lambda place: place[1][1]):
            part, (_, count, slot) = place
            names[part, (kind, count - min(counts), slot)] = names.pop(place)


def names_by_path(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, str]:
    """The reference's variable names by the paths that these variables have in our networks.

    Args:
        shapes: By name, as `Variables.shapes`.

    Raises:
        OfficialError: they are of no network of ours, or there is one too many or too few.
    """
    # A path does not depend on the width, and a narrow network is built in a moment.
    found = architecture(shapes)
    narrow = dataclasses.replace(
        found, width_multiplier=1 / 32, proj_out_dim=2, num_classes=min(found.num_classes, 2)
    )
    places = _places(**narrow.build())
    names = _sort(shapes, momentum=False, places=places)
    ours = {(part, key) for part, variables in places.items() for key in variables}
    problems = names.problems + [
        f"{names.names[place]}: no network of ours has it" for place in names.names.keys() - ours
    ]
    problems += [
        f"the {part}'s {_describe(key)}: missing" for part, key in ours - names.names.keys()
    ]
    if problems:
        raise OfficialError(
            f"The variables fit no network of ours, {len(problems)} problem(s):\n  "
            + "\n  ".join(sorted(problems))
        )
    return {places[part][key].path: name for (part, key), name in names.names.items()}


def _places(encoder, head=None, classifier=None) -> dict[str, dict]:
    """By part, our variables by the place that the reference's names tell."""
    places = {"encoder": _encoder_places(encoder)}
    if head is not None:
        places["head"] = _head_places(head)
    if classifier is not None:
        places["classifier"] = _classifier_places(classifier)
    return places


def _encoder_places(encoder):
    places, counters = {}, {"conv2d": 0, "batch_normalization": 0}
    weighted = [layer for layer in encoder.layers if layer.weights]
    for layer in sorted(weighted, key=lambda layer: _creation_order(layer.name)):
        kind = "conv2d" if isinstance(layer, keras.layers.Conv2D) else "batch_normalization"
        for variable in layer.weights:
            places[kind, counters[kind], variable.name] = variable
        counters[kind] += 1
    return places


def _creation_order(layer_name):
    block = re.match(r"block_group(\d+)_block(\d+)_(.+)$", layer_name)
    if block is None:  # the stem: stem_conv, stem_bn or stem_conv1, stem_bn1, stem_conv2, ...
        return (0, 0, int(re.search(r"\d*$", layer_name)[0] or 0), 0)
    group, number, rest = int(block[1]), int(block[2]), block[3]
    place = next(i for i, prefix in enumerate(_BLOCK_ORDER) if rest.startswith(prefix))
    inner = {**{n: i for i, n in enumerate(_SK_ORDER)}, **{n: i for i, n in enumerate(_SE_ORDER)}}
    return (group, number, place, inner.get(rest, 0))


def _head_places(head):
    places = {}
    for layer in head.layers:
        named = re.match(r"projection(\d+)_(dense|bn)$", layer.name)
        if named:
            kind = "dense" if named[2] == "dense" else "batch_normalization"
            for variable in layer.weights:
                places[kind, int(named[1]) - 1, variable.name] = variable
    return places


def _classifier_places(classifier):
    by_rank = {len(variable.shape): variable for variable in classifier.weights}
    if len(classifier.weights) != 2 or set(by_rank) != {1, 2}:
        raise ValueError(
            "`classifier` must have exactly a kernel and a bias. Received: weights of shapes "
            f"{[tuple(v.shape) for v in classifier.weights]}"
        )
    return {"kernel": by_rank[2], "bias": by_rank[1]}
