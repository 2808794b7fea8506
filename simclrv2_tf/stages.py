"""The training stages as Keras models: pretraining, and classifiers on the encoder.

A stage says what its loss is; the step around it is written once, in `Stage`. Stages work with
Keras's own `fit` on one device, and with `loop` under every `tf.distribute` strategy.
"""

from __future__ import annotations

from collections.abc import Callable

import keras
import tensorflow as tf

from simclrv2_tf import distribute


class Stage(keras.Model):
    """A model that owns its loss: the base of all stages.

    A subclass defines `training_loss(data)`, which returns the mean loss over this replica's
    examples, a float32 scalar, and updates the stage's metrics on the way.

    Args:
        penalty: Optional function from the trainable variables to a scalar that is added to the
            training loss: weight decay, as far as it is not the optimizer's.
    """

    def __init__(self, penalty: Callable | None = None, **kwargs):
        super().__init__(**kwargs)
        self.penalty = penalty
        self.loss_tracker = keras.metrics.Mean("loss")
        # Views come as a tuple, which `fit` would otherwise try to call the model on.
        self.built = True

    def training_loss(self, data):
        raise NotImplementedError

    def train_step(self, data):
        """One update from one batch of this replica; returns the metrics so far, by name."""
        with tf.GradientTape() as tape:
            loss = self.training_loss(data)
            if self.penalty is not None:
                loss += self.penalty(self.trainable_variables)
            # The optimizer sums gradients over replicas: divide by their number, once.
            scaled = loss / distribute.replica_count()
        self.loss_tracker.update_state(loss)
        variables = self.trainable_variables
        self.optimizer.apply(tape.gradient(scaled, variables), variables)
        return self.get_metrics_result()


class Pretrainer(Stage):
    """SimCLRv2's first stage (arXiv 2006.10029, section 2): agreement of two views, no labels.

    Data: `((view1, view2), label)`, views (b, S, S, 3) in [0, 1], labels (b,), unused without a
    classifier; one below 0 stands for none. Both views pass the network as one batch of 2b, as in
    the reference: batch norm sees them together.

    Args:
        encoder: A model of `resnet.resnet`.
        head: A model of `heads.projection_head`.
        objective: Takes two batches of embeddings (b, d) and returns a scalar loss and a dict of
            scalars with the keys of its `metric_names`.
        classifier: Optional linear classifier, trained beside the network on its stopped
            gradient for a running accuracy: no label reaches the encoder or the head.
        classifier_layer: Which of the head's hiddens feeds the classifier.
    """

    def __init__(self, encoder, head, objective, classifier=None, classifier_layer=0, **kwargs):
        super().__init__(**kwargs)
        self.encoder = encoder
        self.head = head
        self.objective = objective
        self.classifier = classifier
        self.classifier_layer = classifier_layer
        self.contrast_trackers = [
            keras.metrics.Mean(name) for name in ("contrast_loss", *objective.metric_names)
        ]
        if classifier is not None:
            self.probe_loss = keras.metrics.Mean("probe_loss")
            self.probe_accuracy = keras.metrics.SparseCategoricalAccuracy("probe_accuracy")

    def training_loss(self, data):
        return self._mean_loss(data, training=True)

    def test_step(self, data):
        """Losses and metrics of two views in inference mode, at the training's batch size."""
        self.loss_tracker.update_state(self._mean_loss(data, training=False))
        return self.get_metrics_result()

    def _mean_loss(self, data, training):
        (view1, view2), labels = data
        views = tf.concat([view1, view2], 0)  # (2b, S, S, 3)
        hiddens = self.head(self.encoder(views, training=training), training=training)
        embedding1, embedding2 = tf.split(hiddens[-1], 2)  # (b, d) each
        loss, metrics = self.objective(embedding1, embedding2)
        metrics = {"contrast_loss": loss, **metrics}
        for tracker in self.contrast_trackers:
            tracker.update_state(metrics[tracker.name])
        if self.classifier is None:
            return loss
        logits = self.classifier(tf.stop_gradient(hiddens[self.classifier_layer]))  # (2b, C)
        labels = tf.concat([labels, labels], 0)
        labelled = tf.cast(labels >= 0, tf.float32)
        labels = tf.maximum(labels, 0)
        probe_loss = tf.reduce_mean(_cross_entropy(labels, logits) * labelled)
        self.probe_loss.update_state(probe_loss)
        self.probe_accuracy.update_state(labels, logits, labelled)
        return loss + probe_loss


class Classifier(Stage):
    """A classifier on an encoder: linear evaluation, fine-tuning, supervised training.

    What trains is what is `trainable` in the models handed in (`resnet.freeze`); frozen batch
    norms stay in inference mode. Data: `(image, label)` or `(image, label, weight)` with images
    (b, S, S, 3) in [0, 1], labels (b,), weights (b,), 0 for the padding of a last batch.

    Args:
        encoder: A model of `resnet.resnet`.
        classifier: From features (b, w) to logits (b, C).
        head: Optional part of a projection head between the two (`heads.up_to`).
    """

    def __init__(self, encoder, classifier, head=None, **kwargs):
        super().__init__(**kwargs)
        self.encoder = encoder
        self.head = head
        self.classifier = classifier
        top = min(5, classifier.output_shape[-1])
        self.top_1 = keras.metrics.SparseCategoricalAccuracy("top_1_accuracy")
        self.top_5 = keras.metrics.SparseTopKCategoricalAccuracy(top, "top_5_accuracy")

    def call(self, images, training=False):
        """Images (b, S, S, 3) to logits (b, C)."""
        features = self.encoder(images, training=training)
        if self.head is not None:
            features = self.head(features, training=training)
        return self.classifier(features, training=training)

    def training_loss(self, data):
        losses, weights = self._example_losses(data, training=True)
        return tf.reduce_mean(losses if weights is None else losses * weights)

    def test_step(self, data):
        """Loss and accuracies of one batch in inference mode."""
        losses, weights = self._example_losses(data, training=False)
        self.loss_tracker.update_state(losses, weights)
        return self.get_metrics_result()

    def _example_losses(self, data, training):
        images, labels, weights = keras.utils.unpack_x_y_sample_weight(data)
        logits = self(images, training=training)
        self.top_1.update_state(labels, logits, weights)
        self.top_5.update_state(labels, logits, weights)
        return _cross_entropy(labels, logits), weights


def _cross_entropy(labels, logits):
    """(b,), (b, C) to (b,), in float32."""
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, tf.cast(logits, tf.float32))
