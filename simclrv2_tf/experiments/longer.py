"""Training a finished run for longer: which options a new run from its weights has.

The learning rate falls to 0 along a cosine over the whole length of a run. More steps at the end of
a finished run would have a rate of 0, and with a cosine over more epochs its first steps would have
been others. A new run has a warm-up and a cosine of its own.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simclrv2_tf.config import Config

# What they train would not be loaded: the classifier, or, of the baseline from random weights, all.
_FROM_THE_BEGINNING = ("linear_eval", "supervised")


def changes(earlier: Config, config: Config, differing: Collection[str]) -> dict[str, Any]:
    """The options of a run that trains for longer, where that is all that `config` asks for.

    Args:
        earlier: The options of the finished run in `config.model_dir`.
        config: The options that are given now.
        differing: The names of those that differ.

    Returns:
        What the new run has in place of `config`'s options: another `model_dir` and, where it
        starts from the weights of `earlier`, `checkpoint` and what remains to be trained. Empty
        where something else differs, or the run would not be longer.
    """
    length = _length(config)
    done, wanted = getattr(earlier, length), getattr(config, length)
    # Presets choose the warm-up by the length.
    if not {*differing} <= {length, "warmup_epochs"} or not 0 < done < wanted:
        return {}
    folder = {"model_dir": f"{config.model_dir.rstrip('/')}-longer"}
    if config.train_mode in _FROM_THE_BEGINNING:
        return folder
    return {length: wanted - done, "checkpoint": config.model_dir, **folder}


def reason(earlier: Config, config: Config) -> str:
    """Why `earlier` is not continued, and what the new run of `changes` is, in words."""
    length = _length(config)
    unit = length.removeprefix("train_")
    done, wanted = getattr(earlier, length), getattr(config, length)
    how = f"begin a run of the other {wanted - done:,} {unit} from its weights, with a warm-up and"
    how += " a cosine of its own"
    if config.train_mode in _FROM_THE_BEGINNING:
        how = f"begin a run of {wanted:,} {unit} in another folder"
    elif config.train_mode == "finetune":
        how += "; its classifier begins anew"
    return (
        f"`{length}` must stay as it is in a finished run, whose learning rate has followed a "
        f"cosine over its {done:,} {unit}. Received: {length}={wanted}, for {config.model_dir}. "
        f"Nothing there was changed. To train for longer, {how}:"
    )


def _length(config: Config) -> str:
    return "train_steps" if config.train_steps else "train_epochs"
