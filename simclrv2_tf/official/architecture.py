"""Infers the architecture of the reference's networks from variable names and shapes."""

import collections
import dataclasses
import functools
import itertools
from collections.abc import Iterable, Mapping

import keras

from simclrv2_tf import heads, resnet
from simclrv2_tf.official import naming
from simclrv2_tf.official.files import OfficialError

_RECOMMENDED_SK_RATIO = 0.0625
# Number of an encoder's convolutions that may be wrong without leaving its architecture unclear.
_MOST_WRONG = 0.1


@dataclasses.dataclass(frozen=True)
class Architecture:
    """The inferred networks; attributes have the names of the options of `run`.

    If shapes allow several, the reference's default is chosen: the `sk_ratio` of 0.0625 if all
    widths are at their minimum, and no selective kernels for basic blocks with the CIFAR stem.

    Attributes:
        num_proj_layers: 0 without a head.
        num_classes: 0 without a classifier.
        classifier_inputs: The width of the classifier's input; 0 without a classifier.
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
    classifier_inputs: int

    def build(self) -> dict[str, keras.Model]:
        """Builds the networks with random weights: "encoder", "head" and "classifier", if any."""
        encoder = resnet.resnet(
            self.resnet_depth, self.width_multiplier, self.sk_ratio, self.se_ratio, stem=self.stem
        )
        models = {"encoder": encoder}
        if self.num_proj_layers:
            sizes = encoder.output_shape[-1], self.num_proj_layers, self.proj_out_dim
            models["head"] = heads.projection_head(*sizes, self.proj_head_mode)
        if self.num_classes:
            models["classifier"] = heads.classifier(self.classifier_inputs, self.num_classes)
        return models


def infer(shapes: Mapping[str, tuple[int, ...]], momentum: bool = False) -> Architecture:
    """Infers the networks from the reference's variable names and their shapes.

    A few variables may be missing, superfluous or of another shape; `load_weights` reports them.

    Args:
        shapes: Shapes by name, as in `Variables.shapes`.
        momentum: Whether to infer the momentum network, `ema_model/...`.

    Raises:
        OfficialError: no network of `resnet.resnet` is similar.
    """
    names = naming.sort(shapes, momentum)
    if not names.part("encoder"):
        raise OfficialError(
            f"none of the {len(shapes)} variables has a name of the reference's encoder"
        )
    encoder = _encoder(names, shapes)
    head = {key: shapes[name] for key, name in names.part("head").items()}
    has_dense = any(kind == "dense" for kind, _, _ in head)
    last = max((layer for _, layer, _ in head), default=-1)
    # The width of the last layer, from its kernel or its batch norm.
    out_dims = [shape[-1] for (_, layer, _), shape in head.items() if layer == last]
    classifier = {key: shapes[name] for key, name in names.part("classifier").items()}
    outputs = [shape[-1] for shape in classifier.values()]
    width = int(512 * encoder["width_multiplier"]) * _expansion(encoder["resnet_depth"])
    fed_by = classifier.get("kernel", (width,))[0]
    return Architecture(
        **encoder,
        num_proj_layers=last + 1,
        proj_head_mode="linear" if names.is_linear_head else "nonlinear" if has_dense else "none",
        proj_out_dim=_most_common(out_dims),
        num_classes=_most_common(outputs),
        classifier_inputs=(fed_by if fed_by in out_dims else width) if outputs else 0,
    )


def _expansion(depth: int) -> int:
    """Returns how much wider a block's output is than its convolutions."""
    return 4 if depth >= 50 else 1


def _most_common(values: list[int]) -> int:
    return collections.Counter(values).most_common(1)[0][0] if values else 0


@dataclasses.dataclass(frozen=True)
class _Convolution:
    """One convolution of an encoder.

    Attributes:
        role: Its role in a block.
        kernel: Height, width, and whether it has a bias.
        base, factor: The number of filters is factor * int(base * width_multiplier); with base 0 it
            depends on a ratio.
    """

    role: str
    kernel: tuple[int, int, bool]
    base: int = 0
    factor: float = 1

    def filters(self, width_multiplier: float) -> int:
        return int(self.factor * int(self.base * width_multiplier))


def _encoder(names: naming.Sorted, shapes) -> dict:
    """Returns the arguments of `resnet.resnet` for the encoder's convolutions."""

    def wrong(kernels, expected):
        kinds = {number: (*shape[:2], bias) for number, (shape, bias) in kernels.items()}
        wanted = {number: convolution.kernel for number, convolution in enumerate(expected)}
        return sum(kinds.get(n) != wanted.get(n) for n in kinds.keys() | wanted.keys())

    counted = (_kernels(names, shapes), _kernels(names.shifted("conv2d"), shapes))
    kernels, structure = min(
        itertools.product(counted, _structures()),
        key=lambda pair: wrong(pair[0], _convolutions(*pair[1])),
    )
    expected = _convolutions(*structure)
    if wrong(kernels, expected) > _MOST_WRONG * len(expected):
        biases = sum(bias for _, bias in kernels.values())
        raise OfficialError(
            f"An encoder of {len(kernels)} convolutions, {biases} of them with a bias, matches "
            f"none of the depths {resnet.DEPTHS}, with or without selective kernels and "
            "squeeze-excitation: variables are missing, superfluous or have other shapes."
        )
    depth, selective, excited, stem = structure
    present = [(c, kernels[number][0]) for number, c in enumerate(expected) if number in kernels]

    def widths(role, divisor=1):
        found = [shape[2:] for convolution, shape in present if convolution.role == role]
        return [(inputs // divisor, outputs) for inputs, outputs in found]

    reduces = widths("se_reduce", _expansion(depth))
    return {
        "resnet_depth": depth,
        "width_multiplier": _width_multiplier([(c, s[3]) for c, s in present if c.base]),
        "sk_ratio": _ratio(widths("sk_squeeze"), resnet.MIN_MIXING_DIM) if selective else 0.0,
        "se_ratio": _ratio(reduces, 1) if excited else 0.0,
        "stem": stem,
    }


def _kernels(names: naming.Sorted, shapes) -> dict[int, tuple[tuple[int, ...], bool]]:
    """Returns the shape of the encoder's kernels, and whether there is a bias, by their number."""
    encoder = names.part("encoder")
    return {
        number: (shapes[name], (kind, number, "bias") in encoder)
        for (kind, number, slot), name in encoder.items()
        if (kind, slot) == ("conv2d", "kernel") and len(shapes[name]) == 4
    }


def _structures() -> Iterable[tuple[int, bool, bool, str]]:
    """Yields depth, selective kernels, squeeze-excitation and stem of every type of encoder."""
    both = (False, True)
    for structure in itertools.product(resnet.DEPTHS, both, both, ("imagenet", "cifar")):
        depth, selective, _, stem = structure
        # Basic blocks have no selective kernels, and a ResNet-D has no CIFAR stem.
        if depth >= 50 or not selective or stem != "cifar":
            yield structure


@functools.cache
def _convolutions(depth: int, selective: bool, excited: bool, stem: str) -> list[_Convolution]:
    """Returns an encoder's convolutions in the order in which the reference creates them."""
    small, large, biased = (1, 1, False), (3, 3, False), (1, 1, True)
    expansion = _expansion(depth)
    if stem == "cifar":
        found = [_Convolution("stem", large, 64)]
    elif selective:
        found = [_Convolution("stem", large, 64, factor) for factor in (0.5, 0.5, 1)]
    else:
        found = [_Convolution("stem", (7, 7, False), 64)]
    for group, blocks in enumerate(resnet.BLOCKS[depth]):
        base = 64 * 2**group
        block = [_Convolution("main", large, base)] * 2
        if depth >= 50:
            block[0] = _Convolution("main", small, base)
            if selective:
                block[1:] = [
                    _Convolution("main", large, base, 2),
                    _Convolution("sk_squeeze", small),
                    _Convolution("sk_mix", small, base, 2),
                ]
            block += [_Convolution("main", small, base, expansion)]
        if excited:
            block += [_Convolution("se_reduce", biased)]
            block += [_Convolution("se_expand", biased, base, expansion)]
        found += [_Convolution("shortcut", small, base, expansion), *block * blocks]
    return found


def _width_multiplier(filters: list[tuple[_Convolution, int]]) -> float:
    """Returns the value that matches the most convolutions; of several, the roundest."""
    exact = {number / convolution.factor / convolution.base for convolution, number in filters}
    within = {(n / c.factor + 0.5) / c.base for c, n in filters}
    candidates = sorted(exact, key=lambda ratio: len(str(ratio))) + sorted(within)
    return max(candidates, key=lambda ratio: sum(c.filters(ratio) == n for c, n in filters))


def _ratio(widths: list[tuple[int, int]], floor: int) -> float:
    """Returns the ratio of hidden to input width, which is rounded down and at least `floor`.

    Of several matching ratios, returns the recommended one, else the roundest.
    """
    exact = [hidden / width for width, hidden in reversed(widths)]
    within = [(hidden + 0.5) / width for width, hidden in widths]

    def fitting(ratio):
        return sum(hidden == max(int(width * ratio), floor) for width, hidden in widths)

    return max((_RECOMMENDED_SK_RATIO, *exact, *within), key=fitting)
