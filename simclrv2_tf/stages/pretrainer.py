"""Pretraining: agreement of two views of each image, without labels."""

from collections.abc import Callable

import keras
import tensorflow as tf

from simclrv2_tf import distribute
from simclrv2_tf.options import check_sizes
from simclrv2_tf.stages import gradient_caching, structure
from simclrv2_tf.stages.base import Stage, cross_entropy


class Pretrainer(Stage):
    """SimCLRv2's first stage (arXiv 2006.10029, section 2): agreement of two views, without labels.

    Data: `((view1, view2), label)`, views (b, S, S, channels) in [0, 1], labels (b,), below 0 if
        unlabelled, and unused without a classifier. Both views pass the network as one batch of 2b,
        as in the reference, so that batch norm normalizes them together.

    Args:
        encoder: A model of `resnet.resnet`.
        head: A model of `heads.projection_head`.
        objective: `objective(z1, z2, training, **more)` takes two batches of embeddings (b, d)
            and returns a scalar loss and a dict of scalars with the keys of its `metric_names`.
            If it `takes_targets`, it receives the outputs of `predictor` instead of embeddings, and
            `targets`.
        classifier: Optional linear classifier for a running accuracy. Its gradient stops before
            the head: no label reaches the encoder or the head.
        classifier_layer: The head's layer that feeds the classifier.
        micro_batch_size: Optional number of images that a replica passes through the network at a
            time, see `gradient_caching`; it must divide b. The loss covers the whole batch. Batch
            norm uses the statistics of a micro-batch (both views of its images, over all replicas
            if it is global).
        momentum: Optional `memory.MomentumNetwork` of encoder and head, for `queue`,
            `momentum_views` or an objective with `momentum_targets`.
        queue: Optional `memory.Queue`. The objective receives its embeddings as `negatives` with
            `negatives_valid`; after the loss, `momentum`'s outputs for both views are pushed.
        momentum_views: Whether `momentum`, which receives no gradient, embeds the second views, and
            the network only receives the first views.
        predictor: A model of `heads.predictor`, for an objective that `takes_targets`.
        predictor_optimizer: Optional optimizer of the predictor, if its learning rate differs from
            the network's. Build it for `predictor.trainable_variables`.

    Raises:
        ValueError: `micro_batch_size` is below 1 or does not divide a batch; `momentum` is missing
            for `queue`, `momentum_views` or `momentum_targets`; `queue` and `momentum_views` are
            both given; only one of predictor and an objective with targets is given; or a batch has
            another structure.
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
        predictor=None,
        predictor_optimizer: keras.optimizers.Optimizer | None = None,
        **kwargs,
    ):
        if micro_batch_size is not None:
            check_sizes(micro_batch_size=micro_batch_size)
        if momentum is None and (queue is not None or momentum_views):
            raise ValueError(
                "`queue` and `momentum_views` need `momentum`. Received: momentum=None, "
                f"{queue=}, {momentum_views=}"
            )
        if queue is not None and momentum_views:
            raise ValueError(
                "`queue` must be None with `momentum_views`: no objective uses both. "
                f"Received: queue={queue}"
            )
        predicts = getattr(objective, "takes_targets", False)
        if predicts != (predictor is not None):
            raise ValueError(
                "`predictor` must only be given with an objective that takes targets, such as "
                f"`objectives.BYOL`. Received: {predictor=}, {objective=}"
            )
        self.momentum_targets = predicts and objective.momentum_targets
        if self.momentum_targets and momentum is None:
            raise ValueError(f"`momentum` must be given with {objective=}. Received: momentum=None")
        super().__init__(**kwargs)
        self.momentum = momentum
        self.predictor = predictor
        self.predictor_optimizer = predictor_optimizer
        self.queue = queue
        self.momentum_views = momentum_views
        self.micro_batch_size = micro_batch_size
        self.encoder = encoder
        self.head = head
        self.objective = objective
        self.classifier = classifier
        self.classifier_layer = classifier_layer
        names = ("contrast_loss", *objective.metric_names)
        self.contrast_trackers = [keras.metrics.Mean(name) for name in names]
        if classifier is not None:
            self.probe_loss = keras.metrics.Mean("probe_loss")
            self.probe_accuracy = keras.metrics.SparseCategoricalAccuracy("probe_accuracy")

    def training_loss(self, data, keys=None):
        views, labels = structure.views_and_labels(data)
        if keys is None:
            keys = self._keys(views)
        return self._loss_of(self._network(self._network_views(views)), labels, keys)

    def update(self, data):
        step = tf.identity(self.optimizer.iterations.value)
        super().update(data)
        if self.momentum is not None:
            self.momentum.update(step)

    def apply(self, gradients):
        if self.predictor_optimizer is None:
            super().apply(gradients)
            return
        pairs = list(zip(gradients, self.trainable_variables, strict=True))
        own = set(map(id, self.predictor.trainable_variables))
        for optimizer, mine in ((self.optimizer, False), (self.predictor_optimizer, True)):
            selected = [pair for pair in pairs if (id(pair[1]) in own) == mine]
            optimizer.apply(*map(list, zip(*selected, strict=True)))

    def test_step(self, data):
        """Computes losses and metrics of two views in inference mode, at the training batch."""
        views, labels = structure.views_and_labels(data)
        embeddings, features = self._in_inference(views, (-1, self.classifier_layer))
        outputs, targets = embeddings, ()
        if self.predictor is not None:
            outputs = self.predictor(embeddings, training=False)
            if self.momentum_targets:
                [embeddings] = self._by_parts(
                    lambda views: [self.momentum(tf.concat(views, 0), training=False)], views
                )
            targets = tf.split(embeddings, 2)
        self.loss_tracker.update_state(
            self._loss(outputs, features, labels, targets, training=False)
        )
        return self.get_metrics_result()

    def loss_and_gradients(self, data):
        views, labels = structure.views_and_labels(data)
        keys = self._keys(views)
        if self.micro_batch_size is None:
            result = super().loss_and_gradients(data, keys)
        else:
            result = gradient_caching.loss_and_gradients(
                self._network,
                lambda *outputs: self._penalized(self._loss_of(outputs, labels, keys)),
                self._network_views(views),
                self.trainable_variables,
                self.micro_batch_size,
            )
        if self.queue is not None:
            # After the loss, so that no image of this batch is its own negative.
            for view in keys:
                self.queue.push(distribute.all_gather(view))
        return result

    def _hiddens(self, views, training):
        return self.head(self.encoder(tf.concat(views, 0), training=training), training=training)

    def _network(self, views):
        """Maps views (b, S, S, channels) to the inputs of the objective and the classifier.

        Returns the embeddings or, with a predictor, its outputs (vb, d); without gradient, the
        classifier's features (vb, w) and, with a predictor, the embeddings (vb, d).
        """
        hiddens = self._hiddens(views, training=True)
        features = tf.stop_gradient(hiddens[self.classifier_layer])
        if self.predictor is None:
            return hiddens[-1], features
        predictions = self.predictor(hiddens[-1], training=True)
        return predictions, features, tf.stop_gradient(hiddens[-1])

    def _loss_of(self, outputs, labels, keys):
        """Computes the loss from the outputs of `_network` and the momentum embeddings."""
        embeddings, features, *own = outputs
        if own and not self.momentum_targets:
            keys = tf.split(own[0], 2)
        return self._loss(embeddings, features, labels, keys)

    def representations(self, data) -> list[tf.Tensor]:
        """Returns representations h1, h2 (b, f) and embeddings z1, z2 (b, d), in inference mode."""
        views, _ = structure.views_and_labels(data)
        return [part for x in self._in_inference(views, (0, -1)) for part in tf.split(x, 2)]

    def _in_inference(self, views, layers) -> list[tf.Tensor]:
        """Returns the head's layers in inference mode, by micro-batches if these fit."""

        def network(views):
            hiddens = self._hiddens(views, training=False)
            return [hiddens[layer] for layer in layers]

        return self._by_parts(network, views)

    def _by_parts(self, network, views):
        size = self.micro_batch_size
        if size is None or views[0].shape[0] % size:
            return network(views)
        return gradient_caching.in_parts(network, views, size)

    def _network_views(self, views):
        return views[:1] if self.momentum_views else views

    def _keys(self, views) -> list[tf.Tensor]:
        """Returns the momentum network's embeddings, (b, d) for each of its views."""
        if self.momentum is None:
            return []
        shown = views[1:] if self.momentum_views else views

        def network(views):
            return [self.momentum(tf.concat(views, 0))]

        size = self.micro_batch_size
        [keys] = network(shown) if size is None else gradient_caching.in_parts(network, shown, size)
        return tf.split(keys, len(shown))

    def _loss(self, embeddings, features, labels, keys=(), training=True):
        """Maps embeddings (vb, d) and features (vb, w) of v views to the loss; adds metrics.

        `keys` are the second views' embeddings by the momentum network or, with a predictor, the
        targets of both views.
        """
        num_views = 1 if training and self.momentum_views else 2
        z1, z2 = (embeddings, *keys) if num_views == 1 else tf.split(embeddings, 2)
        more = {}
        if training and self.queue is not None:
            more = dict(negatives=self.queue.keys.value, negatives_valid=self.queue.valid())
        if self.predictor is not None:
            more = dict(targets=keys)
        loss, metrics = self.objective(z1, z2, training=training, **more)
        metrics = {"contrast_loss": loss, **metrics}
        for tracker in self.contrast_trackers:
            tracker.update_state(metrics[tracker.name])
        if self.classifier is None:
            return loss
        logits = self.classifier(features)  # (vb, C)
        labels = tf.tile(labels, [num_views])
        labels, labelled = structure.where_labelled(labels)
        probe_loss = tf.reduce_mean(cross_entropy(labels, logits) * labelled)
        self.probe_loss.update_state(probe_loss)
        self.probe_accuracy.update_state(labels, logits, labelled)
        return loss + probe_loss
