"""Which stages a run has, and the options of each: known before any work, without TensorFlow."""

from __future__ import annotations

import dataclasses
from typing import Any

from simclrv2_tf.config import MULTI_STAGE, Config, ConfigError, stage_key

DEFAULT_FRACTIONS = (0.01, 0.1)
METHODS = ("supervised", "fine_tuned", "self_distilled", "small_student")

# The published settings (facts of arXiv 2006.10029 and its released code) of the stages after
# pretraining, where nothing is given for them. What is not named here is as in pretraining.
_LINEAR = {
    "train_mode": "linear_eval",
    "optimizer": "momentum",
    "learning_rate": 0.1,
    "learning_rate_scaling": "linear",
    "warmup_epochs": 0.0,
    "weight_decay": 1e-6,
    "train_epochs": 90,
}
_DEFAULTS = {
    "pretrain": {"train_mode": "pretrain"},
    "linear_eval": _LINEAR,
    "supervised": {
        **_LINEAR,
        "train_mode": "supervised",
        "weight_decay": 1e-4,
        "ft_proj_selector": 0,
    },
    "fine_tuned": {
        "train_mode": "finetune",
        "optimizer": "lars",
        "learning_rate_scaling": "sqrt",
        "warmup_epochs": 0.0,
        "weight_decay": 0.0,
        "zero_init_logits_layer": True,
    },
    # The student has no projection head; the schedule is that of pretraining.
    "self_distilled": {"train_mode": "distill", "train_epochs": 400, "ft_proj_selector": 0},
    "small_student": {
        "train_mode": "distill",
        "train_epochs": 400,
        "ft_proj_selector": 0,
        "temperature": 1.0,
    },
}


@dataclasses.dataclass(frozen=True)
class PlannedStage:
    """One stage of a run.

    Attributes:
        name: Its sub-directory and the key of its options: one of `config.STAGES`, or
            "linear_eval_random_init".
        config: Its options. `model_dir` is its folder.
        fraction: The label fraction it belongs to; None where it is of no or of all labels.
        caps_batch: Whether its batch may shrink to the number of labels: nobody chose it for this
            stage.
    """

    name: str
    config: Config
    fraction: float | None = None
    caps_batch: bool = False


def stages(config: Config) -> list[PlannedStage]:
    """The stages that `config` asks for, in the order in which they run.

    With `labels_per_class`, the fraction that they make is only known with the data: it stands as
    0 here.

    Raises:
        ConfigError: the options of a stage do not fit together, each error with the stage's name.
    """
    if config.train_mode not in MULTI_STAGE:
        return [PlannedStage(config.train_mode, config)]
    errors: list[str] = []
    pretrain = _stage(config, "pretrain", errors, checkpoint=config.checkpoint)
    planned = [pretrain]
    weights = _pretrained(config, pretrain)
    if config.train_mode == "pretrain_linear_eval" or config.linear_evaluation:
        linear = _stage(config, "linear_eval", errors, checkpoint=weights)
        random_init = dataclasses.replace(
            linear.config,
            model_dir=f"{config.model_dir}/linear_eval_random_init",
            checkpoint=None,
        )
        planned += [linear, PlannedStage("linear_eval_random_init", random_init)]
    if config.train_mode == "semi_supervised":
        fractions = (0.0,) if config.labels_per_class else config.label_fraction
        for fraction in fractions or DEFAULT_FRACTIONS:
            planned += _few_label_stages(config, fraction, weights, errors)
    if errors:
        raise ConfigError(dict.fromkeys(errors))
    return planned


def _pretrained(config: Config, pretrain: PlannedStage) -> str:
    """What later stages start from: the checkpoint, or the momentum network that was exported."""
    folder = f"{config.model_dir}/pretrain"
    return f"{folder}/encoder.keras" if pretrain.config.eval_ema else folder


def _few_label_stages(
    config: Config, fraction: float, weights: str, errors: list[str]
) -> list[PlannedStage]:
    folder = (
        f"label_fraction_{fraction:g}"
        if fraction
        else f"labels_per_class_{config.labels_per_class}"
    )
    labels = {
        "label_fraction": (fraction,) if fraction else None,
        "labels_per_class": config.labels_per_class,
    }

    def stage(name, **fixed):
        return _stage(config, name, errors, fraction, folder, **labels, **fixed)

    root = f"{config.model_dir}/{folder}"
    return [
        stage("supervised"),
        stage("fine_tuned", checkpoint=weights),
        stage("self_distilled", teacher=f"{root}/fine_tuned"),
        # The teacher of the small student is the self-distilled network (section 2.2).
        stage("small_student", teacher=f"{root}/self_distilled"),
    ]


def _stage(
    config: Config,
    name: str,
    errors: list[str],
    fraction: float | None = None,
    folder: str = "",
    **fixed: Any,
) -> PlannedStage:
    """One stage: what is given for it, else its published settings, else the run's options."""
    given = dict(config.stage_options.get(name, {}))
    if fraction:
        given |= config.stage_options.get(stage_key(name, fraction), {})
    defaults = dict(_DEFAULTS[name])
    if name == "fine_tuned":
        # Published: 60 epochs at 1%, 30 at 10%; wider or selective-kernel networks less rate.
        large = config.width_multiplier > 1 or config.sk_ratio > 0
        defaults |= {
            "learning_rate": 0.002 if large else 0.005,
            "train_epochs": 60 if fraction and fraction < 0.05 else 30,
            "ft_proj_selector": min(1, config.num_head_layers),
        }
    if name == "small_student":
        defaults["width_multiplier"] = max(config.width_multiplier / 2, 1 / 32)
    options = {
        "checkpoint": None,
        "label_fraction": None,
        "labels_per_class": 0,
        "stage_options": {},
        **defaults,
        **given,
        **fixed,
        "model_dir": "/".join(filter(None, [config.model_dir, folder, name])),
    }
    try:
        stage_config = dataclasses.replace(config, **options)
    except ConfigError as error:
        errors += [f"{name}: {line}" for line in error.errors]
        stage_config = config
    caps_batch = name in ("supervised", "fine_tuned") and "train_batch_size" not in given
    return PlannedStage(name, stage_config, fraction, caps_batch)
