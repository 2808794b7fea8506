"""Linear evaluation, fine-tuning and supervised training: a classifier on an encoder."""

import tensorflow as tf

from simclrv2_tf.stages import structure
from simclrv2_tf.stages.base import Stage, accuracies, cross_entropy


class ImageClassifier(Stage):
    """A stage whose network maps images to logits by an encoder and part of a head."""

    def __init__(self, encoder, classifier, head=None, **kwargs):
        super().__init__(**kwargs)
        self.encoder = encoder
        self.head = head
        self.classifier = classifier

    def call(self, images, training=False):
        """Maps images (b, S, S, channels) to logits (b, C)."""
        features = self.encoder(images, training=training)
        if self.head is not None:
            features = self.head(features, training=training)
        return self.classifier(features, training=training)


class Classifier(ImageClassifier):
    """A classifier on an encoder: linear evaluation, fine-tuning, supervised training.

    Trains the `trainable` parts of the models (see `resnet.freeze`); frozen batch norms stay in
    inference mode. Data: `(image, label)` or `(image, label, weight)` with images (b, S, S,
    channels) in [0, 1], labels (b,), weights (b,), 0 for the padding of a last batch. A label below
    0 means unlabelled: such an image has weight 0 in evaluation, and is an error in training.

    Args:
        encoder: A model of `resnet.resnet`.
        classifier: A model from features (b, w) to logits (b, C).
        head: Optional part of a projection head between the two (`heads.up_to`).
        class_weights: (C,) factors of the training losses by class, at least 0; None: all 1.
            Metrics are not weighted, except for the training `loss`.

    Raises:
        ValueError: a batch has another structure, or the numbers of weights and classes differ.
        tf.errors.InvalidArgumentError: a training batch has an unlabelled image.
    """

    def __init__(self, encoder, classifier, head=None, class_weights=None, **kwargs):
        super().__init__(encoder, classifier, head, **kwargs)
        num_classes = classifier.output_shape[-1]
        self.accuracies = accuracies(num_classes)
        if class_weights is not None and len(class_weights) != num_classes:
            raise ValueError(
                f"`class_weights` must have one weight for each of {num_classes} classes. "
                f"Received: {len(class_weights)}"
            )
        self._class_weights = None if class_weights is None else tuple(map(float, class_weights))

    def training_loss(self, data):
        images, labels, weights = structure.images_and_labels(data)
        labels = structure.all_labelled(labels)
        losses = self._example_losses(images, labels, weights, training=True)
        if self._class_weights is not None:
            losses *= tf.gather(tf.constant(self._class_weights, tf.float32), labels)
        return tf.reduce_mean(losses if weights is None else losses * weights)

    def test_step(self, data):
        """Computes loss and accuracies of one batch in inference mode."""
        images, labels, weights = structure.images_and_labels(data)
        labels, weights = structure.where_labelled(labels, weights)
        losses = self._example_losses(images, labels, weights, training=False)
        self.loss_tracker.update_state(losses, weights)
        return self.get_metrics_result()

    def _example_losses(self, images, labels, weights, training):
        """Maps images (b, S, S, channels), labels and weights (b,) to losses (b,); adds metrics."""
        logits = self(images, training=training)
        for metric in self.accuracies:
            metric.update_state(labels, logits, weights)
        return cross_entropy(labels, logits)
