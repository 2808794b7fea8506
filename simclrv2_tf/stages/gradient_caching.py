"""Gradient caching: the exact loss and gradients of a batch, with the memory of a micro-batch.

A batch passes the network twice, a micro-batch at a time, so that memory holds the activations of
one micro-batch only (Gao et al., arXiv 2101.06983). The first pass, without gradients, gives
all embeddings, and their loss gives the gradient at each embedding. The second pass propagates
that gradient to the weights. Loss and gradients are exact, except that batch norm uses the
statistics of a micro-batch. The moving statistics are updated once, with the whole batch's.
"""

from collections.abc import Callable, Sequence

import tensorflow as tf

from simclrv2_tf import batch_norm, distribute


def loss_and_gradients(
    network: Callable, loss: Callable, views: Sequence, variables: Sequence, size: int
) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """Returns this replica's loss and its share of the gradients, see `Stage.loss_and_gradients`.

    Args:
        network: `network(views)` of v views (m, ...) returns tensors (v * m, ...), the embeddings
            first, one view after the other.
        loss: `loss(*outputs)` of the network's outputs for the whole batch returns a scalar.
        views: v batches of images (b, S, S, channels).
        variables: Keras variables to differentiate with respect to.
        size: m, images per micro-batch; it must divide b.

    Raises:
        ValueError: `size` does not divide b.
    """
    embeddings, *others = in_parts(network, views, size)
    # For Keras variables, the tape does not return zeros for missing gradients.
    variables = [v.value for v in variables]
    with tf.GradientTape() as tape:
        tape.watch(embeddings)
        value = loss(embeddings, *others)
        scaled = value / distribute.replica_count()
    upstream, *direct = tape.gradient(
        scaled, [embeddings, *variables], unconnected_gradients=tf.UnconnectedGradients.ZERO
    )
    upstream = [_parts(x, size) for x in tf.split(upstream, len(views))]
    parts = [_parts(view, size) for view in views]

    def backpropagate(index):
        with batch_norm.statistics_held_back(), tf.GradientTape() as tape:
            embeddings, *_ = network([view[index] for view in parts])
        ours = tf.cast(tf.concat([x[index] for x in upstream], 0), embeddings.dtype)
        return tape.gradient(
            embeddings, variables, ours, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )

    return value, distribute.in_turn_summed(backpropagate, parts[0].shape[0], direct)


def in_parts(network: Callable, views: Sequence, size: int) -> list[tf.Tensor]:
    """Returns the network's outputs (v * b, ...) in float32, by micro-batches, without gradient.

    Updates the moving statistics once. Args and errors as for `loss_and_gradients`.
    """
    parts = [_parts(view, size) for view in views]

    def forward(index):
        with batch_norm.statistics_held_back() as statistics:
            outputs = network([view[index] for view in parts])
        layers[:] = [layer for layer, _, _ in statistics]
        moments = [moment for _, *both in statistics for moment in both]
        # With views as the first axis, stacking keeps the batch's order in each view.
        outputs = [tf.stack(tf.split(x, len(parts))) for x in outputs]
        numbers[:] = [len(outputs)]
        return [tf.cast(x, tf.float32) for x in (*outputs, *moments)]

    layers: list[batch_norm.BatchNorm] = []
    numbers: list[int] = []
    results = distribute.in_turn(forward, parts[0].shape[0])
    outputs, moments = results[: numbers[0]], results[numbers[0] :]
    for layer, means, variances in zip(layers, moments[::2], moments[1::2], strict=True):
        mean = tf.reduce_mean(means, 0)
        spread = variances + tf.square(means - mean)
        layer.update_moving(mean, tf.reduce_mean(spread, 0))
    # (K, v, m, d), K micro-batches of v views, to (v * K * m, d), one view after the other.
    return [tf.reshape(tf.transpose(x, (1, 0, 2, 3)), (-1, x.shape[-1])) for x in outputs]


def _parts(batch, size):
    """Reshapes (b, ...) to (K, m, ...), K micro-batches of m."""
    count = batch.shape[0]
    if count is None or count % size:
        raise ValueError(
            "`micro_batch_size` must divide the batch of a replica, whose size must be known "
            f"when traced. Received: micro_batch_size={size} for {count}"
        )
    return tf.reshape(batch, (-1, size, *batch.shape[1:]))
