"""Training with labelled and unlabelled images: the other methods of the paper's Table 3."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from etils import epy

from simclrv2_tf.experiments import validation
from simclrv2_tf.experiments.classification import Classification
from simclrv2_tf.experiments.data import Batches, labelled_batch_size, without_labels
from simclrv2_tf.experiments.stage import Built

with epy.lazy_imports():
    import tensorflow as tf

    from simclrv2_tf import datasets, moving_average, stages

if TYPE_CHECKING:
    from simclrv2_tf.networks import Networks


class SemiSupervisedTraining(Classification):
    """Trains a classifier on labelled images and, without reading labels, on unlabelled images.

    A moving average of the networks is evaluated, exported and passed to later stages.

    Attributes:
        labelled_part: Divisor of `train_batch_size` that gives the number of labelled images per
            step.
    """

    labelled_part: ClassVar[int] = 1
    _stage: ClassVar[Callable[[], type[stages.SemiSupervised]]]

    def open(self):
        config = self.config
        labelled = self.checked_labelled_images()
        self._labelled, self.validation_split = validation.parts(self, labelled)
        size = labelled_batch_size(config, self._labelled, self.replicas, self.labelled_part)
        datasets.check_batch_size(self._labelled, size, "labelled_batch_size")
        if config.balanced_sampling:
            self._labelled = self._labelled.balanced()
        self._labelled_size = size
        return self._unlabelled(), labelled

    def _unlabelled(self) -> datasets.Split:
        """Returns all unlabelled images except validation images; their labels are not read."""
        split = without_labels(self.data.unlabelled_images(self.config))
        if self.validation_split is None or self.data.unlabelled is not None:
            return split
        held = set(self.validation_split.labels()[0].tolist())
        ids = split.labels()[0].tolist()
        if held.isdisjoint(ids):
            return split
        return split.subset(name for name in ids if name not in held)

    @property
    def labels_note(self):
        return f"{super().labels_note} ({self._labelled_size:,} labelled images per step)"

    @property
    def images_name(self):
        config = self.config
        others = config.unlabelled_dataset
        return f"{config.dataset} and {others}" if others else config.dataset

    def build(self, **options):
        classes = self.data.main.num_classes
        averaged, networks = self.build_networks(classes), self.build_networks(classes)
        kind = self._stage()
        average = moving_average.MovingAverage(
            list(networks.models.values()),
            list(averaged.models.values()),
            self._decay,
            statistics=kind.averages_statistics,
        )
        stage = kind(
            networks.encoder,
            networks.classifier,
            average,
            networks.head_part,
            weight=self.config.unlabelled_weight,
            ramp_steps=self._ramp_steps,
            **self._more(averaged),
            **options,
        )
        # Instead of the networks that train: loading the run gives the averages.
        return Built(
            averaged,
            stage,
            state={f"network/{variable.path}": variable for variable in networks.weights},
            start=average.give_back,
        )

    def _more(self, averaged: Networks) -> dict[str, Any]:
        """Returns the arguments of the method's own stage."""
        return {"threshold": self.config.confidence_threshold}

    @property
    def _ramp_steps(self) -> int:
        return max(1, round(self.config.unlabelled_ramp * self.total_steps))

    def _decay(self, step):
        """Returns a decay that is lower at first, so that initial weights are forgotten."""
        step = tf.cast(step, tf.float32)
        return tf.minimum(self.config.ema_decay, (1.0 + step) / (10.0 + step))

    def batches(self, context, start_step):
        batches = Batches(self.config, context)
        labelled = batches.crops(self._labelled, self._labelled_size, start_step)
        strong = [view == stages.STRONG for view in self._stage().views]
        size = self.config.train_batch_size
        others = batches.unlabelled(self.train_split, strong, size, start_step)
        return tf.data.Dataset.zip(labelled, others)


class PseudoLabels(SemiSupervisedTraining):
    """Uses its own most probable classes of unlabelled images as labels (Lee 2013)."""

    train_mode = "pseudo_label"
    title = "pseudo-labels"
    passes = 6
    summary = (
        "a classifier that learns, in addition to the labels, its own most probable classes of "
        "unlabelled "
        "images."
    )
    method = "pseudo-labels of unlabelled images"

    @staticmethod
    def _stage():
        return stages.PseudoLabel


class MeanTeaching(SemiSupervisedTraining):
    """Learns the class probabilities of its moving average (arXiv 1703.01780)."""

    train_mode = "mean_teacher"
    title = "mean teacher"
    passes = 7
    summary = (
        "a classifier that learns, in addition to the labels, its moving average's class "
        "probabilities of "
        "unlabelled images."
    )
    method = "mean teacher on unlabelled images"

    @staticmethod
    def _stage():
        return stages.MeanTeacher

    def _more(self, averaged):
        return {"teacher": averaged.image_classifier()}

    def _decay(self, step):
        """Returns at most 0.99 while the loss weight ramps up, as in the paper's section 3.1."""
        decay = super()._decay(step)
        early = tf.cast(step, tf.float32) < self._ramp_steps
        return tf.where(early, tf.minimum(decay, 0.99), decay)


class FixMatching(SemiSupervisedTraining):
    """Learns its most probable classes of weak views from strong views (arXiv 2001.07685)."""

    train_mode = "fixmatch"
    title = "FixMatch"
    passes = 7
    labelled_part = 7
    summary = (
        "a classifier that learns, in addition to the labels, its own most probable classes of "
        "unlabelled "
        "images from strongly augmented views of them."
    )
    method = "FixMatch on unlabelled images"

    @staticmethod
    def _stage():
        return stages.FixMatch
