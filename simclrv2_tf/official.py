"""The reference's weights in our models: its TF1 and TF2 variable names, used one to one.

The released code numbers its layers in the order in which it creates them, one counter for
convolutions and one for batch norms, and creates a block's shortcut before its main path. A
variable's place is therefore told by its scope, its kind and its counter, not by its position in
a list.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import keras
import numpy as np

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
# Optimizer slots and counters stand in TF1 checkpoints beside the weights.
_NOT_WEIGHTS = re.compile(r"(^|/)(global_step|Momentum|Adam|Adam_1|beta1_power|beta2_power)(:0)?$")
# Creation order within a residual block of the reference.
_BLOCK_ORDER = ("shortcut", "conv1", "bn1", "sk_", "conv2", "bn2", "conv3", "bn3", "se_")
_SK_ORDER = ("sk_conv", "sk_bn", "sk_squeeze", "sk_squeeze_bn", "sk_mix")
_SE_ORDER = ("se_reduce", "se_expand")


def load_weights(
    mapping: Mapping[str, np.ndarray],
    encoder: keras.Model,
    head: keras.Model | None = None,
    classifier: keras.Model | keras.layers.Layer | None = None,
) -> None:
    """Fills our models with the reference's variables, all of them or none.

    Args:
        mapping: Reference variable name, of its TF1 code (`base_model/conv2d_3/kernel`) or its
            TF2 code (`resnet/block_group1/.../conv2d_3/kernel`, with or without `:0`), to its
            value. Optimizer slots and the global step are passed over. So are the variables of
            a part that is not handed in.
        encoder: A model of `resnet.resnet`.
        head: A model of `heads.projection_head`.
        classifier: Any Keras model or layer whose weights are a kernel and a bias.

    Raises:
        ValueError: naming every variable of `mapping` that is not known, has no place or another
            shape, and every variable of ours that nothing fills. Nothing is assigned then.
    """
    places = {"encoder": _encoder_places(encoder)}
    if head is not None:
        places["head"] = _head_places(head)
    if classifier is not None:
        places["classifier"] = _classifier_places(classifier)

    problems, found = [], {}
    for name, value in mapping.items():
        if _NOT_WEIGHTS.search(name):
            continue
        match = _NAME.search(name)
        if match is None:
            problems.append(f"{name}: not a variable name of the reference")
            continue
        part = _SCOPES[match["scope"]]
        if part in places:
            key = _reference_key(part, name, match)
            if (part, key) in found:
                problems.append(f"{name}: has the same place as {found[part, key][0]}")
            found[part, key] = (name, value)
    _start_counters_at_zero(found, places)

    assignments = []
    for (part, key), (name, value) in found.items():
        variable = places[part].pop(key, None)
        if variable is None:
            problems.append(f"{name}: the {part} has no such variable")
        elif tuple(variable.shape) != tuple(np.shape(value)):
            problems.append(
                f"{name}: shape {tuple(np.shape(value))} does not fit {variable.path} of shape "
                f"{tuple(variable.shape)}"
            )
        else:
            assignments.append((variable, value))
    for part, left in places.items():
        for key, variable in left.items():
            problems.append(f"{variable.path}: nothing fills it (the {part}'s {_describe(key)})")
    if problems:
        raise ValueError(
            f"`mapping` does not fit the models, {len(problems)} problem(s):\n  "
            + "\n  ".join(problems)
        )
    for variable, value in assignments:
        variable.assign(value)


def _reference_key(part, name, match):
    if part == "classifier":
        return match["slot"]
    if part == "head":
        layer = _HEAD_LAYER.search(name)
        return (match["kind"], int(layer[1]) if layer else 0, match["slot"])
    return (match["kind"], int(match["count"] or 0), match["slot"])


def _describe(key):
    return key if isinstance(key, str) else f"{key[0]} number {key[1]}, {key[2]}"


def _start_counters_at_zero(found, places):
    """Moves the counters of an encoder that was not the first network of its process."""
    for kind in ("conv2d", "batch_normalization"):
        counts = {key[1] for part, key in found if part == "encoder" and key[0] == kind}
        expected = {key[1] for key in places["encoder"] if key[0] == kind}
        # Both ends off: shifted. One end off: a variable is missing or superfluous, and is named.
        if not counts or min(counts) == 0 or max(counts) == max(expected):
            continue
        shift = min(counts)
        shifted = {k: v for k, v in found.items() if k[0] == "encoder" and k[1][0] == kind}
        for part, key in shifted:
            del found[part, key]
        for (part, (_, count, slot)), value in shifted.items():
            found[part, (kind, count - shift, slot)] = value


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
