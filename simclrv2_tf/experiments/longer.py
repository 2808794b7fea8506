"""Trains a finished run for longer: the options of a new run from its weights.

The learning rate falls to 0 along a cosine over the whole length of a run. Further steps after a
finished run would have a rate of 0, and a cosine over more epochs would have changed the earlier
steps. A new run has its own warm-up and cosine.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simclrv2_tf.config import Config

# Stages whose trained parts are not loaded: a classifier, or the whole supervised baseline.
_FROM_THE_BEGINNING = ("linear_eval", "supervised")


def changes(earlier: Config, config: Config, differing: Collection[str]) -> dict[str, Any]:
    """Returns the options of a longer run, if `config` differs only in the length.

    Args:
        earlier: The options of the finished run in `config.model_dir`.
        config: The current options.
        differing: The names of the options that differ.

    Returns:
        Options that replace `config`'s in the new run: another `model_dir` and, if it starts from
        the weights of `earlier`, `checkpoint` and the remaining length. Empty if something else
        differs, or the run would not be longer.
    """
    length = _length(config)
    done, wanted = getattr(earlier, length), getattr(config, length)
    # Presets choose the warm-up from the length.
    if not {*differing} <= {length, "warmup_epochs"} or not 0 < done < wanted:
        return {}
    folder = {"model_dir": f"{config.model_dir.rstrip('/')}-longer"}
    if config.train_mode in _FROM_THE_BEGINNING:
        return folder
    return {length: wanted - done, "checkpoint": config.model_dir, **folder}


def reason(earlier: Config, config: Config) -> str:
    """Explains why `earlier` is not continued, and the new run with `changes`."""
    length = _length(config)
    unit = length.removeprefix("train_")
    done, wanted = getattr(earlier, length), getattr(config, length)
    how = (
        f"start a run of the other {wanted - done:,} {unit} from its weights, with its own warm-up"
    )
    how += " and cosine"
    if config.train_mode in _FROM_THE_BEGINNING:
        how = f"start a run of {wanted:,} {unit} in another folder"
    elif config.train_mode == "finetune":
        how += "; its classifier starts from initial weights"
    return (
        f"`{length}` cannot change in a finished run, whose learning rate has followed a cosine "
        f"over its {done:,} {unit}. Received: {length}={wanted}, for {config.model_dir}. That "
        f"folder was not changed. To train for longer, {how}:"
    )


def _length(config: Config) -> str:
    return "train_steps" if config.train_steps else "train_epochs"
