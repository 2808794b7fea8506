"""The reference's variable names, in TF1 and TF2, and their places in the networks.

The released code numbers its layers in the order in which it creates them, one counter for
convolutions and one for batch norms, and creates a block's shortcut before its main path. So a
variable's scope, kind and counter give its place, not its position in a list. A place is
(part, key): the part is "encoder", "head" or "classifier"; the key is (kind, number, slot), such as
("conv2d", 3, "kernel"), or only the slot for the classifier.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable

import keras

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
# Checkpoints hold optimizer slots and counters alongside the weights.
_NOT_WEIGHTS = re.compile(
    r"(^|/)(global_step|iter|save_counter|learning_rate|decay|momentum|Momentum|Adam|Adam_1|"
    r"beta1_power|beta2_power)(:0)?$|(^|/)(SGD|Adam|LARSOptimizer)/"
)
_MOMENTUM_NETWORK = "ema_model/"
# Prefixes of our layers' names, in the order in which the reference creates a residual block.
_BLOCK_ORDER = (
    *("shortcut", "conv1", "bn1", "sk_conv", "sk_bn", "sk_squeeze", "sk_mix", "conv2", "bn2"),
    *("conv3", "bn3", "se_reduce", "se_expand"),
)

Place = tuple[str, tuple[str, int, str] | str]


@dataclasses.dataclass
class Sorted:
    """The result of `sort`.

    Attributes:
        names: Names of weights, by place.
        skipped: The reason for each other name: a counter, an optimizer's slot, or part of the
            network that was not requested.
        problems: One sentence per name that is not recognized.
        is_linear_head: Whether the head is linear, with a layer called l_0.
    """

    names: dict[Place, str] = dataclasses.field(default_factory=dict)
    skipped: dict[str, str] = dataclasses.field(default_factory=dict)
    problems: list[str] = dataclasses.field(default_factory=list)
    is_linear_head: bool = False

    def part(self, part: str) -> dict:
        """Returns the names of one part, by key."""
        return {key: name for (of, key), name in self.names.items() if of == part}

    def shifted(self, kind: str) -> Sorted:
        """Returns the same names with the encoder's layers of `kind` counted from 0.

        They start higher if the network was not the first of its process.
        """
        first = min((key[1] for key in self.part("encoder") if key[0] == kind), default=0)

        def moved(place):
            part, key = place
            if part != "encoder" or key[0] != kind:
                return place
            return part, (kind, key[1] - first, key[2])

        names = {moved(place): name for place, name in self.names.items()}
        return dataclasses.replace(self, names=names)


def sort(names: Iterable[str], momentum: bool = False) -> Sorted:
    """Finds the place of each of `names`; with `momentum`, of the momentum network's names."""
    found = Sorted()
    for name in names:
        match = _NAME.search(name)
        if _NOT_WEIGHTS.search(name):
            found.skipped[name] = "not a weight: a counter or an optimizer's slot"
        elif name.startswith(_MOMENTUM_NETWORK) != momentum:
            found.skipped[name] = (
                "part of the network" if momentum else "part of the momentum network"
            )
        elif match is None:
            found.problems.append(f"{name}: not a variable name of the reference")
        else:
            place = _place(name, match)
            other = found.names.setdefault(place, name)
            if other != name:
                found.problems.append(f"{name}: has the same place as {other}")
            found.is_linear_head |= place[0] == "head" and "/l_" in name
    return found


def _place(name, match) -> Place:
    part, kind, number = _SCOPES[match["scope"]], match["kind"], match["count"]
    if part == "classifier":
        return part, match["slot"]
    if part == "head":
        layer = _HEAD_LAYER.search(name)
        number = layer and layer[1]
    return part, (kind, int(number or 0), match["slot"])


def describe(place: Place) -> str:
    """Describes a place."""
    part, key = place
    return f"the {part}'s {key if isinstance(key, str) else '{} number {}, {}'.format(*key)}"


def places(
    encoder: keras.Model,
    head: keras.Model | None = None,
    classifier: keras.Model | keras.layers.Layer | None = None,
) -> dict[Place, keras.Variable]:
    """Returns the variables of our models by place."""
    found = {"encoder": _encoder_places(encoder)}
    if head is not None:
        found["head"] = _head_places(head)
    if classifier is not None:
        found["classifier"] = _classifier_places(classifier)
    return {(part, key): v for part, keys in found.items() for key, v in keys.items()}


def _encoder_places(encoder):
    found, counters = {}, {"conv2d": 0, "batch_normalization": 0}
    weighted = [layer for layer in encoder.layers if layer.weights]
    for layer in sorted(weighted, key=lambda layer: _creation_order(layer.name)):
        kind = "conv2d" if isinstance(layer, keras.layers.Conv2D) else "batch_normalization"
        found |= {(kind, counters[kind], variable.name): variable for variable in layer.weights}
        counters[kind] += 1
    return found


def _creation_order(layer_name):
    block = re.match(r"block_group(\d+)_block(\d+)_(.+)$", layer_name)
    if block is None:  # the stem: stem_conv, stem_bn or stem_conv1, stem_bn1, stem_conv2, ...
        return (0, 0, int(re.search(r"\d*$", layer_name)[0] or 0))
    place = next(i for i, prefix in enumerate(_BLOCK_ORDER) if block[3].startswith(prefix))
    return (int(block[1]), int(block[2]), place)


def _head_places(head):
    found = {}
    for layer in head.layers:
        if named := re.match(r"projection(\d+)_(dense|bn)$", layer.name):
            kind = "dense" if named[2] == "dense" else "batch_normalization"
            for variable in layer.weights:
                found[kind, int(named[1]) - 1, variable.name] = variable
    return found


def _classifier_places(classifier):
    by_rank = {len(variable.shape): variable for variable in classifier.weights}
    if len(classifier.weights) != 2 or set(by_rank) != {1, 2}:
        raise ValueError(
            "`classifier` must have exactly a kernel and a bias. Received: weights of shapes "
            f"{[tuple(v.shape) for v in classifier.weights]}"
        )
    return {"kernel": by_rank[2], "bias": by_rank[1]}
