"""Rules on options of several parts, each judged where every value in it is valid by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Set
from typing import TYPE_CHECKING

from simclrv2_tf import objectives

if TYPE_CHECKING:
    from simclrv2_tf.config.config import Config

# The flags in it, whether it holds, and what it says.
Rule = tuple[tuple[str, ...], Callable[[], bool], str]


def broken(config: Config, invalid: Set[str]) -> list[str]:
    """The rules that `config` breaks, as complete messages.

    Args:
        invalid: Options whose own rule is broken: combinations with them are not judged.
    """
    errors = []
    for names, holds, rule in _rules(config):
        if invalid.isdisjoint(names) and not holds():
            received = ", ".join(f"{name}={getattr(config, name)!r}" for name in names)
            errors.append(f"{rule} Received: {received}")
    return errors


def _rules(config: Config) -> Iterator[Rule]:
    yield from _stage_rules(config)
    yield from _label_rules(config)
    yield from _objective_rules(config)
    yield from _device_rules(config)


def _stage_rules(config: Config) -> Iterator[Rule]:
    yield (
        ("ft_proj_selector", "proj_head_mode", "num_proj_layers"),
        lambda: config.ft_proj_selector <= config.num_head_layers,
        "`ft_proj_selector` must not exceed the number of projection head layers.",
    )
    yield (
        ("fine_tune_after_block", "train_mode"),
        lambda: (
            config.train_mode in ("finetune", "linear_eval") or config.fine_tune_after_block == -1
        ),
        "`fine_tune_after_block` must be -1 but in finetune and linear_eval: elsewhere all of the "
        "network trains.",
    )
    yield (
        ("fine_tune_after_block", "train_mode"),
        lambda: config.train_mode != "linear_eval" or config.fine_tune_after_block in (-1, 4),
        "`fine_tune_after_block` must be 4 or left out in linear_eval, which freezes the encoder.",
    )
    yield (
        ("teacher", "train_mode"),
        lambda: (config.teacher is not None) == (config.train_mode == "distill"),
        "`teacher` must be given in distill, and nowhere else.",
    )
    yield (
        ("checkpoint", "train_mode"),
        lambda: config.checkpoint is None or config.train_mode != "supervised",
        "`checkpoint` must be left out in supervised, the baseline from random weights; finetune "
        "starts from a checkpoint.",
    )


def _label_rules(config: Config) -> Iterator[Rule]:
    yield (
        ("label_fraction", "labels_per_class"),
        lambda: config.label_fraction is None or not config.labels_per_class,
        "`label_fraction` and `labels_per_class` exclude each other.",
    )
    yield (
        ("label_fraction", "train_mode"),
        lambda: config.train_mode == "semi_supervised" or len(config.label_fraction or ()) < 2,
        "`label_fraction` must be one number, except in semi_supervised.",
    )
    for name in ("label_fraction", "labels_per_class"):
        yield (
            (name, "train_mode"),
            lambda name=name: config.train_mode != "pretrain" or not getattr(config, name),
            f"`{name}` must be left out in pretrain, which learns from no label; "
            "--hold_labels_back takes them from its online classifier too.",
        )


def _objective_rules(config: Config) -> Iterator[Rule]:
    def objective():
        return objectives.OBJECTIVES[config.objective]

    for name in ("memory_size", "chunk_size"):
        yield (
            (name, "objective"),
            lambda name=name: not getattr(config, name) or objective().takes_negatives,
            f"`{name}` must be 0 but with objective='nt_xent': no other has negatives.",
        )
    yield (
        ("tico_momentum_views", "objective"),
        lambda: not config.tico_momentum_views or config.objective == "tico",
        "`tico_momentum_views` needs objective='tico'.",
    )
    yield (
        ("eval_ema", "memory_size", "tico_momentum_views"),
        lambda: not config.eval_ema or config.has_momentum_network,
        "`eval_ema` needs a momentum network: `memory_size` above 0 or `tico_momentum_views`.",
    )
    yield (
        ("train_batch_size", "objective"),
        lambda: (
            config.train_mode != "pretrain" or config.train_batch_size >= objective().smallest_batch
        ),
        "`train_batch_size` must be at least 2 where the objective has a variance over images.",
    )


def _device_rules(config: Config) -> Iterator[Rule]:
    yield (
        ("use_tpu", "strategy"),
        lambda: not config.use_tpu or config.strategy in ("auto", "tpu"),
        "`use_tpu` needs strategy='auto' or 'tpu'.",
    )
    yield (
        ("num_replicas", "strategy", "use_tpu"),
        lambda: (
            config.num_replicas == 0
            or not (config.use_tpu or config.strategy in ("multi_worker", "tpu"))
        ),
        "`num_replicas` must be 0 on a TPU, which takes every core, and in multi_worker, which "
        "takes every device of each worker.",
    )
    yield (
        ("num_replicas", "strategy"),
        lambda: config.num_replicas <= 1 or config.strategy != "default",
        "`num_replicas` must be at most 1 with strategy='default'.",
    )
    yield (
        ("micro_batch_size", "train_batch_size", "num_replicas"),
        lambda: (
            not config.micro_batch_size
            or config.train_mode != "pretrain"
            or not config.train_batch_size % (config.micro_batch_size * max(config.num_replicas, 1))
        ),
        "`micro_batch_size` must divide a replica's part of the batch.",
    )
    for name in ("train_batch_size", "labelled_batch_size"):
        yield (
            (name, "num_replicas"),
            lambda name=name: not getattr(config, name) % max(config.num_replicas, 1),
            f"`{name}` must be divisible by num_replicas.",
        )
