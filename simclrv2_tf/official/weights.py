"""Fills our networks with the reference's variables; each is used exactly once or reported."""

import dataclasses
import functools
from collections.abc import Mapping

import keras
import numpy as np

from simclrv2_tf.official import naming
from simclrv2_tf.official.architecture import Architecture, infer
from simclrv2_tf.official.files import OfficialError, Variables


@dataclasses.dataclass(frozen=True)
class Report:
    """How each of the reference's variables was used.

    Attributes:
        used: The path of our variable, by the name in the reference.
        skipped: The reason why it was not used, by name.
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
    """Fills our models from a file of the reference, completely or not at all.

    Args:
        path: As for `Variables`: a TF1 checkpoint or a TF2 SavedModel of the released code
            (github.com/google-research/simclr).
        encoder, head, classifier, momentum: As for `load_weights`, like the result.

    Raises:
        OfficialError: the file cannot be read, or as for `load_weights`.
    """
    return load_weights(Variables(path), encoder, head, classifier, momentum)


def load_weights(
    mapping: Mapping[str, np.ndarray],
    encoder: keras.Model,
    head: keras.Model | None = None,
    classifier: keras.Model | keras.layers.Layer | None = None,
    momentum: bool = False,
) -> Report:
    """Fills our models with the reference's variables, completely or not at all.

    Args:
        mapping: Maps the reference's variable names, of its TF1 code (`base_model/conv2d_3/kernel`)
            or its TF2 code (`resnet/block_group1/.../conv2d_3/kernel`, with or without `:0`), to
            values; or `Variables`, read one at a time. Optimizer slots, the global step and the
            variables of a part that is not given are skipped.
        encoder: A model of `resnet.resnet`.
        head: A model of `heads.projection_head`.
        classifier: Any Keras model or layer whose weights are a kernel and a bias.
        momentum: Whether to use the momentum network, `ema_model/...`, instead of the network.

    Returns:
        A report of used and skipped variables.

    Raises:
        OfficialError: names all variables of `mapping` that are unknown, have no place or another
        shape, and all of our variables that remain unfilled; or the variable that cannot be read.
        Nothing is assigned then. ValueError: `classifier` does not have exactly a kernel and a
        bias.
    """
    ours = naming.places(encoder, head, classifier)
    shapes = getattr(mapping, "shapes", None) or {n: np.shape(v) for n, v in mapping.items()}
    names = _counted_as(naming.sort(shapes, momentum), ours)
    problems, skipped = list(names.problems), dict(names.skipped)
    skipped |= dict.fromkeys(getattr(mapping, "nameless", ()), "has no name")
    parts = {part for part, _ in ours}
    assignments = []
    for place, name in names.names.items():
        part, variable = place[0], ours.pop(place, None)
        if part not in parts:
            skipped[name] = f"no {part} was requested"
        elif variable is None:
            problems.append(f"{name}: the {part} has no such variable")
        elif tuple(variable.shape) != shapes[name]:
            problems.append(
                f"{name}: shape {shapes[name]} does not fit {variable.path} of shape "
                f"{tuple(variable.shape)}"
            )
        else:
            assignments.append((variable, name))
    for place, variable in ours.items():
        problems.append(f"{variable.path}: nothing fills it ({naming.describe(place)})")
    if problems:
        raise OfficialError(
            f"`mapping` does not fit the models, {len(problems)} problem(s):\n  "
            + "\n  ".join(problems)
        )
    for _, name in assignments:
        mapping[name]  # finds damaged variables before the first assignment
    for variable, name in assignments:
        variable.assign(mapping[name])
    return Report({name: variable.path for variable, name in assignments}, skipped)


def _counted_as(names: naming.Sorted, ours: Mapping[naming.Place, object]) -> naming.Sorted:
    """Returns `names` with the encoder's counters unchanged or shifted to 0, whichever fits `ours`.

    If one end differs, a variable is missing or superfluous; if both differ, all are shifted.
    """
    for kind in ("conv2d", "batch_normalization"):
        shifted = names.shifted(kind)
        names = max(names, shifted, key=lambda counted: len(counted.names.keys() & ours.keys()))
    return names


def names_by_path(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, str]:
    """Returns the reference's variable names by the variables' paths in our networks.

    Args:
        shapes: By name, as `Variables.shapes`.

    Raises:
        OfficialError: the variables match none of our networks, or some are superfluous or missing.
    """
    # Paths do not depend on the width, and a narrow network is built quickly.
    found = infer(shapes)
    classes = min(found.num_classes, 2)
    paths = _paths(
        dataclasses.replace(found, width_multiplier=1 / 32, proj_out_dim=2, num_classes=classes)
    )
    names = _counted_as(naming.sort(shapes), paths)
    theirs = names.names
    problems = names.problems + [
        f"{theirs[place]}: none of our networks has it" for place in theirs.keys() - paths.keys()
    ]
    problems += [f"{naming.describe(place)}: missing" for place in paths.keys() - theirs.keys()]
    if problems:
        raise OfficialError(
            f"The variables fit none of our networks, {len(problems)} problem(s):\n  "
            + "\n  ".join(sorted(problems))
        )
    return {paths[place]: name for place, name in theirs.items()}


@functools.cache
def _paths(architecture: Architecture) -> dict[naming.Place, str]:
    """Returns the paths of our variables by place."""
    return {place: v.path for place, v in naming.places(**architecture.build()).items()}
