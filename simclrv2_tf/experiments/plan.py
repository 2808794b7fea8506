"""The stages of a run and their options, known before any work and without TensorFlow."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from etils import epath

from simclrv2_tf.options import ConfigError

if TYPE_CHECKING:
    from simclrv2_tf.config import Config

DEFAULT_FRACTIONS = (0.01, 0.1)
METHODS = ("supervised", "fine_tuned", "self_distilled", "small_student")
ORDER = ("pretrain", "linear_eval", *METHODS)
RANDOM_INIT = "linear_eval_random_init"
# The train modes of `experiments.semi_supervised`.
WITH_UNLABELLED = ("pseudo_label", "mean_teacher", "fixmatch")

# The values of `train_mode` that are runs of several stages, in sub-directories of `model_dir`.
RUNS = {
    "pretrain_linear_eval": "pretrain, then linear evaluation of the pretrained encoder and of the "
    "same encoder at random initialization.",
    "semi_supervised": "pretrain, then for each `label_fraction` the supervised baseline, "
    "fine-tuning, self-distillation and distillation into a small student. The last two train "
    "modes write to sub-directories of `model_dir`.",
}


@dataclasses.dataclass(frozen=True)
class PlannedStage:
    """One stage of a run.

    Attributes:
        name: Sub-directory and key of its options: one of `ORDER`, or `RANDOM_INIT`.
        config: Its options. `model_dir` is its folder.
        fraction: Its label fraction; None if it uses no or all labels.
        caps_batch: Whether its batch may shrink to the number of labels, because it was not given
            for this stage.
    """

    name: str
    config: Config
    fraction: float | None = None
    caps_batch: bool = False


def stage_key(stage: str, fraction: float) -> str:
    """Returns the key of `Config.stage_options` for a stage at one label fraction."""
    return f"{stage}@{fraction:g}"


def learns_from_labels(train_mode: str, distill_alpha: float) -> bool:
    """Whether a stage, or a run of several, trains on labelled images."""
    return train_mode != "pretrain" and (train_mode != "distill" or distill_alpha < 1)


def can_stop_early(train_mode: str, eval_epochs: float, validation_split: str | None) -> bool:
    """Whether a stage, or a run of several, validates with labels during training."""
    if train_mode == "pretrain" or not eval_epochs:
        return False
    return train_mode != "distill" or validation_split is not None


def plan_stages(config: Config) -> list[PlannedStage]:
    """Returns the stages that `config` describes, in the order in which they run.

    With `labels_per_class`, the fraction is only known from the data: it is 0 here.

    Raises:
        ConfigError: the options of a stage do not fit together, each error with the stage's name;
            or options of validation are given, but no stage is validated.
    """
    errors: list[str] = []
    if config.train_mode in RUNS:
        planned = _stages_of_run(config, errors)
    else:
        planned = [PlannedStage(config.train_mode, config)]
    if not errors and (found := _without_validation(config, [stage.config for stage in planned])):
        # A run of an earlier version with such options without effect is still resumed.
        begun = (epath.Path(config.model_dir) / "config.json").exists()
        errors += [] if begun else found
    if errors:
        raise ConfigError(dict.fromkeys(errors))
    return planned


def _without_validation(config: Config, stages: Sequence[Config]) -> list[str]:
    """Returns the errors of options of validation that no stage uses."""
    several = config.train_mode in RUNS
    how = "give --eval_epochs=1" + " (or --STAGE.eval_epochs=1 for one stage)" * several
    errors = []
    if config.validation_split and not any(stage.eval_epochs for stage in stages):
        errors.append(
            "`validation_split` must be left out if no stage is validated during training: "
            f"{how}, or leave it out. Received: validation_split={config.validation_split!r}, "
            f"eval_epochs=0{' in every stage' * several}"
        )
    # For a single stage, `Config` itself checks `patience`.
    if (
        several
        and config.patience
        and not any(
            can_stop_early(stage.train_mode, stage.eval_epochs, stage.validation_split)
            for stage in stages
        )
    ):
        errors.append(
            f"`patience` must be 0 if no accuracy is measured while a stage trains: {how}, in "
            "distillation --validation_split too, or leave it out. "
            f"Received: patience={config.patience}, train_mode={config.train_mode!r}, "
            f"eval_epochs={config.eval_epochs:g}, validation_split={config.validation_split!r}"
        )
    return errors


def _stages_of_run(config: Config, errors: list[str]) -> list[PlannedStage]:
    """Returns the stages of a run of several; appends their problems to `errors`."""
    pretrain = _stage(config, "pretrain", errors, checkpoint=config.checkpoint)
    planned = [pretrain]
    weights = _pretrained(config, pretrain)
    if config.train_mode == "pretrain_linear_eval" or config.linear_evaluation:
        linear = _stage(config, "linear_eval", errors, checkpoint=weights)
        random_init = dataclasses.replace(
            linear.config, model_dir=f"{config.model_dir}/{RANDOM_INIT}", checkpoint=None
        )
        planned += [linear, PlannedStage(RANDOM_INIT, random_init)]
    if config.train_mode == "semi_supervised":
        fractions = (0.0,) if config.labels_per_class else config.label_fraction
        for fraction in fractions or DEFAULT_FRACTIONS:
            planned += _few_label_stages(config, fraction, weights, errors)
    return planned


def _pretrained(config: Config, pretrain: PlannedStage) -> str:
    """Returns what later stages start from: the checkpoint, or the exported momentum network."""
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
        stage(
            "self_distilled",
            teacher=f"{root}/fine_tuned",
            checkpoint=weights if config.pretrained_student else None,
        ),
        # The self-distilled network is the small student's teacher (section 2.2).
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
    """Makes a stage from its given options, else its published settings, else the run's options."""
    from simclrv2_tf.experiments import registry  # checks stages against the runs above

    train_mode, published = registry.published(name)
    given = dict(config.stage_options.get(name, {}))
    if fraction:
        given |= config.stage_options.get(stage_key(name, fraction), {})
    options = {
        "checkpoint": None,
        # Writing a SavedModel takes longer than training a small stage.
        "export_formats": config.export_formats or (None if name == "pretrain" else ("keras",)),
        "label_fraction": None,
        "labels_per_class": 0,
        "stage_options": {},
        "train_mode": train_mode,
        **published(config, fraction),
        **given,
        **fixed,
        "model_dir": "/".join(filter(None, [config.model_dir, folder, name])),
    }
    options = {**_without_effect(config, options), **options}
    try:
        stage_config = dataclasses.replace(config, **options)
    except ConfigError as error:
        errors += [f"{name}: {line}" for line in error.errors]
        stage_config = config
    caps_batch = name in ("supervised", "fine_tuned") and "train_batch_size" not in given
    return PlannedStage(name, stage_config, fraction, caps_batch)


def _without_effect(config: Config, options: Mapping[str, Any]) -> dict[str, Any]:
    """Resets options of the whole run that have no effect on a stage.

    If they are given for that stage, they are an error.
    """
    train_mode = options["train_mode"]
    alpha = options.get("distill_alpha", config.distill_alpha)
    eval_epochs = options.get("eval_epochs", config.eval_epochs)
    found: dict[str, Any] = {}
    if not learns_from_labels(train_mode, alpha):
        found["balanced_sampling"] = False
    if not can_stop_early(train_mode, eval_epochs, config.validation_split):
        found["patience"] = 0
    if train_mode != "pretrain":
        found["embedding_projector"] = False
    return found
