"""Our networks filled with the reference's variables, each used exactly once or named."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import keras
import numpy as np

from simclrv2_tf.official import naming
from simclrv2_tf.official.architecture import infer
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
        encoder, head, classifier, momentum: As for `load_weights`.

    Returns:
        What was used for what, and what was not.

    Raises:
        OfficialError: the file cannot be read, or its variables do not fit the models, each of
            those that do not named. Nothing is assigned then.
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
            shape, and every variable of ours that nothing fills; or one that the file cannot give,
            as it is damaged. Nothing is assigned then.
    """
    places = naming.places(encoder, head, classifier)
    if isinstance(mapping, Variables):
        shapes = mapping.shapes
    else:
        shapes = {name: tuple(np.shape(value)) for name, value in mapping.items()}

    names = _counted_as(naming.sort(shapes, momentum), places)
    problems, skipped = list(names.problems), dict(names.skipped)
    assignments = []
    for (part, key), name in names.names.items():
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
    for part, left in places.items():
        for key, variable in left.items():
            problems.append(
                f"{variable.path}: nothing fills it (the {part}'s {naming.describe(key)})"
            )
    if problems:
        raise OfficialError(
            f"`mapping` does not fit the models, {len(problems)} problem(s):\n  "
            + "\n  ".join(problems)
        )
    if isinstance(mapping, Variables):
        for _, name in assignments:
            mapping[name]  # a damaged one is found before the first is assigned
        skipped |= dict.fromkeys(mapping.nameless, "has no name")
    for variable, name in assignments:
        variable.assign(mapping[name])
    return Report({name: variable.path for variable, name in assignments}, skipped)


def _counted_as(names: naming.Sorted, places) -> naming.Sorted:
    """`names` with the encoder's counters from where they fit `places`, as they are or from 0.

    Where one end is off, a variable is missing or superfluous; where both are, all are shifted.
    """
    ours = {("encoder", key) for key in places["encoder"]}
    for kind in ("conv2d", "batch_normalization"):
        shifted = names.shifted(kind)
        if len(ours & shifted.names.keys()) > len(ours & names.names.keys()):
            names = shifted
    return names


def names_by_path(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, str]:
    """The reference's variable names by the paths that these variables have in our networks.

    Args:
        shapes: By name, as `Variables.shapes`.

    Raises:
        OfficialError: they are of no network of ours, or there is one too many or too few.
    """
    # A path does not depend on the width, and a narrow network is built in a moment.
    found = infer(shapes)
    narrow = dataclasses.replace(
        found, width_multiplier=1 / 32, proj_out_dim=2, num_classes=min(found.num_classes, 2)
    )
    places = naming.places(**narrow.build())
    names = _counted_as(naming.sort(shapes), places)
    ours = {(part, key) for part, variables in places.items() for key in variables}
    problems = names.problems + [
        f"{names.names[place]}: no network of ours has it" for place in names.names.keys() - ours
    ]
    problems += [
        f"the {part}'s {naming.describe(key)}: missing" for part, key in ours - names.names.keys()
    ]
    if problems:
        raise OfficialError(
            f"The variables fit no network of ours, {len(problems)} problem(s):\n  "
            + "\n  ".join(sorted(problems))
        )
    return {places[part][key].path: name for (part, key), name in names.names.items()}
