"""Accuracy and calibration of any classifier of images."""

from collections.abc import Callable

from simclrv2_tf.metrics import Calibration
from simclrv2_tf.stages import structure
from simclrv2_tf.stages.base import Stage, accuracies, cross_entropy


class Evaluation(Stage):
    """Accuracy and calibration of any classifier of images, by `test_step`; trains nothing.

    Data: as for `Classifier`.

    Args:
        predict: `predict(images, training=False)`: (b, S, S, channels) in [0, 1] to logits (b, C).
        num_classes: C.
    """

    def __init__(self, predict: Callable, num_classes: int, **kwargs):
        super().__init__(**kwargs)
        # A function, as Keras would track a model among the stage's own.
        self._predict = lambda images: predict(images, training=False)
        self.accuracies = accuracies(num_classes)
        self.calibration = Calibration()

    def test_step(self, data):
        """Adds one batch; returns the metrics so far, by name."""
        images, labels, weights = structure.images_and_labels(data)
        labels, weights = structure.where_labelled(labels, weights)
        logits = self._predict(images)
        self.loss_tracker.update_state(cross_entropy(labels, logits), weights)
        for metric in (*self.accuracies, self.calibration):
            metric.update_state(labels, logits, weights)
        return self.get_metrics_result()
