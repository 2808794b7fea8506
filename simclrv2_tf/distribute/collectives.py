"""Collectives for use inside `strategy.run`; the identity with one replica.

Replicas need TensorFlow: with another Keras backend there is always one.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import keras
from etils import epy

with epy.lazy_imports():
    import tensorflow as tf


def replica_count() -> int:
    """Returns the number of replicas in the current replica context; 1 outside a context."""
    if keras.backend.backend() != "tensorflow":
        return 1
    context = tf.distribute.get_replica_context()
    return context.num_replicas_in_sync if context is not None else 1


def replica_id():
    """Returns the index of this replica, from 0: an int32 scalar tensor, or 0 with one replica."""
    if replica_count() == 1:
        return 0
    return tf.cast(tf.distribute.get_replica_context().replica_id_in_sync_group, tf.int32)


def in_turn(function: Callable, count: int) -> list[tf.Tensor]:
    """Calls `function(index)` for each index below `count`, one after the other; stacks results.

    Frees the memory of a call before the next begins. For traced steps; not differentiable.

    Args:
        function: Function of an index, () int32, that returns a list of tensors, whose shapes do
            not depend on the index. It may use collectives.

    Returns:
        The list, each tensor (count, ...).
    """
    if not _loops_hold_collectives():
        results = list(_unrolled(function, count))
        return [tf.stack(values) for values in zip(*results, strict=True)]
    # A loop needs the shapes of its results: this graph, otherwise unused, gives them.
    traced = tf.function(function, autograph=False).get_concrete_function(tf.constant(0))
    specs = [tf.TensorSpec(x.shape, x.dtype) for x in traced.structured_outputs]
    return tf.map_fn(function, tf.range(count), fn_output_signature=specs, parallel_iterations=1)


def in_turn_summed(function: Callable, count: int, zeros: Sequence) -> list[tf.Tensor]:
    """Same as `in_turn`, but returns the sum of the results, added to `zeros` one by one."""

    def add(sums, result):
        return [total + value for total, value in zip(sums, result, strict=True)]

    if not _loops_hold_collectives():
        return functools.reduce(add, _unrolled(function, count), list(zeros))
    _, sums = tf.while_loop(
        lambda index, _: index < count,
        lambda index, sums: (index + 1, add(sums, function(index))),
        (tf.constant(0), list(zeros)),
        parallel_iterations=1,
    )
    return sums


def _loops_hold_collectives() -> bool:
    """Whether collectives work in loops: mirrored replicas synchronize outside their threads."""
    strategy = tf.distribute.get_strategy()
    return replica_count() == 1 or isinstance(strategy, tf.distribute.TPUStrategy)


def _unrolled(function, count):
    previous = []
    for index in range(count):
        with tf.control_dependencies(previous):
            turn = tf.identity(tf.constant(index))
        previous = function(turn)
        yield previous


def all_gather(x):
    """Concatenates `x` of every replica along the first axis: (b, ...) -> (R * b, ...).

    Differentiable: the gradient of this replica's `x` is summed over all replicas. Every replica
    must hold the same number of rows.
    """
    if replica_count() == 1:
        return x
    rows = None if x.shape[0] is None else replica_count() * x.shape[0]
    gathered = tf.distribute.get_replica_context().all_gather(x, axis=0)
    return tf.ensure_shape(gathered, [rows, *x.shape[1:]])  # the collective loses the shape


def all_reduce_mean(x):
    """Returns the mean over replicas of one or several tensors; its gradient is also a mean."""
    if replica_count() == 1:
        return x
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.MEAN, x)


def assign_each(function: Callable, variables: Sequence, others: Sequence) -> None:
    """Assigns `function(variable, other)` to each of `variables`, without communication.

    `variable.assign` in a replica would average over replicas, although the values are equal.

    Args:
        function: Function of a variable and its counterpart, on this replica, that returns a tensor
            of the variable's shape.
        variables: Variables created under the strategy.
        others: For each variable, its counterpart, created under the same strategy.
    """

    def assign(strategy):
        for variable, other in zip(variables, others, strict=True):
            strategy.extended.update(
                variable, lambda v, w: v.assign(function(v, w)), args=(other,), group=False
            )

    # Same as Keras's optimizers: on a TPU, replicas do not leave their program for this.
    tf.__internal__.distribute.interim.maybe_merge_call(assign, tf.distribute.get_strategy())


def equal_on_replicas(value, name: str) -> keras.Variable:
    """Creates a variable with a copy on every replica; every replica must assign the same value.

    Assigning does not communicate; outside a replica, the variable has the first replica's value.
    """
    return keras.Variable(
        value,
        trainable=False,
        dtype=keras.backend.standardize_dtype(value.dtype),
        autocast=False,
        name=name,
        synchronization="on_read",
        aggregation="only_first_replica",
    )
