"""Compares the labels that a teacher learned from with the labels of its student's run."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from absl import logging
from etils import epath, epy

from simclrv2_tf.experiments.directory import RunError

with epy.lazy_imports():
    from simclrv2_tf.datasets import labels as label_subset
    from simclrv2_tf.weights import teachers

if TYPE_CHECKING:
    from simclrv2_tf.config import Config
    from simclrv2_tf.experiments.data import Data


@dataclasses.dataclass(frozen=True)
class _Labels:
    """The labels of a data set that the options of a run select."""

    dataset: str
    fraction: float
    per_class: int
    seed: int

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> _Labels:
        name = options.get("dataset") or ""
        if name.startswith("folder:"):
            folder = os.path.expanduser(name.removeprefix("folder:"))
            name = "folder:" + (folder if "://" in folder else os.path.abspath(folder))
        (fraction,) = options.get("label_fraction") or (1.0,)
        seed = options.get("label_seed", 0)
        return cls(name, fraction, options.get("labels_per_class", 0), seed)

    @property
    def all(self) -> bool:
        return self.fraction == 1 and not self.per_class

    def __str__(self) -> str:
        if self.all:
            return "all labels"
        amount = f"labels_per_class={self.per_class}"
        if not self.per_class:
            amount = f"label_fraction={self.fraction:g}"
        return f"{amount} and label_seed={self.seed}"


def check(config: Config, data: Data) -> None:
    """Checks that a teacher only learned from the labels of the run's label subset.

    Without such a subset, any teacher is accepted. If the teacher's labels are not known, or are of
    another data set, logs that they were not compared.

    Raises:
        RunError: the teacher learned from other or more labels. The online classifier of
        pretraining learned from all labels. CheckpointError: the options of the teacher's run
        cannot be read.
    """
    own = _Labels.of(vars(config))
    if config.teacher is None or own.all:
        return
    path, options = source_of_labels(config.teacher)
    used = _Labels.of(options)
    if not options or used.dataset != own.dataset:
        where = f"which learned on {used.dataset}" if options else "which is not part of a run"
        logging.warning(
            "The labels of the teacher %s, %s, were not compared with %s.", path, where, own
        )
    elif _more(used, own, path, config, data):
        source = f", by its teacher {path}" if path != config.teacher else ""
        raise RunError(
            f"`teacher` must only have learned from this run's labels, {own}. "
            f"Received: teacher={config.teacher}, which learned from {used}{source} in "
            f"train_mode {options.get('train_mode')}. Fine-tune a teacher with this run's labels, "
            "or use the teacher's labels in this run."
        )


def source_of_labels(teacher: str) -> tuple[str, Mapping[str, Any]]:
    """Returns the run whose labels a teacher learned from, and its options; none if not known.

    A student trained without labels learned from its own teacher's labels.
    """
    path, passed = teacher, set()
    while True:
        options = teachers.options_of(path)
        passed.add(path)
        distilled = options.get("train_mode") == "distill" and options.get("distill_alpha", 1) == 1
        if not distilled or not _Labels.of(options).all:
            return path, options
        path = options["teacher"]
        if path in passed:
            return path, {}


def _more(used: _Labels, own: _Labels, path: str, config: Config, data: Data) -> bool:
    """Whether `used` has labels that `own` lacks. Subsets with the same seed are nested."""
    if used.seed == own.seed and not used.all and bool(used.per_class) == bool(own.per_class):
        return used.per_class > own.per_class or used.fraction > own.fraction
    split = data.labelled_images(config)
    if used.all:
        return split.num_examples < data.main.split(config.train_split).num_examples
    listed = epath.Path(path) / "labelled_examples.txt"
    return not listed.exists() or not {*label_subset.read(listed)} <= {*split.labels()[0].tolist()}
