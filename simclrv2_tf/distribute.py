"""Replicas: the strategy by name, and the only home of collectives.

Everything here is the identity with one replica, so that the mathematics above it is written once.
"""

from __future__ import annotations

import importlib.metadata

import tensorflow as tf


class DeviceError(ValueError):
    """The devices asked for are not there; the message is meant for the user."""


def make_strategy(name: str = "auto", num_replicas: int = 0) -> tf.distribute.Strategy:
    """Returns the `tf.distribute` strategy called `name`.

    Args:
        name: `"default"` (one device), `"mirrored"` (all visible GPUs, or logical CPUs), or
            `"auto"`: mirrored where there are several GPUs or `num_replicas` asks for several
            replicas, else default.
        num_replicas: Replicas for `"mirrored"`: GPUs, or where there are none logical devices of
            the CPU, which have to be made before TensorFlow is first used. 0 takes all visible
            GPUs, or one CPU.

    Raises:
        DeviceError: more replicas asked for than there are GPUs, or than logical CPUs in a process
            where TensorFlow has started.
        ValueError: unknown `name`.
    """
    if name not in ("auto", "default", "mirrored"):
        raise ValueError(
            f"`strategy` must be one of 'auto', 'default', 'mirrored'. Received: strategy={name!r}"
        )
    gpus = tf.config.list_physical_devices("GPU")
    count = num_replicas or max(1, len(gpus))
    if name == "default" or (name == "auto" and count == 1):
        return tf.distribute.get_strategy()
    if gpus:
        if count > len(gpus):
            raise DeviceError(
                f"`num_replicas` must be at most the number of visible GPUs, {len(gpus)}. "
                f"Received: num_replicas={count}"
            )
        return tf.distribute.MirroredStrategy([f"/gpu:{i}" for i in range(count)])
    _split_cpu(count)
    return tf.distribute.MirroredStrategy([f"/cpu:{i}" for i in range(count)])


def _split_cpu(count: int) -> None:
    cpu = tf.config.list_physical_devices("CPU")[0]
    if len(tf.config.get_logical_device_configuration(cpu) or [cpu]) >= count:
        return
    try:
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration()] * count
        )
    except RuntimeError:
        raise DeviceError(
            "`num_replicas` logical CPUs must be made before TensorFlow is first used: make the "
            f"strategy first. Received: num_replicas={count}"
        ) from None


def tpu_strategy(
    name: str | None = None, zone: str | None = None, project: str | None = None
) -> tf.distribute.Strategy:
    """Connects to a TPU and returns its strategy. Not yet run on a TPU.

    Args:
        name: Name or address of a Cloud TPU; None for the TPU of this machine (Colab, TPU VM).
        zone: Its zone, project: its project, where the environment does not tell.

    Raises:
        DeviceError: this TensorFlow has no TPU kernels, or no TPU answers.
    """
    try:
        importlib.metadata.version("tensorflow-tpu")
    except importlib.metadata.PackageNotFoundError:
        # Asked first: without kernels the resolver would try a metadata server for minutes.
        raise DeviceError(
            "`use_tpu` needs a TensorFlow with TPU kernels, which the package tensorflow has not: "
            "install tensorflow-tpu==2.20.0 with libtpu==0.0.24 in its place, on a machine with a "
            "TPU, or leave use_tpu out. Received: use_tpu=True"
        ) from None
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(
            tpu=name or "local", zone=zone, project=project
        )
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except (ValueError, RuntimeError, tf.errors.OpError) as error:
        raise DeviceError(
            f"No TPU answers ({str(error).splitlines()[0]}). In Colab choose a TPU runtime; on a "
            "TPU VM leave `tpu_name` out, or leave use_tpu out. "
            f"Received: use_tpu=True, tpu_name={name!r}"
        ) from error
    return tf.distribute.TPUStrategy(resolver)


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
