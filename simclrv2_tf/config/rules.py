"""Rules on combinations of options. A rule is checked if each of its values is valid."""

from __future__ import annotations

import re
from collections.abc import Callable, Set
from typing import TYPE_CHECKING

from simclrv2_tf import objectives
from simclrv2_tf.augment.color import GRAYSCALE_PROBABILITY
from simclrv2_tf.channels import RGB
from simclrv2_tf.experiments import plan

if TYPE_CHECKING:
    from simclrv2_tf.config.config import Config


def broken(config: Config, invalid: Set[str]) -> list[str]:
    """Returns the rules that `config` breaks, as complete messages.

    Args:
        invalid: Options that break their own rule: combinations with them are not checked.
    """
    errors = []
    for names, holds, rule in _RULES:
        if invalid.isdisjoint(names) and not holds(config):
            received = ", ".join(f"{name}={getattr(config, name)!r}" for name in names)
            errors.append(f"{rule} Received: {received}")
    return errors


def _objective(config: Config) -> type[objectives.Objective]:
    return objectives.OBJECTIVES[config.objective]


def _divides_micro_batch(config: Config) -> bool:
    size = config.micro_batch_size * max(config.num_replicas, 1)
    return not size or config.train_mode != "pretrain" or not config.train_batch_size % size


def _is_part_of_a_name(text: str) -> bool:
    """Whether `text` can be part of a file name on every file system."""
    return re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*", text) is not None


def _without_labels(name: str) -> tuple:
    return (
        (name, "train_mode"),
        lambda c: c.train_mode != "pretrain" or not getattr(c, name),
        f"`{name}` must be left out in pretrain, which learns without labels; --hold_labels_back "
        "hides them from its online classifier too.",
    )


def _needs_negatives(name: str) -> tuple:
    able = [repr(n) for n, objective in objectives.OBJECTIVES.items() if objective.takes_negatives]
    return (
        (name, "objective"),
        lambda c: not getattr(c, name) or _objective(c).takes_negatives,
        f"`{name}` must be 0 unless objective={' or '.join(able)}: no other objective has "
        "negatives.",
    )


def _divided_among_replicas(name: str) -> tuple:
    return (
        (name, "num_replicas"),
        lambda c: not getattr(c, name) % max(c.num_replicas, 1),
        f"`{name}` must be divisible by num_replicas.",
    )


# The options of a rule, whether a configuration obeys it, and its text.
_RULES: tuple[tuple[tuple[str, ...], Callable[[Config], bool], str], ...] = (
    (
        ("ft_proj_selector", "proj_head_mode", "num_proj_layers"),
        lambda c: c.ft_proj_selector <= c.num_head_layers,
        "`ft_proj_selector` must not exceed the number of projection head layers.",
    ),
    (
        ("fine_tune_after_block", "train_mode"),
        lambda c: c.train_mode in ("finetune", "linear_eval") or c.fine_tune_after_block == -1,
        "`fine_tune_after_block` must be -1 except in finetune and linear_eval: elsewhere all of "
        "the "
        "network trains.",
    ),
    (
        ("fine_tune_after_block", "train_mode"),
        lambda c: c.train_mode != "linear_eval" or c.fine_tune_after_block in (-1, 4),
        "`fine_tune_after_block` must be 4 or left out in linear_eval, which freezes the encoder.",
    ),
    (
        ("teacher", "train_mode"),
        lambda c: (c.teacher is not None) == (c.train_mode == "distill"),
        "`teacher` must be given in distill, and only there.",
    ),
    (
        ("checkpoint", "train_mode"),
        lambda c: c.checkpoint is None or c.train_mode != "supervised",
        "`checkpoint` must be left out in supervised, the baseline from random weights; finetune "
        "starts from a checkpoint.",
    ),
    (
        ("value_range",),
        lambda c: (
            c.value_range is None
            or (len(c.value_range) == 2 and c.value_range[0] < c.value_range[1])
        ),
        "`value_range` must be two numbers, the first below the second.",
    ),
    (
        ("grayscale_probability", "channels"),
        lambda c: c.channels == RGB or c.grayscale_probability in (0, GRAYSCALE_PROBABILITY),
        "`grayscale_probability` must be left out or 0 unless channels=3: images without colors "
        "cannot become gray.",
    ),
    (
        ("label_fraction", "labels_per_class"),
        lambda c: c.label_fraction is None or not c.labels_per_class,
        "`label_fraction` and `labels_per_class` exclude each other.",
    ),
    (
        ("label_fraction", "train_mode"),
        lambda c: c.train_mode == "semi_supervised" or len(c.label_fraction or ()) < 2,
        "`label_fraction` must be one number, except in semi_supervised.",
    ),
    (
        ("label_fraction",),
        lambda c: len({f"{x:g}" for x in c.label_fraction or ()}) == len(c.label_fraction or ()),
        "`label_fraction` must have values that differ in their first six digits, which name the "
        "folders.",
    ),
    (
        ("eval_name",),
        lambda c: c.eval_name is None or _is_part_of_a_name(c.eval_name),
        "`eval_name` must be of letters, digits, '_', '-' and '.', and not begin with '.': it is "
        "part of file names.",
    ),
    _without_labels("label_fraction"),
    _without_labels("labels_per_class"),
    (
        ("balanced_sampling", "train_mode", "distill_alpha"),
        lambda c: not c.balanced_sampling or plan.learns_from_labels(c.train_mode, c.distill_alpha),
        "`balanced_sampling` must be left out in stages that learn without labels: pretrain, and "
        "distill with distill_alpha=1.",
    ),
    (
        ("class_weights", "train_mode"),
        lambda c: c.class_weights == "none" or c.train_mode not in plan.WITH_UNLABELLED,
        f"`class_weights` must be left out in {', '.join(plan.WITH_UNLABELLED)}, whose losses have "
        "no class weights: give --balanced_sampling.",
    ),
    (
        ("balanced_sampling", "class_weights"),
        lambda c: not c.balanced_sampling or c.class_weights == "none",
        "`balanced_sampling` and `class_weights` exclude each other: together they would correct "
        "twice for imbalanced classes.",
    ),
    (
        ("eval_epochs",),
        lambda c: c.eval_epochs < 1 or c.eval_epochs == int(c.eval_epochs),
        "`eval_epochs` must be a whole number, or below 1 for several validations an epoch.",
    ),
    (
        ("patience", "train_mode", "eval_epochs", "validation_split"),
        lambda c: (
            not c.patience
            or c.train_mode in plan.RUNS  # judged with the options of each stage, by `plan`
            or plan.can_stop_early(c.train_mode, c.eval_epochs, c.validation_split)
        ),
        "`patience` must be 0 if no accuracy is measured while a stage trains: give "
        "--eval_epochs=1, in distill --validation_split too, or leave it out. In pretrain, which "
        "keeps the last weights, leave it out.",
    ),
    (
        ("embedding_projector", "train_mode"),
        lambda c: not c.embedding_projector or c.train_mode in ("pretrain", *plan.RUNS),
        "`embedding_projector` must be left out except in pretrain and in runs of several stages, "
        "which begin with it: other stages keep no representations.",
    ),
    (
        ("embedding_projector", "mode"),
        lambda c: not c.embedding_projector or c.mode != "train",
        "`embedding_projector` needs an evaluation: give --mode=train_then_eval, or --mode=eval.",
    ),
    _needs_negatives("memory_size"),
    _needs_negatives("chunk_size"),
    (
        ("tico_momentum_views", "objective"),
        lambda c: not c.tico_momentum_views or c.objective == "tico",
        "`tico_momentum_views` needs objective='tico'.",
    ),
    (
        ("eval_ema", "memory_size", "tico_momentum_views", "objective"),
        lambda c: not c.eval_ema or c.has_momentum_network,
        "`eval_ema` needs a momentum network: `memory_size` above 0, `tico_momentum_views` or "
        "objective='byol'.",
    ),
    (
        ("predictor_hidden_dim", "objective"),
        lambda c: not c.predictor_hidden_dim or _objective(c).takes_targets,
        "`predictor_hidden_dim` must be 0 unless objective='byol' or 'simsiam': no other has a "
        "predictor.",
    ),
    (
        ("train_batch_size", "objective"),
        lambda c: c.train_mode != "pretrain" or c.train_batch_size >= _objective(c).smallest_batch,
        "`train_batch_size` must be at least 2 if the objective computes a variance over images.",
    ),
    (
        ("use_tpu", "strategy"),
        lambda c: not c.use_tpu or c.strategy in ("auto", "tpu"),
        "`use_tpu` needs strategy='auto' or 'tpu'.",
    ),
    (
        ("num_replicas", "strategy", "use_tpu"),
        lambda c: not c.num_replicas or not (c.use_tpu or c.strategy in ("multi_worker", "tpu")),
        "`num_replicas` must be 0 on a TPU, which takes every core, and in multi_worker, which "
        "takes every device of each worker.",
    ),
    (
        ("num_replicas", "strategy"),
        lambda c: c.num_replicas <= 1 or c.strategy != "default",
        "`num_replicas` must be at most 1 with strategy='default'.",
    ),
    (
        ("micro_batch_size", "train_batch_size", "num_replicas"),
        _divides_micro_batch,
        "`micro_batch_size` must divide a replica's part of the batch.",
    ),
    _divided_among_replicas("train_batch_size"),
    _divided_among_replicas("labelled_batch_size"),
)
