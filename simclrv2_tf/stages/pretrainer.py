"""Pretraining: agreement of two views of each image, without labels."""

from __future__ import annotations

from collections.abc import Callable

import keras
import tensorflow as tf

from simclrv2_tf import distribute
from simclrv2_tf.stages import gradient_caching
from simclrv2_tf.stages.base import Stage, cross_entropy


class Pretrainer(Stage):
    """SimCLRv2's first stage (arXiv 2006.10029, section 2): agreement of two views, no labels.

    Data: `((view1, view2), label)`, views (b, S, S, 3) in [0, 1], labels (b,), unused without a
    classifier; one below 0 stands for none. Both views pass the network as one batch of 2b, as in
    the reference: batch norm sees them together.

    Args:
        encoder: A model of `resnet.resnet`.
        head: A model of `heads.projection_head`.
        objective: `objective(z1, z2, training, **negatives)` takes two batches of embeddings (b, d)
            and returns a scalar loss and a dict of scalars with the keys of its `metric_names`.
        classifier: Optional linear classifier, trained beside the network on its stopped
            gradient for a running accuracy: no label reaches the encoder or the head.
        classifier_layer: Which of the head's hiddens feeds the classifier.
        micro_batch_size: Optional number of images that a replica passes through the network at a
            time, which must divide b: see `gradient_caching`. The loss is that of the whole batch,
            with all its negatives. Batch norm takes the statistics of a micro-batch (both views of
            its images, of all replicas where it is global).
        momentum: Optional `memory.MomentumNetwork`, which follows encoder and head; for `queue` or
            `momentum_views`.
        queue: Optional `memory.Queue`, whose embeddings the objective gets as `negatives` with
            `negatives_valid`, and which both views' outputs of `momentum` are then put in.
        momentum_views: Whether the second view's embeddings are those of `momentum`, which get no
            gradient, and the network sees the first views alone.

    Raises:
        ValueError: `micro_batch_size` is below 1, or when a batch comes in that it does not divide;
            `queue` or `momentum_views` without `momentum`, or both.
    """

    def __init__(
        self,
        encoder,
        head,
        objective,
        classifier=None,
        classifier_layer=0,
        micro_batch_size: int | None = None,
        momentum: Callable | None = None,
        queue=None,
        momentum_views: bool = False,
        **kwargs,
    ):
        if micro_batch_size is not None and micro_batch_size < 1:
            raise ValueError(
                f"`micro_batch_size` must be at least 1. Received: {micro_batch_size=}"
            )
        if momentum is None and (queue is not None or momentum_views):
            raise ValueError("`queue` and `momentum_views` need `momentum`. Received: None")
        if queue is not None and momentum_views:
            raise ValueError(
                "`queue` must be None with `momentum_views`: no objective has both. "
                f"Received: queue={queue}"
            )
        super().__init__(**kwargs)
        self.momentum = momentum
        self.queue = queue
        self.momentum_views = momentum_views
        self.micro_batch_size = micro_batch_size
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

    def training_loss(self, data, keys=None):
        views, labels = data
        if keys is None:
            keys = self._keys(views)
        return self._loss(*self._network(self._network_views(views)), labels, keys)

    def train_step(self, data):
        logs = super().train_step(data)
        if self.momentum is not None:
            self.momentum.update()
        return logs

    def test_step(self, data):
        """Losses and metrics of two views in inference mode, at the training's batch size."""
        views, labels = data
        outputs = self._in_inference(views, (-1, self.classifier_layer))
        self.loss_tracker.update_state(self._loss(*outputs, labels, training=False))
        return self.get_metrics_result()

    def loss_and_gradients(self, data):
        views, labels = data
        keys = self._keys(views)
        if self.micro_batch_size is None:
            result = super().loss_and_gradients(data, keys)
        else:
            result = gradient_caching.loss_and_gradients(
                self._network,
                lambda *outputs: self._penalized(self._loss(*outputs, labels, keys)),
                self._network_views(views),
                self.trainable_variables,
                self.micro_batch_size,
            )
        if self.queue is not None:
            # After the loss, so that no image of this batch was its own negative.
            for view in keys:
                self.queue.push(distribute.all_gather(view))
        return result

    def _network(self, views):
        """Views (b, S, S, 3) to embeddings (vb, d) and what the classifier reads (vb, w)."""
        images = tf.concat(views, 0)
        hiddens = self.head(self.encoder(images, training=True), training=True)
        return hiddens[-1], tf.stop_gradient(hiddens[self.classifier_layer])

    def representations(self, data) -> list[tf.Tensor]:
        """Representations and embeddings of both views, in inference mode.

        Returns:
            h1, h2 (b, f) and z1, z2 (b, d).
        """
        views, _ = data
        return [part for x in self._in_inference(views, (0, -1)) for part in tf.split(x, 2)]

    def _in_inference(self, views, layers) -> list[tf.Tensor]:
        """Hiddens of the head in inference mode, by micro-batches where these divide the views."""

        def network(views):
            hiddens = self.head(self.encoder(tf.concat(views, 0), training=False), training=False)
            return [hiddens[layer] for layer in layers]

        whole = self.micro_batch_size is None or views[0].shape[0] % self.micro_batch_size
        return network(views) if whole else self._in_parts(network, views)

    def _network_views(self, views):
        return views[:1] if self.momentum_views else views

    def _keys(self, views) -> list[tf.Tensor]:
        """What the momentum network makes of the views it is shown, (b, d) each."""
        if self.momentum is None:
            return []
        shown = views[1:] if self.momentum_views else views

        def network(views):
            return [self.momentum(tf.concat(views, 0))]

        [keys] = network(shown) if self.micro_batch_size is None else self._in_parts(network, shown)
        return tf.split(keys, len(shown))

    def _in_parts(self, network, views):
        return gradient_caching.in_parts(network, views, self.micro_batch_size)

    def _loss(self, embeddings, features, labels, keys=(), training=True):
        """Embeddings (vb, d) and features (vb, w) of v views to the loss, with metrics."""
        num_views = 1 if training and self.momentum_views else 2
        z1, z2 = (embeddings, *keys) if num_views == 1 else tf.split(embeddings, 2)
        negatives = {}
        if training and self.queue is not None:
            negatives = dict(negatives=self.queue.keys.value, negatives_valid=self.queue.valid())
        loss, metrics = self.objective(z1, z2, training=training, **negatives)
        metrics = {"contrast_loss": loss, **metrics}
        for tracker in self.contrast_trackers:
            tracker.update_state(metrics[tracker.name])
        if self.classifier is None:
            return loss
        logits = self.classifier(features)  # (vb, C)
        labels = tf.tile(labels, [num_views])
        labelled = tf.cast(labels >= 0, tf.float32)
        labels = tf.maximum(labels, 0)
        probe_loss = tf.reduce_mean(cross_entropy(labels, logits) * labelled)
        self.probe_loss.update_state(probe_loss)
        self.probe_accuracy.update_state(labels, logits, labelled)
        return loss + probe_loss
