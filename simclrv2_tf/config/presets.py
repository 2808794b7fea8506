"""`--preset`: settings for the short commands, by the number and the size of the images.

The table is data; docs/settings.md shows it. `paper` is arXiv 2006.10029, section 3.1.
`standard` and `quick` are this project's, because the published settings are for ImageNet. None of
their rows was tuned. Flags on the command line win.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from simclrv2_tf.config import starting
from simclrv2_tf.datasets.survey import Survey
from simclrv2_tf.experiments import registry
from simclrv2_tf.network_options import NetworksOptions
from simclrv2_tf.options import ConfigError, of

# Stages that share the published settings of a stage of `semi_supervised`.
_PUBLISHED = {"finetune": "fine_tuned", "linear_eval": "linear_eval", "supervised": "supervised"}


@dataclasses.dataclass(frozen=True)
class Row:
    """Settings up to a number of training images.

    Attributes:
        most: The largest number of images.
        image_size: In pixels; smaller if the images are smaller.
        resnet_depth, width_multiplier: The network of a stage that starts from random weights.
        optimizer: "lars" stands for the published optimizer of the stage.
        batch: Images per step, at most the number of images. By train mode, "" for the others.
        epochs: By train mode; a missing mode has the published number.
        steps: Instead of epochs; 0 to use `epochs`.
        why: The reason for the settings, for the log.
        about: The options that `why` explains.
    """

    most: float
    image_size: int
    resnet_depth: int
    width_multiplier: float
    optimizer: str
    batch: Mapping[str, int]
    epochs: Mapping[str, int]
    why: str
    about: tuple[str, ...] = ("resnet_depth", "width_multiplier", "image_size")
    steps: int = 0


def _by_stage(pretrain: int, distill: int, supervised: int, finetune: int, linear_eval: int = 90):
    return {
        "pretrain": pretrain,
        "distill": distill,
        "supervised": supervised,
        "finetune": finetune,
        "linear_eval": linear_eval,
    }


# Up to a few thousand images: LARS needs more steps than these give (benchmarks/demo).
_FEW = ("LARS needs more steps than so few images give", ("optimizer",))
_MINUTES = (
    "minutes on a laptop",
    (
        "resnet_depth", "width_multiplier", "image_size",
        "train_batch_size", "train_epochs", "train_steps",
    ),
)  # fmt: skip

PRESETS: dict[str, tuple[Row, ...]] = {
    "quick": (
        Row(500, 64, 18, 0.5, "adam", {"": 32}, _by_stage(200, 100, 100, 50, 50), *_MINUTES),
        Row(5_000, 64, 18, 0.5, "adam", {"": 64}, _by_stage(40, 20, 30, 20, 20), *_MINUTES),
        Row(50_000, 64, 18, 0.5, "adam", {"": 128}, _by_stage(5, 5, 5, 3, 3), *_MINUTES),
        Row(math.inf, 64, 18, 0.5, "adam", {"": 128}, _by_stage(1, 1, 1, 1, 1), *_MINUTES, 2_000),
    ),
    "standard": (
        Row(500, 96, 18, 1.0, "adam", {"": 64}, _by_stage(400, 200, 200, 100), *_FEW),
        Row(5_000, 128, 18, 1.0, "adam", {"": 128}, _by_stage(400, 200, 100, 60), *_FEW),
        # Released advice for batches below the paper's: 0.075 * sqrt(batch), temperature 0.2.
        Row(
            100_000, 160, 50, 1.0, "lars", {"": 256}, _by_stage(300, 200, 90, 30),
            "the paper's smallest network, below its 224 px for speed",
        ),
        # The released ImageNet command has 100 epochs.
        Row(
            math.inf, 224, 50, 1.0, "lars", {"": 512}, _by_stage(100, 100, 90, 30),
            "the paper's smallest network and size",
        ),
    ),
    "paper": (
        Row(
            math.inf, 224, 50, 1.0, "lars", {"finetune": 1024, "": 4096},
            {"pretrain": 800, "distill": 400}, "arXiv 2006.10029, section 3.1",
        ),
    ),
}  # fmt: skip

# Peak learning rates by optimizer. Adam's are the demo's 0.002 at a batch of 256, scaled by the
# square root as arXiv 2205.10287 derives it.
_RATES: dict[str, dict[str, Any]] = {
    "adam": {
        "learning_rate": 0.000125, "learning_rate_scaling": "sqrt", "weight_decay": 1e-6,
    },
    "lars": {"learning_rate": 0.075, "learning_rate_scaling": "sqrt", "weight_decay": 1e-4},
    "momentum": {
        "learning_rate": 0.1, "learning_rate_scaling": "linear", "weight_decay": 1e-4,
    },
}  # fmt: skip
_PAPER_RATE = {"learning_rate": 0.1}
# Share of the epochs, as in the paper.
_WARM_UP = 0.05
# Published for CIFAR-10: crops of small images lose too much in blur and strong jitter.
_SMALL_IMAGES = {"use_blur": False, "color_jitter_strength": 0.5}
_LARGEST_SMALL = 32
# Assumed for a data set of unknown size.
_ASSUMED = 50_000


def choose(
    preset: str,
    train_mode: str,
    images: Survey,
    network: Mapping[str, Any] | None,
    given: Mapping[str, Any],
) -> tuple[dict[str, Any], list[str]]:
    """Returns the preset's values for options that are not given, and lines that explain them.

    Args:
        preset: One of `PRESETS`.
        train_mode: One stage.
        images: The images that the stage trains on.
        network: Options of the network if weights or a teacher decide it; None: the preset decides.
        given: Values by option, which win.

    Raises:
        ConfigError: there is no such preset.
    """
    if preset not in PRESETS:
        raise ConfigError([f"`preset` must be one of {', '.join(PRESETS)}. Received: {preset=}"])
    count = _labelled(images, given) or _ASSUMED
    row = next(row for row in PRESETS[preset] if count <= row.most)
    chosen = _network(row, images, preset) if network is None else {}
    own = {**(network or {}), **chosen, **given}
    chosen |= _schedule(preset, row, train_mode, own, count)
    if train_mode == "pretrain":
        chosen["temperature"] = 0.1 if preset == "paper" else 0.2
        if own.get("image_size", row.image_size) <= _LARGEST_SMALL:
            chosen |= _SMALL_IMAGES
    picked = {name: value for name, value in chosen.items() if name not in given}
    values = {**(network or {}), **chosen, **given}
    own_choice = _network(row, images, preset) | _schedule(
        preset, row, train_mode, network or {}, count
    )
    return picked, _reasons(preset, row, images, count, values, own_choice)


def _labelled(images: Survey, given: Mapping[str, Any]) -> int | None:
    """Returns the number of images whose labels may be used, or of all without a subset."""
    if images.count is None:
        return None
    if given.get("eval_epochs"):  # a tenth is held out, see `experiments.validation`
        images = dataclasses.replace(images, count=max(images.count * 4 // 5, 1))
    fractions = given.get("label_fraction") or ()
    if isinstance(fractions, tuple) and len(fractions) == 1 and isinstance(fractions[0], float):
        return max(int(images.count * fractions[0]), 1)
    per_class = given.get("labels_per_class") or 0
    if isinstance(per_class, int) and per_class and images.classes:
        return min(per_class * images.classes, images.count)
    return images.count


def _network(row: Row, images: Survey, preset: str) -> dict[str, Any]:
    size = row.image_size
    if images.side and preset != "paper":
        size = min(size, max(32 * math.ceil(images.side / 32), 32))
    return {
        "image_size": size,
        "resnet_depth": row.resnet_depth,
        "width_multiplier": row.width_multiplier,
    }


def _schedule(
    preset: str, row: Row, train_mode: str, own: Mapping[str, Any], count: int
) -> dict[str, Any]:
    """Batch, length, optimizer and learning rate of a stage on `count` images."""
    batch = min(row.batch.get(train_mode, row.batch[""]), 1 << count.bit_length() - 1)
    if train_mode in _PUBLISHED:
        values = _published(train_mode, own)
    else:
        values = {"optimizer": "lars", **_RATES["lars"], "ft_proj_selector": 0}
        values |= _PAPER_RATE if preset == "paper" else {}
    values |= {"train_batch_size": batch}
    values |= {"train_epochs": row.epochs[train_mode]} if train_mode in row.epochs else {}
    if row.steps and "train_epochs" not in own:
        values["train_steps"] = row.steps
    # Neither pretrained weights nor a linear classifier need warmup.
    if train_mode not in ("finetune", "linear_eval"):
        share = _epochs_trained({**values, **own}, count) * _WARM_UP
        values["warmup_epochs"] = round(share, 3)
    optimizer = own.get("optimizer", "adam" if row.optimizer == "adam" else values["optimizer"])
    if train_mode != "linear_eval" and optimizer != values["optimizer"]:
        decay = {"weight_decay": values["weight_decay"]} if train_mode == "finetune" else {}
        values |= {"optimizer": optimizer, **_RATES.get(optimizer, {}), **decay}
    return values


def _epochs_trained(values: Mapping[str, Any], count: int) -> float:
    """Returns how often a stage sees each image; 0 for a bad value, which is reported elsewhere."""
    steps, batch, epochs = (
        values.get(name, 0) for name in ("train_steps", "train_batch_size", "train_epochs")
    )
    if not all(isinstance(value, int) for value in (steps, batch, epochs)):
        return 0.0
    return steps * batch / count if steps else epochs


def _published(train_mode: str, own: Mapping[str, Any]) -> dict[str, Any]:
    """The published settings of a labelled stage on the network with the options `own`."""
    fractions = own.get("label_fraction")
    fraction = fractions[0] if isinstance(fractions, tuple) and len(fractions) == 1 else None
    try:
        network = NetworksOptions(**{k: own[k] for k in of(NetworksOptions) if k in own})
    except ConfigError:  # reported when the value is checked
        network = NetworksOptions()
    _, settings = registry.published(_PUBLISHED[train_mode])
    return dict(settings(network, fraction))


def _reasons(
    preset: str,
    row: Row,
    images: Survey,
    count: int,
    values: Mapping[str, Any],
    own_choice: Mapping[str, Any],
) -> list[str]:
    """Describes the settings; gives the preset's reason only for the preset's `own_choice`."""
    known = "training images"
    if not images.count:
        known += " (their number is not known)"
    elif images.unread:
        known += " (counted by file names)"
    side = f", shorter sides of about {images.side} px" if images.side else ""
    length = f"{values['train_epochs']} epochs"
    if values.get("train_steps"):
        length = f"{values['train_steps']:,} steps"
    others = [name for name in row.about if values.get(name) != own_choice.get(name)]
    if others:
        why = f"flags or weights set {', '.join(others)}"
    elif "optimizer" in row.about and values["optimizer"] != row.optimizer:
        why = "the optimizer is published for this stage"
    else:
        why = row.why
    return [
        f"Preset {preset}, for {count:,} {known}{side} (--preset={'|'.join(PRESETS)}; flags win):",
        f"  {starting.in_words(values)}; {values['optimizer']}, batch "
        f"{values['train_batch_size']}, {length}: {why}.",
    ]
