"""The data of a report: a run, its stages and their results. Other modules read the files."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from simclrv2_tf.kept_results import kept_results
from simclrv2_tf.metrics import neighbours
from simclrv2_tf.metrics.classification import Interval, wilson
from simclrv2_tf.predictions import Predictions
from simclrv2_tf.report.results import METHODS, percent

PRETRAIN, LINEAR, RANDOM_INIT = "pretrain", "linear_eval", "linear_eval_random_init"


def evaluated_split(options: Mapping[str, Any], record: Mapping[str, Any]) -> str | None:
    """Returns the split on which a stage was evaluated; None if no file records it.

    Args:
        options: The stage's `config.json`.
        record: Its `run.json`.
    """
    main = ((record.get("made_of") or {}).get("data") or {}).get("main") or {}
    trained = options.get("train_split", "train")
    others = [name for name in main.get("splits", {}) if name != trained]
    return options.get("eval_split") or (others[0] if others else trained if main else None)


@dataclasses.dataclass(frozen=True)
class Samples:
    """Representations of n evaluation images, written by pretraining.

    Attributes:
        ids: (n,) ids of the images.
        labels: (n,) int64, -1 without a label.
        representations: (n, f) float16.
        thumbnails: (n, S, S, 1 or 3) uint8.
        left_out: Number of images that are omitted because their representations are not finite.
    """

    ids: np.ndarray
    labels: np.ndarray
    representations: np.ndarray
    thumbnails: np.ndarray
    left_out: int = 0

    def nearest(self, k: int) -> np.ndarray:
        """Returns the k most similar images of each image, as in `neighbours.nearest`."""
        return _nearest(self.representations, k)


_nearest = kept_results(most=8)(neighbours.nearest)


@dataclasses.dataclass(frozen=True)
class NearDuplicates:
    """Evaluation images that look like training images.

    Attributes:
        compared: Numbers of compared evaluation and training images.
        of: Numbers of all evaluation and training images.
        ids: (n, 2) ids of the evaluation and of the training image, the most similar first.
        labels: (n, 2) int64, -1 without a label.
        differences: (n,) 1 - correlation of their thumbnails.
        mirrored: (n,) bool, whether one is the mirror image of the other.
        thumbnails: (k, 2, S, S, 1 or 3) uint8, thumbnails of the first k pairs.
    """

    compared: tuple[int, int]
    of: tuple[int, int]
    ids: np.ndarray
    labels: np.ndarray
    differences: np.ndarray
    mirrored: np.ndarray
    thumbnails: np.ndarray


@dataclasses.dataclass(frozen=True)
class Stage:
    """One stage of a run.

    Attributes:
        name: Name of its folder: "pretrain", "linear_eval" and so on; for a run of one stage, its
            train mode, or the method of a few-label run.
        title: Title of the stage.
        folder: Its folder in the run's folder; "" in a run of one stage.
        encoder: Description of its encoder.
        options: Its `config.json`.
        history: The rows of its `history.csv`, by column.
        result: Its `result.json`; empty until it has been evaluated.
        calibration: Its `calibration.json`: maps a classifier's name to its calibration.
        record: Its `run.json`.
        files: Names of its usable files and folders; `hub/STEP` for a SavedModel.
        fraction: Share of the training images whose labels it uses, in (0, 1]; None: no subset.
        num_labels: Number of labels it uses; None if not known.
        images: Number of images it was evaluated on; None if not known.
        predictions: Predictions of its classifier, if it wrote them.
    """

    name: str
    title: str
    folder: str
    encoder: str
    options: Mapping[str, Any]
    history: Sequence[Mapping[str, str]] = ()
    result: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    calibration: Mapping[str, Mapping] = dataclasses.field(default_factory=dict)
    record: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    files: Sequence[str] = ()
    fraction: float | None = None
    num_labels: int | None = None
    images: int | None = None
    predictions: Predictions | None = None

    @property
    def train_mode(self) -> str:
        return self.options["train_mode"]

    @property
    def learns_labels(self) -> bool:
        """Whether it trains a network with labels, or with a teacher's classes."""
        return self.train_mode != PRETRAIN

    @property
    def method(self) -> str | None:
        """The key of `METHODS` of its result, if it has one."""
        return self.name if self.name in METHODS else None

    @property
    def in_words(self) -> str:
        """Method and labels, such as "fine-tuned, 1% of the labels"."""
        if self.method and self.fraction:
            return f"{METHODS[self.name].name}, {percent(self.fraction)} of the labels"
        return self.title

    @property
    def top1(self) -> float | None:
        """Top-1 accuracy in [0, 1] on the evaluation images."""
        return self.result.get("label_top_1_accuracy")

    @property
    def interval(self) -> Interval | None:
        """Top-1 accuracy with its 95% interval; None if the number of images is not known."""
        low, high = (self.result.get(f"label_top_1_{end}") for end in ("low", "high"))
        if None not in (self.top1, low, high):
            return Interval(self.top1, low, high)
        if self.top1 is None or not self.images:
            return None
        return wilson(round(self.top1 * self.images), self.images)

    @property
    def split(self) -> str | None:
        """The split on which it was evaluated; None if not known."""
        return evaluated_split(self.options, self.record)

    @property
    def error(self) -> float | None:
        """Expected calibration error in [0, 1]."""
        return self.result.get("expected_calibration_error")

    @property
    def seconds(self) -> float:
        """Seconds of training, from the history."""
        return sum(float(row["seconds"]) for row in self.history if row.get("seconds"))

    @property
    def own_calibration(self) -> Mapping | None:
        """The calibration of the stage's own classifier."""
        return self.calibration.get("student") or self.calibration.get(self.train_mode)

    def curve(self, column: str) -> tuple[list[float], list[float]]:
        """Returns the epochs with a metric of the history, and its values."""
        rows = [row for row in self.history if row.get(column)]
        return [float(row["epoch"]) for row in rows], [float(row[column]) for row in rows]


@dataclasses.dataclass(frozen=True)
class Run:
    """A run of one stage or of several.

    Attributes:
        path: Its folder, as given.
        options: Its `config.json`; for a run interrupted in its first stage, that stage's.
        stages: The stages that have started, in order.
        samples: Representations of evaluation images, if pretraining wrote them.
        near_duplicates: Evaluation images that look like training images, if pretraining searched
            for them.
        views: `views.png`, if it exists.
        skipped: (file, reason) of skipped image files.
        unreadable: (file, reason) of the run's own files that cannot be read.
    """

    path: str
    options: Mapping[str, Any]
    stages: Sequence[Stage]
    samples: Samples | None = None
    views: bytes | None = None
    skipped: Sequence[tuple[str, str]] = ()
    unreadable: Sequence[tuple[str, str]] = ()
    near_duplicates: NearDuplicates | None = None

    @property
    def name(self) -> str:
        """The name of its folder, also if the path is "."."""
        return pathlib.Path(self.path).resolve().name or self.path

    @property
    def several(self) -> bool:
        """Whether it is a run of several stages."""
        return any(stage.folder for stage in self.stages)

    def stage(self, name: str) -> Stage | None:
        """Returns the first stage called `name`."""
        return next((stage for stage in self.stages if stage.name == name), None)

    @property
    def evaluated(self) -> list[Stage]:
        """Returns the stages with an accuracy."""
        return [stage for stage in self.stages if stage.top1 is not None]

    @property
    def best(self) -> Stage | None:
        """Returns the stage with the highest top-1 accuracy; ties give the first.

        Considers the baseline at random initialization and pretraining's online classifier only if
        no other stage has an accuracy.
        """
        found = [
            stage for stage in self.evaluated if stage.learns_labels and stage.name != RANDOM_INIT
        ] or self.evaluated
        return max(found, key=lambda stage: stage.top1, default=None)

    @property
    def few_label(self) -> list[Stage]:
        """Returns the stages with a result for a subset of the labels, by fraction and method."""
        found = [stage for stage in self.evaluated if stage.method and stage.fraction]
        order = list(METHODS)
        return sorted(found, key=lambda stage: (stage.fraction, order.index(stage.name)))

    def baseline(self, stage: Stage) -> Stage | None:
        """Returns supervised training with the labels of `stage`, if that is another stage."""
        return next(
            (
                other
                for other in self.evaluated
                if other.name == "supervised"
                and other is not stage
                and other.fraction == stage.fraction
            ),
            None,
        )

    @property
    def record(self) -> Mapping[str, Any]:
        """The `run.json` of its first stage."""
        return self.stages[0].record

    @property
    def class_names(self) -> list[str]:
        """(C,) names; empty if the data have no classes."""
        return list(self.data.get("class_names", ()))

    @property
    def data(self) -> Mapping[str, Any]:
        """Name, classes and splits of the images, from `run.json`."""
        return ((self.record.get("made_of") or {}).get("data") or {}).get("main") or {}

    @property
    def seconds(self) -> float:
        """Seconds of training of all stages."""
        return sum(stage.seconds for stage in self.stages)
