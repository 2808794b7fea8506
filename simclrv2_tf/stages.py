"""The training stages as Keras models: pretraining, classifiers on the encoder, distillation.

A stage says what its loss is; the step around it is written once, in `Stage`. Stages work with
Keras's own `fit` on one device, and with `loop` under every `tf.distribute` strategy.
"""

from __future__ import annotations

from collections.abc import Callable

import keras
import tensorflow as tf

from simclrv2_tf import batch_norm, distribute, objectives
from simclrv2_tf.metrics import Calibration


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
        loss, gradients = self.loss_and_gradients(data)
        self.loss_tracker.update_state(loss)
        self.optimizer.apply(gradients, self.trainable_variables)
        return self.get_metrics_result()

    def loss_and_gradients(self, data, *more) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """This replica's loss with the penalty, and its share of the global batch's gradients.

        What more is given is handed to `training_loss`.

        The gradients belong to `trainable_variables`, in order; their sum over replicas, which the
        optimizer takes, is the gradient of the mean of the losses.
        """
        with tf.GradientTape() as tape:
            loss = self._penalized(self.training_loss(data, *more))
            scaled = loss / distribute.replica_count()
        return loss, tape.gradient(scaled, self.trainable_variables)

    def _penalized(self, loss):
        return loss if self.penalty is None else loss + self.penalty(self.trainable_variables)


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
            time, which must divide b: gradient caching (Gao et al., arXiv 2101.06983). The loss is
            that of the whole batch, with all its negatives, while the activations of only one
            micro-batch are alive; every image passes the network twice. Loss and gradients are
            exact for what the network then computes, in which batch norm takes the statistics of a
            micro-batch (both views of its images, of all replicas where it is global). The moving
            statistics are updated once a step, with the whole batch's.
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
            result = self._cached_gradients(self._network_views(views), labels, keys)
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

    def _cached_gradients(self, views, labels, keys):
        """`loss_and_gradients` by gradient caching."""
        embeddings, features = self._in_parts(self._network, views)
        # Keras's variables have no zeros for where a gradient does not reach them.
        variables = [v.value for v in self.trainable_variables]
        with tf.GradientTape() as tape:
            tape.watch(embeddings)
            loss = self._penalized(self._loss(embeddings, features, labels, keys))
            scaled = loss / distribute.replica_count()
        upstream, *direct = tape.gradient(
            scaled, [embeddings, *variables], unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        upstream = [self._parts(x) for x in tf.split(upstream, len(views))]
        parts = [self._parts(view) for view in views]

        def backpropagate(index):
            with batch_norm.statistics_held_back(), tf.GradientTape() as tape:
                embeddings, _ = self._network([view[index] for view in parts])
            ours = tf.cast(tf.concat([x[index] for x in upstream], 0), embeddings.dtype)
            return tape.gradient(
                embeddings, variables, ours, unconnected_gradients=tf.UnconnectedGradients.ZERO
            )

        return loss, distribute.in_turn_summed(backpropagate, parts[0].shape[0], direct)

    def _in_parts(self, network, views):
        """`network(views)` by micro-batches, moving statistics updated once, with all of them."""
        parts = [self._parts(view) for view in views]

        def forward(index):
            with batch_norm.statistics_held_back() as statistics:
                outputs = network([view[index] for view in parts])
            layers[:] = [layer for layer, _, _ in statistics]
            moments = [moment for _, *both in statistics for moment in both]
            # The views in a first axis: stacked, each comes out in the batch's order.
            outputs = [tf.stack(tf.split(x, len(parts))) for x in outputs]
            numbers[:] = [len(outputs)]
            return [tf.cast(x, tf.float32) for x in (*outputs, *moments)]

        layers, numbers = [], []
        results = distribute.in_turn(forward, parts[0].shape[0])
        outputs, moments = results[: numbers[0]], results[numbers[0] :]
        for layer, means, variances in zip(layers, moments[::2], moments[1::2], strict=True):
            mean = tf.reduce_mean(means, 0)
            spread = variances + tf.square(means - mean)
            layer.update_moving(mean, tf.reduce_mean(spread, 0))
        return [_views_first(x) for x in outputs]

    def _parts(self, batch):
        """(b, ...) to (K, m, ...), K micro-batches of m."""
        size = batch.shape[0]
        if size is None or size % self.micro_batch_size:
            raise ValueError(
                "`micro_batch_size` must divide the batch of a replica, whose size must be known "
                f"when traced. Received: micro_batch_size={self.micro_batch_size} for {size}"
            )
        return tf.reshape(batch, (-1, self.micro_batch_size, *batch.shape[1:]))

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
        probe_loss = tf.reduce_mean(_cross_entropy(labels, logits) * labelled)
        self.probe_loss.update_state(probe_loss)
        self.probe_accuracy.update_state(labels, logits, labelled)
        return loss + probe_loss


def _views_first(x):
    """(K, v, m, d), K micro-batches of v views, to (v * K * m, d), one view after the other."""
    return tf.reshape(tf.transpose(x, (1, 0, 2, 3)), (-1, x.shape[-1]))


class _ImageClassifier(Stage):
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


class Classifier(_ImageClassifier):
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
        super().__init__(encoder, classifier, head, **kwargs)
        top = min(5, classifier.output_shape[-1])
        self.top_1 = keras.metrics.SparseCategoricalAccuracy("top_1_accuracy")
        self.top_5 = keras.metrics.SparseTopKCategoricalAccuracy(top, "top_5_accuracy")

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


class Distiller(_ImageClassifier):
    """SimCLRv2's third stage (arXiv 2006.10029, section 2.2): a student learns a teacher's labels.

    The teacher gives class probabilities to images without labels (equation 2); with `alpha`
    below 1 the cross entropy of labelled images joins in (equation 3), each term a mean over its
    own batch:

        loss = (1 - alpha) * cross_entropy(labelled) + alpha * distillation(unlabelled).

    Data: images (b, S, S, 3) in [0, 1], alone or in a tuple of one, with `alpha` = 1, where there
    is no place for a label; else `(images, (labelled_images, labels))`, the latter (c, S, S, 3)
    and (c,). Both pass the student as one batch of b + c: batch norm takes its statistics over
    all of them, every image counting the same, and updates the moving ones once. In two passes
    the labelled images, however few, would be normalized by their own noisy statistics and make
    half of the moving ones, which inference applies to all images.

    Metrics: `distill_loss` (in nats, without `alpha` or the temperature's square),
    `teacher_agreement` (share of unlabelled images with the same argmax of student and teacher)
    and with `alpha` below 1 `label_loss` and `top_1_accuracy` of the labelled images.

    Args:
        encoder: The student's encoder, a model of `resnet.resnet`.
        classifier: The student's classifier, from features (b, w) to logits (b, C).
        teacher: `teacher(images, training=False)` to logits (b, C): a Keras model, a loaded
            SavedModel or any function. It is run in inference mode, gets no gradient, and is no
            part of the stage: neither its weights nor its checkpoints have it.
        head: Optional part of the student's projection head before the classifier.
        temperature: Of both softmaxes of the distillation loss, above 0.
        alpha: Weight of the distillation loss, in [0, 1].
        squared_temperature: Whether the distillation loss is multiplied by the squared temperature,
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
        objectives.check_temperature(temperature)
        if not 0 <= alpha <= 1:
            raise ValueError(f"`alpha` must be in [0, 1]. Received: alpha={alpha}")
        super().__init__(encoder, classifier, head, **kwargs)
        self.temperature = temperature
        self.alpha = alpha
        self.squared_temperature = squared_temperature

        def teach(images):
            return tf.stop_gradient(teacher(images, training=False))

        # A function, as Keras takes every model among its attributes for a part of itself.
        self._teach = teach
        self.distill_loss = keras.metrics.Mean("distill_loss")
        self.teacher_agreement = keras.metrics.Mean("teacher_agreement")
        if alpha < 1:
            self.label_loss = keras.metrics.Mean("label_loss")
            self.top_1 = keras.metrics.SparseCategoricalAccuracy("top_1_accuracy")

    def training_loss(self, data):
        images, labelled_images, labels = self._unpack(data)
        if labels is None:
            losses = self._distill(images, self(images, training=True))
            return self._weighted(tf.reduce_mean(losses))
        count = tf.shape(images)[0]
        logits = self(tf.concat([images, labelled_images], 0), training=True)  # (b + c, C)
        losses = self._distill(images, logits[:count])  # (b,)
        label_losses = self._classify(labels, logits[count:])  # (c,)
        return self._weighted(tf.reduce_mean(losses), tf.reduce_mean(label_losses))

    def test_step(self, data):
        """Loss and metrics of one batch in inference mode.

        Data: images, or `(image, label)` or `(image, label, weight)` as for `Classifier`; every
        image is distilled. Labels count with `alpha` below 1 only, as the training's; there one
        below 0 stands for none.
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
        """Images, labelled images and labels; the latter None with `alpha` = 1."""
        parts = data if isinstance(data, tuple) else (data,)
        if self.alpha == 1 and len(parts) == 1:
            return *parts, None, None
        if self.alpha < 1 and len(parts) == 2 and isinstance(parts[1], tuple):
            return parts[0], *parts[1]
        raise ValueError(
            "`data` must be images with alpha=1, and (images, (labelled_images, labels)) with "
            f"alpha below 1. Received: alpha={self.alpha}, data of shapes "
            f"{tf.nest.map_structure(lambda x: tuple(x.shape), data)}"
        )

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
        losses = _cross_entropy(labels, logits)
        self.label_loss.update_state(losses, weights)
        self.top_1.update_state(labels, logits, weights)
        return losses

    def _weighted(self, distill_loss, label_loss=0.0):
        if self.squared_temperature:
            distill_loss *= self.temperature**2
        return (1 - self.alpha) * label_loss + self.alpha * distill_loss


class Evaluation(Stage):
    """Accuracy and calibration of any classifier of images, by `test_step`; it trains nothing.

    Data: as for `Classifier`.

    Args:
        predict: `predict(images, training=False)`: (b, S, S, 3) in [0, 1] to logits (b, C). What
            it is made of is no part of the stage.
        num_classes: C.
    """

    def __init__(self, predict: Callable, num_classes: int, **kwargs):
        super().__init__(**kwargs)
        # A function, as Keras takes every model among its attributes for a part of itself.
        self._predict = lambda images: predict(images, training=False)
        self.top_1 = keras.metrics.SparseCategoricalAccuracy("top_1_accuracy")
        self.top_5 = keras.metrics.SparseTopKCategoricalAccuracy(
            min(5, num_classes), "top_5_accuracy"
        )
        self.calibration = Calibration()

    def test_step(self, data):
        """Adds one batch; returns the metrics so far, by name."""
        images, labels, weights = keras.utils.unpack_x_y_sample_weight(data)
        logits = self._predict(images)
        self.loss_tracker.update_state(_cross_entropy(labels, logits), weights)
        for metric in (self.top_1, self.top_5, self.calibration):
            metric.update_state(labels, logits, weights)
        return self.get_metrics_result()


def _cross_entropy(labels, logits):
    """(b,), (b, C) to (b,), in float32."""
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, tf.cast(logits, tf.float32))
