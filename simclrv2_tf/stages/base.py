"""The training step, the same for every stage."""

from collections.abc import Callable

import keras
import tensorflow as tf

from simclrv2_tf import distribute, processors


class Stage(keras.Model):
    """A model with its own loss, the base class of all stages.

    A subclass defines `training_loss(data)`, which returns the mean loss over this replica's
    examples, a float32 scalar, and updates the stage's metrics.

    Args:
        penalty: Optional function of the trainable variables; returns a scalar to add to the
            training loss: weight decay that the optimizer does not apply.
    """

    def __init__(self, penalty: Callable | None = None, **kwargs):
        super().__init__(**kwargs)
        self.penalty = penalty
        self.loss_tracker = keras.metrics.Mean("loss")
        # `fit` would otherwise call the model on the tuple of views.
        self.built = True
        # Functions traced by `training.loop`, by name, shared by all calls for this stage.
        self.traced: dict[str, Callable] = {}
        # The time that `training.loop` waited for data in the last training of this stage.
        self.waits = None

    def training_loss(self, data):
        raise NotImplementedError

    def train_step(self, data):
        """Updates from one batch of this replica; returns the metrics so far, by name."""
        self.update(data)
        return self.get_metrics_result()

    def answers(self, data) -> dict[str, tf.Tensor]:
        """Same as `test_step`, for callers that need more than metrics.

        Returns:
            The stage's outputs per example, (b,) tensors by name; empty by default.
        """
        self.test_step(data)
        return {}

    def update(self, data) -> None:
        """Updates the weights and the metrics from one batch of this replica."""
        with processors.faster_operations():
            loss, gradients = self.loss_and_gradients(data)
        self.loss_tracker.update_state(loss)
        self.apply(gradients)

    def apply(self, gradients) -> None:
        """Updates `trainable_variables` with this replica's share of their gradients."""
        self.optimizer.apply(gradients, self.trainable_variables)

    def loss_and_gradients(self, data, *more) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Returns this replica's loss with the penalty, and its share of the gradients.

        There is a gradient for each of `trainable_variables`; their sum over replicas, which the
        optimizer applies, is the gradient of the mean of the losses. `training_loss` receives
        `data` and `more`.
        """
        with tf.GradientTape() as tape:
            loss = self._penalized(self.training_loss(data, *more))
            scaled = loss / distribute.replica_count()
        return loss, tape.gradient(scaled, self.trainable_variables)

    def _penalized(self, loss):
        return loss if self.penalty is None else loss + self.penalty(self.trainable_variables)


def cross_entropy(labels, logits):
    """(b,), (b, C) to (b,), in float32."""
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, tf.cast(logits, tf.float32))


def accuracies(num_classes: int) -> list[keras.metrics.Metric]:
    """Top-1 and top-5 accuracy; with fewer than 5 classes, top-5 includes all."""
    return [
        keras.metrics.SparseCategoricalAccuracy("top_1_accuracy"),
        keras.metrics.SparseTopKCategoricalAccuracy(min(5, num_classes), "top_5_accuracy"),
    ]
