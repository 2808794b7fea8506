"""Distillation: a student learns a teacher's class probabilities."""

from collections.abc import Callable

import keras
import tensorflow as tf

from simclrv2_tf import objectives, options
from simclrv2_tf.stages.base import check_data, cross_entropy
from simclrv2_tf.stages.classifier import ImageClassifier
from simclrv2_tf.stages.options import DistillerOptions


class Distiller(ImageClassifier):
    """SimCLRv2's third stage (arXiv 2006.10029, section 2.2): a student learns a teacher's labels.

    The teacher gives class probabilities to unlabelled images (equation 2). With `alpha` below 1
    the cross entropy of labelled images joins in (equation 3), each term a mean over its own batch:

        loss = (1 - alpha) * cross_entropy(labelled) + alpha * distillation(unlabelled).

    Data: images (b, S, S, 3) in [0, 1], alone or in a tuple of one, with `alpha` = 1; else
    `(images, (labelled_images, labels))`, the latter (c, S, S, 3) and (c,). Both pass the student
    as one batch of b + c, so that batch norm weighs all images alike.

    Metrics: `distill_loss` (nats, not weighted), `teacher_agreement` (share of unlabelled images
    with the same argmax of student and teacher) and with `alpha` below 1 `label_loss` and
    `top_1_accuracy` of the labelled images.

    Args:
        encoder: The student's encoder, a model of `resnet.resnet`.
        classifier: The student's classifier, from features (b, w) to logits (b, C).
        teacher: `teacher(images, training=False)` to logits (b, C): a Keras model, a loaded
            SavedModel or any function. It runs in inference mode, gets no gradient, and is no part
            of the stage's weights and checkpoints.
        head: Optional part of the student's projection head before the classifier.
        temperature: Temperature of both softmaxes of the distillation loss, above 0.
        alpha: Weight of the distillation loss, in [0, 1].
        squared_temperature: Whether to multiply the distillation loss by the squared temperature,
            which keeps its gradient's size (Hinton et al., arXiv 1503.02531). The paper does not.

    Raises:
        ValueError: `temperature` or `alpha` out of range.
    """

    def __init__(
        self,
        encoder,
        classifier,
        teacher: Callable,
        head=None,
        temperature: float = 1.0,
        alpha: float = 1.0,
        squared_temperature: bool = False,
        **kwargs,
    ):
        options.check_numbers(objectives.NTXent, temperature=temperature)
        options.of(DistillerOptions)["distill_alpha"].check(alpha, "alpha")
        super().__init__(encoder, classifier, head, **kwargs)
        self.temperature = temperature
        self.alpha = alpha
        self.squared_temperature = squared_temperature
        # A function, as Keras would track a model among the stage's own.
        self._teach = lambda images: tf.stop_gradient(teacher(images, training=False))
        self.distill_loss = keras.metrics.Mean("distill_loss")
        self.teacher_agreement = keras.metrics.Mean("teacher_agreement")
        if alpha < 1:
            self.label_loss = keras.metrics.Mean("label_loss")
            self.top_1 = keras.metrics.SparseCategoricalAccuracy("top_1_accuracy")

    def training_loss(self, data):
        images, labelled = self._unpack(data)
        if labelled is None:
            losses = self._distill(images, self(images, training=True))
            return self._weighted(tf.reduce_mean(losses))
        labelled_images, labels = labelled
        count = tf.shape(images)[0]
        logits = self(tf.concat([images, labelled_images], 0), training=True)  # (b + c, C)
        losses = self._distill(images, logits[:count])  # (b,)
        label_losses = self._classify(labels, logits[count:])  # (c,)
        return self._weighted(tf.reduce_mean(losses), tf.reduce_mean(label_losses))

    def test_step(self, data):
        """Loss and metrics of one batch in inference mode; every image is distilled.

        Data: images, or as for `Classifier`. Labels count with `alpha` below 1 only, where one
        below 0 means unlabelled.
        """
        images, labels, weights = keras.utils.unpack_x_y_sample_weight(data)
        logits = self(images, training=False)
        losses = self._distill(images, logits, weights)
        if labels is None or self.alpha == 1:
            losses = self._weighted(losses)
        else:
            labelled = tf.cast(labels >= 0, tf.float32)
            counted = labelled if weights is None else labelled * tf.cast(weights, tf.float32)
            label_losses = self._classify(tf.maximum(labels, 0), logits, counted)
            losses = self._weighted(losses, label_losses * labelled)
        self.loss_tracker.update_state(losses, weights)
        return self.get_metrics_result()

    def _unpack(self, data):
        if self.alpha == 1:
            (images,) = data if isinstance(data, tuple) and len(data) == 1 else (data,)
            check_data(images, 4, "images (b, S, S, 3) with alpha=1, without labels")
            return images, None
        check_data(
            data, (4, (4, 1)), f"(images, (labelled_images, labels)) with alpha={self.alpha}"
        )
        return data

    def _distill(self, images, logits, weights=None):
        """Images and the student's logits (b, C) of them to losses (b,)."""
        teacher_logits = self._teach(images)
        losses = objectives.distillation_per_example(logits, teacher_logits, self.temperature)
        agree = tf.equal(tf.argmax(logits, -1), tf.argmax(teacher_logits, -1))
        self.distill_loss.update_state(losses, weights)
        self.teacher_agreement.update_state(tf.cast(agree, tf.float32), weights)
        return losses

    def _classify(self, labels, logits, weights=None):
        """Labels (c,) and the student's logits (c, C) to losses (c,)."""
        losses = cross_entropy(labels, logits)
        self.label_loss.update_state(losses, weights)
        self.top_1.update_state(labels, logits, weights)
        return losses

    def _weighted(self, distill_loss, label_loss=0.0):
        if self.squared_temperature:
            distill_loss *= self.temperature**2
        return (1 - self.alpha) * label_loss + self.alpha * distill_loss
