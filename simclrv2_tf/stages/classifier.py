"""Linear evaluation, fine-tuning and supervised training: a classifier on an encoder."""

import keras
import tensorflow as tf

from simclrv2_tf.stages.base import Stage, accuracies, check_data, cross_entropy


class ImageClassifier(Stage):
    """A stage whose network goes from images over an encoder and part of a head to logits."""

    def __init__(self, encoder, classifier, head=None, **kwargs):
        super().__init__(**kwargs)
        self.encoder = encoder
        self.head = head
        self.classifier = classifier

    def call(self, images, training=False):
        """Images (b, S, S, 3) to logits (b, C)."""
        features = self.encoder(images, training=training)
        if self.head is not None:
            features = self.head(features, training=training)
        return self.classifier(features, training=training)


class Classifier(ImageClassifier):
    """A classifier on an encoder: linear evaluation, fine-tuning, supervised training.

    Trains what is `trainable` in the models (see `resnet.freeze`); frozen batch norms stay in
    inference mode. Data: `(image, label)` or `(image, label, weight)` with images (b, S, S, 3) in
    [0, 1], labels (b,), weights (b,), 0 for the padding of a last batch.

    Args:
        encoder: A model of `resnet.resnet`.
        classifier: From features (b, w) to logits (b, C).
        head: Optional part of a projection head between the two (`heads.up_to`).
    """

    def __init__(self, encoder, classifier, head=None, **kwargs):
        super().__init__(encoder, classifier, head, **kwargs)
        self.accuracies = accuracies(classifier.output_shape[-1])

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
        words = "(image, label), and a weight where there is one: images (b, S, S, 3), labels (b,)"
        check_data((images, labels), (4, 1), words)
        logits = self(images, training=training)
        for metric in self.accuracies:
            metric.update_state(labels, logits, weights)
        return cross_entropy(labels, logits), weights
