"""Accuracy and calibration of any classifier of images."""

from collections.abc import Callable

import tensorflow as tf

from simclrv2_tf.metrics import Calibration
from simclrv2_tf.stages import structure
from simclrv2_tf.stages.base import Stage, accuracies, cross_entropy


class Evaluation(Stage):
    """Measures accuracy and calibration of any image classifier in `test_step`; trains nothing.

    Data: as for `Classifier`.

    Args:
        predict: `predict(images, training=False)`: (b, S, S, channels) in [0, 1] to logits (b, C).
        num_classes: C.
    """

    def __init__(self, predict: Callable, num_classes: int, **kwargs):
        super().__init__(**kwargs)
        # A function, because Keras would track a model as part of the stage.
        self._predict = lambda images: predict(images, training=False)
        self.accuracies = accuracies(num_classes)
        self.calibration = Calibration()

    def test_step(self, data):
        """Adds one batch; returns the metrics so far, by name."""
        self.answers(data)
        return self.get_metrics_result()

    def answers(self, data):
        """Adds one batch; returns the classifier's answer for each example.

        Returns:
            (b,) tensors by name: `label` and `predicted`, int64; `confidence`, float32, the softmax
            probability of `predicted`; and `counts`, int64, 0 for padding, unreadable and
            unlabelled images, else 1.
        """
        images, labels, weights = structure.images_and_labels(data)
        labels, weights = structure.where_labelled(labels, weights)
        logits = self._predict(images)
        self.loss_tracker.update_state(cross_entropy(labels, logits), weights)
        for metric in (*self.accuracies, self.calibration):
            metric.update_state(labels, logits, weights)
        return {
            "label": tf.cast(labels, tf.int64),
            "predicted": tf.argmax(logits, axis=-1),
            "confidence": tf.reduce_max(tf.nn.softmax(tf.cast(logits, tf.float32)), axis=-1),
            "counts": tf.ones_like(labels, tf.int64)
            if weights is None
            else tf.cast(weights > 0, tf.int64),
        }
