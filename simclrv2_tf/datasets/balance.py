"""An epoch in which each class is drawn equally often."""

import tensorflow as tf


def balanced_order(labels: tf.Tensor, epoch, draw: tf.Tensor) -> tf.Tensor:
    """Draws the order of an epoch of N examples, in which each class is as frequent as any other.

    Each of the C classes that occur is drawn N / C times, rounded up or down. The classes that are
    rounded up change from epoch to epoch: over any number of epochs the counts of two classes
    differ by at most one. The same holds for the examples of a class within an epoch: examples of a
    small class repeat, and examples of a large class are left out at random.

    Args:
        labels: (N,) integers, the classes.
        epoch: () int64, from 0.
        draw: (2,), a stateless seed of this epoch.

    Returns:
        (N,) int64, indices of `labels` in random order.
    """
    count = tf.size(labels, tf.int64)
    draws = tf.unstack(tf.random.split(draw, 2))
    indices = tf.range(count)
    classes = tf.unique(labels).idx  # (N,), from 0 to C - 1
    sizes = tf.math.bincount(classes, dtype=tf.int64)  # (C,)
    num_classes = tf.size(sizes, tf.int64)
    # The examples, class by class, each class in random order.
    mixed = tf.random.experimental.stateless_shuffle(indices, draws[0])
    members = tf.gather(mixed, tf.argsort(tf.gather(classes, mixed), stable=True))
    # The classes alternate, also across epochs; within a class, its examples alternate.
    turn = tf.math.floormod(epoch * count + indices, num_classes)
    place = tf.math.floormod(indices // num_classes, tf.gather(sizes, turn))
    drawn = tf.gather(members, tf.gather(tf.cumsum(sizes, exclusive=True), turn) + place)
    return tf.random.experimental.stateless_shuffle(drawn, draws[1])
