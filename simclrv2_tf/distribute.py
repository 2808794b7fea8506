"""Replicas: the strategy by name, and the only home of collectives.

Everything here is the identity with one replica, so that the mathematics above it is written once.
"""

from __future__ import annotations

import tensorflow as tf


def make_strategy(name: str = "auto", num_replicas: int = 0) -> tf.distribute.Strategy:
    """Returns the `tf.distribute` strategy called `name`.

    Args:
        name: `"default"` (one device), `"mirrored"` (all visible GPUs, or logical CPUs), or
            `"auto"`: mirrored where there is more than one GPU or `num_replicas` asks for more
            than one, else default.
        num_replicas: Replicas for `"mirrored"`; 0 takes all visible GPUs, or one CPU. More than
            the visible GPUs (or any number, without GPUs) splits the CPU in logical devices,
            which has to happen before TensorFlow is first used.

    Raises:
        ValueError: unknown `name`, or more replicas asked for than there are GPUs.
        RuntimeError: logical CPUs asked for after TensorFlow has started its devices.
    """
    gpus = tf.config.list_logical_devices("GPU") if num_replicas == 0 else []
    if name == "auto":
        name = "mirrored" if max(num_replicas, len(gpus)) > 1 else "default"
    if name == "default":
        return tf.distribute.get_strategy()
    if name != "mirrored":
        raise ValueError(
            f"`strategy` must be one of 'auto', 'default', 'mirrored'. Received: strategy={name!r}"
        )
    if num_replicas == 0:
        return tf.distribute.MirroredStrategy([d.name for d in gpus] or ["/cpu:0"])
    return tf.distribute.MirroredStrategy(_devices(num_replicas))


def _devices(count: int) -> list[str]:
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        if count > len(gpus):
            raise ValueError(
                f"`num_replicas` must be at most the number of visible GPUs, {len(gpus)}. "
                f"Received: num_replicas={count}"
            )
        return [f"/gpu:{i}" for i in range(count)]
    cpu = tf.config.list_physical_devices("CPU")[0]
    configured = tf.config.get_logical_device_configuration(cpu) or []
    if len(configured) < count:
        try:
            tf.config.set_logical_device_configuration(
                cpu, [tf.config.LogicalDeviceConfiguration()] * count
            )
        except RuntimeError as error:
            raise RuntimeError(
                f"`num_replicas`={count} logical CPUs must be set up before TensorFlow is first "
                "used in this process: make the strategy first."
            ) from error
    return [f"/cpu:{i}" for i in range(count)]


def replica_count() -> int:
    """Number of replicas in the current replica context; 1 outside of one."""
    context = tf.distribute.get_replica_context()
    return context.num_replicas_in_sync if context is not None else 1


def replica_id():
    """Index of this replica, from 0: an int32 scalar tensor, or 0 with one replica."""
    if replica_count() == 1:
        return 0
    return tf.cast(tf.distribute.get_replica_context().replica_id_in_sync_group, tf.int32)


def all_gather(x):
    """Concatenates `x` of every replica along the first axis: (b, ...) -> (R * b, ...).

    Differentiable: the gradient that reaches this replica's `x` is the sum over all replicas.
    Every replica must hold the same number of rows.
    """
    if replica_count() == 1:
        return x
    return tf.distribute.get_replica_context().all_gather(x, axis=0)


def all_reduce_mean(x):
    """Mean of `x` over replicas, differentiable; same shape as `x` (a tensor or a list of them).

    The gradient that reaches this replica's `x` is the mean over all replicas' gradients.
    """
    if replica_count() == 1:
        return x
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.MEAN, x)
