"""Builds the stages of a run; stages that differ only in weights are traced once."""

from __future__ import annotations

import collections
import dataclasses
import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from etils import epy

from simclrv2_tf.network_options import NetworksOptions
from simclrv2_tf.options import of

with epy.lazy_imports():
    import keras
    import numpy as np

    from simclrv2_tf import optimizers

if TYPE_CHECKING:
    from simclrv2_tf.config import Config
    from simclrv2_tf.experiments.stage import Built, StageRun

# Options that change neither networks nor traced steps: folders, weights, data, the schedule.
_FREE = {
    "checkpoint",
    "teacher",
    "label_fraction",
    "labels_per_class",
    "label_seed",
    "balanced_sampling",
    "patience",
    "train_epochs",
    "train_steps",
    "learning_rate",
    "learning_rate_scaling",
    "warmup_epochs",
}
# Large networks train for hours: saving memory matters more than saving a trace.
_MOST_KEPT_BYTES = 2**28


@dataclasses.dataclass(frozen=True)
class _Kept:
    """A stage with its schedule and, once a later stage needs them, its initial values."""

    built: Built
    schedule: optimizers.VariableWarmupCosine
    initial: Sequence[np.ndarray] = ()


class BuiltStages:
    """Builds the stages of a run, and keeps what a later stage can reuse.

    A stage with the options of an earlier one, and other weights, labels, teacher or schedule,
    reuses the networks and the traced steps of the earlier one, reset to their initial state. Only
    what a later stage needs is kept. Kept weights and optimizers take at most 256 MiB, not counting
    copies for export and teachers.

    Args:
        runs: The stages of the run, in order.
    """

    def __init__(self, runs: Sequence[StageRun]):
        self._keys = {str(run.directory): _key(run, runs) for run in runs}
        self._ahead = collections.Counter(self._keys.values())
        self._kept: dict[str, _Kept] = {}

    def skip(self, run: StageRun) -> None:
        """Drops what is only kept for `run`, which has finished before."""
        key = self._keys[str(run.directory)]
        self._ahead[key] -= 1
        if not self._ahead[key]:
            self._kept.pop(key, None)

    def build(self, run: StageRun) -> Built:
        """Returns the stage of `run`, compiled, at its initial weights.

        Call it in the scope of the run's strategy.
        """
        key = self._keys[str(run.directory)]
        kept = self._kept.pop(key, None)
        if kept is None:
            kept = _build(run)
        else:
            kept.schedule.follow(run.schedule)
            for variable, value in zip(_variables(kept.built), kept.initial, strict=True):
                variable.assign(value)
            kept.built.stage.reset_metrics()
            run.reuse(kept.built)
        self._ahead[key] -= 1
        if self._ahead[key] and self._fits(kept):
            if kept.built.made is None:
                initial = [variable.numpy() for variable in _variables(kept.built)]
                built = dataclasses.replace(kept.built, made={})
                kept = dataclasses.replace(kept, built=built, initial=initial)
            self._kept[key] = kept
        return dataclasses.replace(kept.built, networks=run.used_networks(kept.built.networks))

    def keeps(self, run: StageRun) -> bool:
        """Whether a later stage reuses what was built for `run`."""
        return self._keys[str(run.directory)] in self._kept

    def _fits(self, kept: _Kept) -> bool:
        together = (*self._kept.values(), kept)
        return sum(num_bytes(each.built) for each in together) <= _MOST_KEPT_BYTES


def _build(run: StageRun) -> _Kept:
    config = run.config
    schedule = optimizers.VariableWarmupCosine(run.schedule)
    optimizer = optimizers.make_optimizer(config, schedule)

    def penalty(variables):
        decayed = optimizers.l2_variables(optimizer, variables)
        return config.weight_decay * optimizers.l2_loss(decayed)

    built = run.build(penalty=penalty if config.weight_decay else None, name=config.train_mode)
    built.stage.compile(optimizer=optimizer, jit_compile=False)
    optimizer.build(built.stage.trainable_variables)
    if built.at_peak is not None:
        held = optimizers.make_optimizer(config, optimizers.HeldAtPeak(schedule))
        held.build(built.at_peak.trainable_variables)
        built.stage.predictor_optimizer = held
        state = {f"predictor_optimizer/{v.path}": v for v in held.variables}
        built = dataclasses.replace(built, state={**built.state, **state})
    return _Kept(built, schedule)


def _variables(built: Built) -> Iterator[keras.Variable]:
    """Returns all variables that training changes, except metrics."""
    yield from built.networks.weights
    yield from built.stage.optimizer.variables
    yield from built.state.values()


def num_bytes(built: Built) -> int:
    """Returns the size of weights, optimizer and all else in a checkpoint."""
    return sum(4 * int(np.prod(variable.shape)) for variable in _variables(built))


def _key(run: StageRun, runs: Sequence[StageRun]) -> str:
    """Returns a text that is equal for stages with equal networks and traced steps."""
    config = run.config
    incidental = {name for name, option in of(type(config)).items() if option.incidental}
    fixed = {
        field.name: getattr(config, field.name)
        for field in dataclasses.fields(config)
        if field.name not in incidental | _FREE
    }
    if config.ema_schedule != "constant":  # of the steps, traced as a constant
        fixed["steps"] = [config.train_epochs, config.train_steps]
    if config.class_weights != "none":  # from the labels, constants of the traced step
        fixed["labels"] = [config.label_fraction, config.labels_per_class, config.label_seed]
    taught = [_network(other.config) for other in runs if str(other.directory) == config.teacher]
    teacher = taught or config.teacher  # only the path is known of a teacher from outside the run
    return json.dumps([fixed, teacher], sort_keys=True)


def _network(config: Config) -> dict:
    return {name: getattr(config, name) for name in of(NetworksOptions)}
