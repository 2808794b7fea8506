"""Our networks filled with the reference's variables, each used exactly once or named."""

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
    """Fills our models from a file of the reference's, all of them or none.

    Args:
        path: As for `Variables`: a TF1 checkpoint or a TF2 SavedModel of the released code
            (github.com/google-research/simclr).
        encoder, head, classifier, momentum: As for `load_weights`, like what is returned.

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
    """Fills our models with the reference's variables, all of them or none.

    Args:
        mapping: Reference variable name, of its TF1 code (`base_model/conv2d_3/kernel`) or its
            TF2 code (`resnet/block_group1/.../conv2d_3/kernel`, with or without `:0`), to its
            value; or `Variables`, read one at a time. Optimizer slots, the global step and the
            variables of a part that is not given are skipped.
        encoder: A model of `resnet.resnet`.
        head: A model of `heads.projection_head`.
        classifier: Any Keras model or layer whose weights are a kernel and a bias.
        momentum: Whether to take the momentum network, `ema_model/...`, in place of the network.

    Returns:
        What was used for what, and what was not.

    Raises:
        OfficialError: with the names of all variables of `mapping` that are not known, have no
            place or another shape, and of all of ours that nothing fills; or with the name of one
            that cannot be read. Nothing is assigned then.
        ValueError: `classifier` has not exactly a kernel and a bias.
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
            skipped[name] = f"no {part} was asked for"
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
        mapping[name]  # a damaged one is found before the first is assigned
    for variable, name in assignments:
        variable.assign(mapping[name])
    return Report({name: variable.path for variable, name in assignments}, skipped)


def _counted_as(names: naming.Sorted, ours: Mapping[naming.Place, object]) -> naming.Sorted:
    """`names` with the encoder's counters from where they fit `ours`, as they are or from 0.

    Where one end is off, a variable is missing or superfluous; where both are, all are shifted.
    """
    for kind in ("conv2d", "batch_normalization"):
        shifted = names.shifted(kind)
        names = max(names, shifted, key=lambda counted: len(counted.names.keys() & ours.keys()))
    return names


def names_by_path(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, str]:
    """The reference's variable names by the paths that these variables have in our networks.

    Args:
        shapes: By name, as `Variables.shapes`.

    Raises:
        OfficialError: they are of no network of ours, or there is one too many or too few.
    """
    # Paths do not depend on the width, and a narrow network is quick to build.
    found = infer(shapes)
    classes = min(found.num_classes, 2)
    paths = _paths(
        dataclasses.replace(found, width_multiplier=1 / 32, proj_out_dim=2, num_classes=classes)
    )
    names = _counted_as(naming.sort(shapes), paths)
    theirs = names.names
    problems = names.problems + [
        f"{theirs[place]}: no network of ours has it" for place in theirs.keys() - paths.keys()
    ]
    problems += [f"{naming.describe(place)}: missing" for place in paths.keys() - theirs.keys()]
    if problems:
        raise OfficialError(
            f"The variables fit no network of ours, {len(problems)} problem(s):\n  "
            + "\n  ".join(sorted(problems))
        )
    return {paths[place]: name for place, name in theirs.items()}


@functools.cache
def _paths(architecture: Architecture) -> dict[naming.Place, str]:
    """The paths of our variables by place."""
    return {place: v.path for place, v in naming.places(**architecture.build()).items()}
