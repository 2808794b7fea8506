"""Labelled training with unlabelled images: pseudo-labels, mean teacher and FixMatch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import keras
import tensorflow as tf

from simclrv2_tf import objectives
from simclrv2_tf.objectives import consistency
from simclrv2_tf.options import check_sizes
from simclrv2_tf.stages import structure
from simclrv2_tf.stages.base import accuracies, cross_entropy
from simclrv2_tf.stages.classifier import ImageClassifier

WEAK, STRONG = "weak", "strong"


class SemiSupervised(ImageClassifier):
    """A classifier that learns from labelled images and, without labels, from unlabelled ones.

        loss = mean cross entropy of the labelled images
               + weight * ramp(step / ramp_steps) * mean loss of the unlabelled images

    Data: `((images, labels), views)`: images (b, S, S, channels) in [0, 1] with labels (b,), and a
    tuple with one batch (u, S, S, channels) for each of the class's `views`, of the same u images.
    All pass the network as one batch, so that batch norm weights all images equally.

    Metrics: `label_loss` (nats) and `top_1_accuracy` of the labelled images, `unlabelled_loss` (not
        weighted), and the subclass's metrics.

    The stage updates the moving average after each step. The averaged models, which are not part of
    the stage, are for evaluation and export; `test_step` evaluates the trained network itself.

    Args:
        encoder: A model of `resnet.resnet`.
        classifier: A model from features (b, w) to logits (b, C).
        average: A `moving_average.MovingAverage` of all three models; updated after each step.
        head: Optional part of a projection head between the two (`heads.up_to`).
        weight: Weight of the unlabelled images' loss, at least 0; None: the method's default.
        ramp_steps: Steps over which the weight rises to its full value, at least 1.

    Attributes:
        views: The views of an unlabelled image that the stage uses, each `WEAK` or `STRONG`.
        num_seen: The number of these views, from the first on, that pass the network.
        default_weight: The method's default weight.
        ramp: Maps the completed share of `ramp_steps`, from 0 on, to a factor of the weight in [0,
            1].
        averages_statistics: Whether `average` averages the moving statistics of batch norm.
            Otherwise the averaged models run in training mode, and have their own statistics.

    Raises:
        ValueError: an argument is out of range, or a batch has another structure.
        tf.errors.InvalidArgumentError: the labelled images include an unlabelled one.
    """

    views: ClassVar[tuple[str, ...]]
    num_seen: ClassVar[int]
    default_weight: ClassVar[float]
    ramp: ClassVar[Callable] = staticmethod(consistency.linear_ramp)
    averages_statistics: ClassVar[bool] = True

    def __init__(
        self,
        encoder,
        classifier,
        average,
        head=None,
        weight: float | None = None,
        ramp_steps: int = 1,
        **kwargs,
    ):
        weight = self.default_weight if weight is None else weight
        if not 0 <= weight < float("inf"):
            raise ValueError(f"`weight` must be finite and at least 0. Received: weight={weight}")
        check_sizes(ramp_steps=ramp_steps)
        super().__init__(encoder, classifier, head, **kwargs)
        self.average = average
        self.weight, self.ramp_steps = weight, ramp_steps
        self.label_loss = keras.metrics.Mean("label_loss")
        self.unlabelled_loss = keras.metrics.Mean("unlabelled_loss")
        self.accuracies = accuracies(classifier.output_shape[-1])

    def unlabelled_losses(self, logits: Sequence[tf.Tensor], views: Sequence[tf.Tensor]):
        """Computes the loss of each unlabelled image.

        Args:
            logits: (u, C) for each view that passes the network.
            views: (u, S, S, channels), all views.

        Returns:
            (u,) float32.
        """
        raise NotImplementedError

    def training_loss(self, data):
        (images, labels), views = self._unpack(data)
        labels = structure.all_labelled(labels)
        seen = views[: self.num_seen]
        logits = self(tf.concat([images, *seen], 0), training=True)  # (b + vu, C)
        count = tf.shape(images)[0]
        labelled, others = logits[:count], tf.split(logits[count:], len(seen))
        label_losses = cross_entropy(labels, labelled)  # (b,)
        self.label_loss.update_state(label_losses)
        for metric in self.accuracies:
            metric.update_state(labels, labelled)
        losses = self.unlabelled_losses(others, views)  # (u,)
        self.unlabelled_loss.update_state(losses)
        return tf.reduce_mean(label_losses) + self._current_weight() * tf.reduce_mean(losses)

    def test_step(self, data):
        """Computes loss and accuracies in inference mode; data as for `Classifier`."""
        images, labels, weights = structure.images_and_labels(data)
        labels, weights = structure.where_labelled(labels, weights)
        logits = self(images, training=False)
        for metric in self.accuracies:
            metric.update_state(labels, logits, weights)
        self.loss_tracker.update_state(cross_entropy(labels, logits), weights)
        return self.get_metrics_result()

    def update(self, data):
        step = tf.identity(self.optimizer.iterations.value)
        super().update(data)
        self.average.update(step)

    def _current_weight(self):
        step = tf.cast(self.optimizer.iterations.value, tf.float32)
        return self.weight * self.ramp(step / self.ramp_steps)

    def _unpack(self, data):
        if isinstance(data, tuple | list) and len(data) == 2:
            labelled, views = structure.images_with_labels(data[0]), data[1]
            if (
                labelled is not None
                and isinstance(views, tuple | list)
                and len(views) == len(self.views)
                and all(structure.images_alone((view,)) is not None for view in views)
            ):
                return labelled, views
        raise structure.wrong(
            f"((images, labels), ({', '.join(self.views)},)): images (b, H, W, C), integers (b,), "
            "and a batch (u, H, W, C) of each view of the unlabelled images",
            data,
            "`datasets.training_batches` and `datasets.unlabelled_batches` make them.",
        )


class PseudoLabel(SemiSupervised):
    """Uses the most probable class of an unlabelled image as its label (Lee 2013).

    Metrics: as for `SemiSupervised`, and `confident`, the share of unlabelled images whose most
        probable class has at least `threshold`; other images have no loss.

    Args:
        threshold: In [0, 1]; 0 as in Lee's paper.
    """

    views: ClassVar[tuple[str, ...]] = (WEAK,)
    num_seen = 1
    default_weight = 3.0

    def __init__(self, *args, threshold: float = consistency.DEFAULT_THRESHOLD, **kwargs):
        super().__init__(*args, **kwargs)
        self.threshold = threshold
        self.confident = keras.metrics.Mean("confident")

    def unlabelled_losses(self, logits, views):
        losses, taken = objectives.pseudo_label_per_example(logits[0], logits[-1], self.threshold)
        self.confident.update_state(taken)
        return losses


class FixMatch(PseudoLabel):
    """Learns the most probable class of a weak view from a strong view (arXiv 2001.07685)."""

    views = (WEAK, STRONG)
    num_seen = 2
    default_weight = 1.0
    ramp = staticmethod(tf.ones_like)


class MeanTeacher(SemiSupervised):
    """Learns the class probabilities of its own moving average (arXiv 1703.01780).

    The average receives another view of the unlabelled images, in training mode.

    Args:
        teacher: `teacher(images, training=True)` returns logits (u, C) of the averaged models.
    """

    views = (WEAK, WEAK)
    num_seen = 1
    default_weight = 100.0
    ramp = staticmethod(consistency.exponential_ramp)
    averages_statistics = False

    def __init__(self, *args, teacher: Callable, **kwargs):
        super().__init__(*args, **kwargs)
        # A function, because Keras would track a model as part of the stage.
        self._teach = lambda images: tf.stop_gradient(teacher(images, training=True))

    def unlabelled_losses(self, logits, views):
        return objectives.mean_teacher_per_example(logits[0], self._teach(views[1]))
