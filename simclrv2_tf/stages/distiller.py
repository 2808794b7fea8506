"""Distillation: a student learns a teacher's class probabilities."""

from collections.abc import Callable

import keras
import tensorflow as tf

from simclrv2_tf import objectives, options
from simclrv2_tf.stages import structure
from simclrv2_tf.stages.base import cross_entropy
from simclrv2_tf.stages.classifier import ImageClassifier
from simclrv2_tf.stages.options import DistillerOptions


class Distiller(ImageClassifier):
    """SimCLRv2's third stage (arXiv 2006.10029, section 2.2): a student learns from a teacher.

    The teacher gives class probabilities to unlabelled images (equation 2). With `alpha` below 1
    the loss also has the cross entropy of labelled images (equation 3), each term a mean over its
    own batch:

        loss = (1 - alpha) * cross_entropy(labelled) + alpha * distillation(unlabelled).

    Data: images (b, S, S, channels) in [0, 1], alone or in a tuple of one, with `alpha` = 1; else
    `(images, (labelled_images, labels))`, the latter (c, S, S, channels) and (c,). Both pass the
    student as one batch of b + c, so that batch norm weights all images equally.

    Metrics: `distill_loss` (nats, not weighted), `teacher_agreement` (share of unlabelled images
    with the same argmax of student and teacher) and with `alpha` below 1 `label_loss` and
    `top_1_accuracy` of the labelled images.

    Args:
        encoder: The student's encoder, a model of `resnet.resnet`.
        classifier: The student's classifier, from features (b, w) to logits (b, C).
        teacher: `teacher(images, training=False)` to logits (b, C): a Keras model, a loaded
            SavedModel or any function. It runs in inference mode, receives no gradient, and is not
            part of the stage's weights and checkpoints.
        head: Optional part of the student's projection head before the classifier.
        temperature: Temperature of both softmaxes of the distillation loss, above 0.
        alpha: Weight of the distillation loss, in [0, 1].
        squared_temperature: Whether to multiply the distillation loss by the squared temperature,
            which preserves the gradient's magnitude (Hinton et al., arXiv 1503.02531). The paper
            does not.

    Raises:
        ValueError: `temperature` or `alpha` is out of range, or a batch has another structure.
        tf.errors.InvalidArgumentError: the labelled images include an unlabelled one.
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
        # A function, because Keras would track a model as part of the stage.
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
        label_losses = self._classify(structure.all_labelled(labels), logits[count:])  # (c,)
        return self._weighted(tf.reduce_mean(losses), tf.reduce_mean(label_losses))

    def test_step(self, data):
        """Computes loss and metrics of one batch in inference mode; distills every image.

        Data: images, or as for `Classifier`. Labels are only used with `alpha` below 1; a label
            below 0 means unlabelled.
        """
        images, labels, weights = structure.images_alone(data), None, None
        if images is None:
            images, labels, weights = structure.images_and_labels(data)
        logits = self(images, training=False)
        losses = self._distill(images, logits, weights)
        if labels is None or self.alpha == 1:
            losses = self._weighted(losses)
        else:
            known, counted = structure.where_labelled(labels, weights)
            label_losses = self._classify(known, logits, counted)
            labelled = tf.cast(labels >= 0, tf.float32)
            losses = self._weighted(losses, label_losses * labelled)
        self.loss_tracker.update_state(losses, weights)
        return self.get_metrics_result()

    def _unpack(self, data):
        if self.alpha == 1:
            images, labelled = structure.images_alone(data), None
            if images is not None:
                return images, labelled
        elif isinstance(data, tuple | list) and len(data) == 2:
            images = structure.images_alone(data[0])
            labelled = structure.images_with_labels(data[1])
            if images is not None and labelled is not None:
                return images, labelled
        raise structure.wrong(
            "images (b, H, W, C) with alpha=1, and (images, (labelled_images, labels)), labels "
            "integers (c,), with alpha below 1",
            data,
            "Labels are only for alpha below 1.",
            f"alpha={self.alpha}, ",
        )

    def _distill(self, images, logits, weights=None):
        """Maps images and the student's logits (b, C) for them to losses (b,)."""
        teacher_logits = self._teach(images)
        losses = objectives.distillation_per_example(logits, teacher_logits, self.temperature)
        agree = tf.equal(tf.argmax(logits, -1), tf.argmax(teacher_logits, -1))
        self.distill_loss.update_state(losses, weights)
        self.teacher_agreement.update_state(tf.cast(agree, tf.float32), weights)
        return losses

    def _classify(self, labels, logits, weights=None):
        """Maps labels (c,) and the student's logits (c, C) to losses (c,)."""
        losses = cross_entropy(labels, logits)
        self.label_loss.update_state(losses, weights)
        self.top_1.update_state(labels, logits, weights)
        return losses

    def _weighted(self, distill_loss, label_loss=0.0):
        if self.squared_temperature:
            distill_loss *= self.temperature**2
        return (1 - self.alpha) * label_loss + self.alpha * distill_loss
