"""The network of the weights that a run starts from: its options need not be given again."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from simclrv2_tf import channels as channels_lib
from simclrv2_tf import run_options
from simclrv2_tf.experiments import plan
from simclrv2_tf.network_options import HeadOptions, NetworkOptions, stem_of
from simclrv2_tf.options import ConfigError, Option, of

# The layer that feeds a classifier is no part of the network: stages differ in it.
_HEAD = tuple(name for name in of(HeadOptions) if name != "ft_proj_selector")
TAKEN = (*of(NetworkOptions), *_HEAD, "image_size", "channels")
_CLASSIFIES = ("finetune", "linear_eval", *plan.WITH_UNLABELLED)
# Those that no weight depends on: another value is a choice, such as a larger image.
_FREE = {"batch_norm_decay", "global_bn", "image_size"}


def network_of(path: str, name: str = "checkpoint") -> tuple[str, dict[str, Any]]:
    """The file that describes the network at `path`, and its options.

    The options are those of `TAKEN` that the file has: `config.json` of a run, of several stages
    that of its pretraining, or `import.json` of an import. Nothing is found, and the file is "", at
    other weights, and at remote ones, whose files take TensorFlow to read.

    Args:
        path: A run's folder, weights in it, or the folder of an import.
        name: Of the option that leads there, for errors.

    Raises:
        ConfigError: the file cannot be read.
    """
    if "://" in path:
        return "", {}
    try:
        file, held = run_options.of_network(os.path.expanduser(path))
    except run_options.OptionsError as error:
        raise ConfigError(
            [
                f"`{name}` must lead to a run whose options can be read. {error} Move that file "
                f"away, and give the flags of the network. Received: {name}={path}"
            ]
        ) from None
    if held:
        held = {"channels": channels_lib.RGB, **held}  # of earlier versions, and of imports
    return file, {option: held[option] for option in TAKEN if option in held}


def complete(
    given: Mapping[str, Any], known: Mapping[str, Option], errors: list[str], notes: list[str]
) -> dict[str, Any]:
    """`given`, with the options of the network that `checkpoint` leads to where they are missing.

    Args:
        given: Values by option.
        known: Every option, by name.
        errors: What is wrong is appended: a file that cannot be read, or options that are given
            and differ from those of the weights.
        notes: A line that says what was taken is appended.
    """
    checkpoint = given.get("checkpoint")
    if not checkpoint:
        return dict(given)
    try:
        file, held = network_of(str(checkpoint))
    except ConfigError as error:
        errors += error.errors
        return dict(given)
    differing = [
        f"{name}={given[name]} ({held[name]} there)"
        for name in held
        if name in given
        and name in _loaded(given)
        and _differs(known[name], given[name], held[name])
    ]
    if differing:
        errors.append(
            f"`checkpoint` {checkpoint} is of another network, by {file}. Leave these flags out, "
            f"or give weights of the network that you want. Received: {', '.join(differing)}"
        )
    held = {**held, **_stem(held, given)}
    taken = {name: value for name, value in held.items() if name not in given}
    if taken:
        notes.append(f"Network as in {file}: {in_words({**held, **given})}.")
    return {**given, **taken}


def _loaded(given: Mapping[str, Any]) -> set[str]:
    """The options that decide the shape of the weights that the run loads."""
    # A classifier on the encoder's output takes no weight of the head.
    without_head = given.get("train_mode") in _CLASSIFIES and given.get("ft_proj_selector", 0) == 0
    return set(TAKEN) - _FREE - (set(_HEAD) if without_head else set())


def _differs(option: Option, given: Any, held: Any) -> bool:
    try:
        return option.check(given) != held
    except ValueError:  # reported as such
        return False


def _stem(held: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, str]:
    """The stem that `auto` meant for the weights, where images of another size would change it."""
    size, others = held.get("image_size"), given.get("image_size")
    if held.get("stem") != "auto" or size is None or others in (None, size):
        return {}
    return {"stem": stem_of("auto", size)}


def in_words(values: Mapping[str, Any]) -> str:
    """A network in words, by its options; those that are missing have their defaults."""
    try:
        own = {name: values[name] for name in of(NetworkOptions) if name in values}
        described = NetworkOptions(**own).encoder_description
    except ConfigError:  # the value is reported where it is checked
        described = "ResNet"
    size, channels = values.get("image_size"), values.get("channels", channels_lib.RGB)
    if channels != channels_lib.RGB:
        described += f", {channels_lib.in_words(channels)}"
    return f"{described}, {size} px" if size else described
