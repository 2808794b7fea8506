"""Reads the network's options from the weights that a run starts from."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from simclrv2_tf import channels as channels_lib
from simclrv2_tf import run_options
from simclrv2_tf.experiments import plan
from simclrv2_tf.network_options import HeadOptions, NetworkOptions, stem_of
from simclrv2_tf.options import ConfigError, Option, of

# Not the layer that feeds a classifier: it differs between stages.
_HEAD = tuple(name for name in of(HeadOptions) if name != "ft_proj_selector")
TAKEN = (*of(NetworkOptions), *_HEAD, "image_size", "channels")
_CLASSIFIES = ("finetune", "linear_eval", *plan.WITH_UNLABELLED)
# No weight depends on these: another value is a choice, such as a larger image.
_FREE = {"batch_norm_decay", "global_bn", "image_size"}


def network_of(path: str, name: str = "checkpoint") -> tuple[str, dict[str, Any]]:
    """Returns the file that describes the network at `path`, and the network's options.

    The options are those in `TAKEN` that the file has: `config.json` of a run (with several stages,
    of its pretraining), or `import.json` of an import. Other weights, and remote files, which only
    TensorFlow can read, give "" and no options.

    Args:
        path: A run's folder, weights inside it, or the folder of an import.
        name: The option with this path, for errors.

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
                f"`{name}` must name a run whose options can be read. {error} Move that file away, "
                f"and give the flags of the network. Received: {name}={path}"
            ]
        ) from None
    if held:
        # Earlier versions and imports have no `channels`.
        held = {"channels": channels_lib.RGB, **held}
    return file, {option: held[option] for option in TAKEN if option in held}


def complete(
    given: Mapping[str, Any], known: Mapping[str, Option], errors: list[str], notes: list[str]
) -> dict[str, Any]:
    """Returns `given`, with missing options of the network taken from `checkpoint`.

    Args:
        given: Values by option.
        known: Every option, by name.
        errors: Problems are appended: a file that cannot be read, or given options that differ from
            the weights.
        notes: A line that names the values taken is appended.
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
        f"{name}={given[name]} ({held[name]} in the checkpoint)"
        for name in held
        if name in given
        and name in _loaded(given)
        and _differs(known[name], given[name], held[name])
    ]
    if differing:
        errors.append(
            f"`checkpoint` {checkpoint} has another network, as {file} shows. Leave these flags "
            f"out, or give weights of the network that you want. Received: {', '.join(differing)}"
        )
    held = {**held, **_stem(held, given)}
    taken = {name: value for name, value in held.items() if name not in given}
    if taken:
        notes.append(f"Network as in {file}: {in_words({**held, **given})}.")
    return {**given, **taken}


def _loaded(given: Mapping[str, Any]) -> set[str]:
    """The options that decide the shape of the weights that the run loads."""
    # A classifier on the encoder's output uses no weight of the head.
    without_head = given.get("train_mode") in _CLASSIFIES and given.get("ft_proj_selector", 0) == 0
    return set(TAKEN) - _FREE - (set(_HEAD) if without_head else set())


def _differs(option: Option, given: Any, held: Any) -> bool:
    try:
        return option.check(given) != held
    except ValueError:  # reported elsewhere
        return False


def _stem(held: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, str]:
    """Returns the stem that `auto` chose for the weights, if another image size would change it."""
    size, others = held.get("image_size"), given.get("image_size")
    if held.get("stem") != "auto" or size is None or others in (None, size):
        return {}
    return {"stem": stem_of("auto", size)}


def in_words(values: Mapping[str, Any]) -> str:
    """Describes a network by its options; missing options have their defaults."""
    try:
        own = {name: values[name] for name in of(NetworkOptions) if name in values}
        described = NetworkOptions(**own).encoder_description
    except ConfigError:  # reported when the value is checked
        described = "ResNet"
    size, channels = values.get("image_size"), values.get("channels", channels_lib.RGB)
    if channels != channels_lib.RGB:
        described += f", {channels_lib.in_words(channels)}"
    return f"{described}, {size} px" if size else described
