"""Replicas: the strategy by name, and the only home of collectives.

Everything here is the identity with one replica, so that the mathematics above it is written once.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

STRATEGIES = ("auto", "default", "mirrored", "multi_worker", "tpu")


class DeviceError(ValueError):
    """The devices asked for are not there; the message is meant for the user."""


def make_strategy(
    name: str = "auto",
    num_replicas: int = 0,
    tpu_name: str | None = None,
    tpu_zone: str | None = None,
    gcp_project: str | None = None,
) -> tf.distribute.Strategy:
    """Returns the `tf.distribute` strategy called `name`; has to come before other use of devices.

    Args:
        name: One of
            `"default"`: one device.
            `"mirrored"`: all visible GPUs of this machine, or logical CPUs.
            `"multi_worker"`: all GPUs of each process that `TF_CONFIG` in the environment names, or
            the CPU of each; every one of these processes runs the same program.
            `"tpu"`: all cores of a TPU. Not yet run on one.
            `"auto"`: multi_worker where `TF_CONFIG` names several workers; else mirrored where
            there are several GPUs or `num_replicas` asks for several replicas; else default.
        num_replicas: Replicas for `"mirrored"`: GPUs, or where there are none logical devices of
            the CPU, which have to be made before TensorFlow is first used. 0 takes all visible
            GPUs, or one CPU.
        tpu_name: Name or address of a Cloud TPU; None for that of this machine (Colab, TPU VM).
        tpu_zone, gcp_project: Its zone and project, where the environment does not tell.

    Raises:
        DeviceError: more replicas asked for than there are GPUs, or than logical CPUs in a process
            where TensorFlow has started; `TF_CONFIG` is missing or wrong; no TPU, or none that
            this TensorFlow can use.
        ValueError: unknown `name`.
    """
    if name not in STRATEGIES:
        raise ValueError(f"`strategy` must be one of {STRATEGIES}. Received: strategy={name!r}")
    if name == "tpu":
        return _tpu_strategy(tpu_name, tpu_zone, gcp_project)
    if name == "multi_worker" or (name == "auto" and "TF_CONFIG" in os.environ):
        num_workers = _num_workers()
        if name == "multi_worker" or num_workers > 1:
            if num_replicas:
                raise DeviceError(
                    "`num_replicas` must be 0 with several workers, which take every device of "
                    f"each. Received: num_replicas={num_replicas}, TF_CONFIG names {num_workers}"
                )
            return _multi_worker_strategy()
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
        # A replica that waits for the others in a collective holds a thread. With fewer threads
        # than replicas those that wait keep out those that are waited for.
        if not tf.config.threading.get_inter_op_parallelism_threads():
            threads = max(os.cpu_count() or 1, 2 * count)
            tf.config.threading.set_inter_op_parallelism_threads(threads)
    except RuntimeError:
        raise DeviceError(
            "`num_replicas` logical CPUs must be made before TensorFlow is first used: make the "
            f"strategy first. Received: num_replicas={count}"
        ) from None


def _num_workers() -> int:
    """The number of workers that `TF_CONFIG` names, once it is known to be right."""
    text = os.environ.get("TF_CONFIG", "")

    def wrong(what: str) -> DeviceError:
        return DeviceError(
            f"strategy='multi_worker' needs the environment variable TF_CONFIG in each process, "
            f"such as {_TF_CONFIG_EXAMPLE}, with its own index in each; {what}. "
            f"Received: TF_CONFIG={text or None}"
        )

    try:
        value = json.loads(text) if text else None
    except json.JSONDecodeError as error:
        raise wrong(f"this is no JSON ({error})") from None
    if value is None:
        raise wrong("there is none")
    task = value.get("task", {}) if isinstance(value, dict) else {}
    cluster = value.get("cluster") if isinstance(value, dict) else None
    if not (
        isinstance(cluster, dict)
        and all(isinstance(hosts, list) and hosts for hosts in cluster.values())
        and isinstance(task, dict)
        and isinstance(task.get("index"), int)
    ):
        raise wrong("it must have a `cluster` of address lists, and the `task` of this process")
    others = sorted(cluster.keys() - {"chief", "worker"})
    if others or task.get("type") not in cluster:
        raise wrong(
            "all tasks must be of type worker, or one of type chief: this one is of type "
            f"{task.get('type')!r} in a cluster of {sorted(cluster)}"
        )
    if not 0 <= task["index"] < len(cluster[task["type"]]):
        raise wrong(f"the cluster has no {task['type']} of index {task['index']}")
    return sum(map(len, cluster.values()))


_TF_CONFIG_EXAMPLE = (
    """{"cluster": {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]}, """
    """"task": {"type": "worker", "index": 0}}"""
)


def _multi_worker_strategy() -> tf.distribute.Strategy:
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except (RuntimeError, tf.errors.OpError) as error:
        raise DeviceError(
            f"The workers of TF_CONFIG could not be connected ({str(error).splitlines()[0]}). Each "
            "must run this same command, can be reached at its address, and makes its strategy "
            "before TensorFlow is first used."
        ) from error


def _tpu_strategy(name, zone, project) -> tf.distribute.Strategy:
    try:
        importlib.metadata.version("tensorflow-tpu")
    except importlib.metadata.PackageNotFoundError:
        # Asked first: without kernels the resolver would try a metadata server for minutes.
        raise DeviceError(
            "strategy='tpu' (or use_tpu) needs a TensorFlow with TPU kernels, which the package "
            "tensorflow has not: install tensorflow-tpu==2.20.0 with libtpu==0.0.24 in its place, "
            "on a machine with a TPU, or choose another strategy. Received: "
            f"tensorflow=={tf.__version__}"
        ) from None
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(
            tpu=name or "local", zone=zone, project=project
        )
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except (ValueError, RuntimeError, tf.errors.OpError) as error:
        # Its first line may be no more than "Graph execution error:".
        reason = " ".join(str(error).split())[:400]
        raise DeviceError(
            f"No TPU answers ({reason}). In Colab choose a TPU runtime; on a "
            "TPU VM leave `tpu_name` out, or choose another strategy. "
            f"Received: strategy='tpu', tpu_name={name!r}"
        ) from error
    return tf.distribute.TPUStrategy(resolver)


# --- Workers: the processes of one training ---------------------------------------------------


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process is the one that writes files; always, where there is only one."""
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return True
    resolver = strategy.cluster_resolver
    if "chief" in resolver.cluster_spec().jobs:
        return resolver.task_type == "chief"
    return resolver.task_id == 0


def barrier(strategy: tf.distribute.Strategy) -> None:
    """Waits until every worker has come to this line; at once where there is only one."""
    if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):

        @tf.function(autograph=False)
        def count():
            return strategy.reduce("SUM", strategy.run(lambda: tf.ones(())), axis=None)

        count().numpy()


def of_all_replicas(strategy: tf.distribute.Strategy, value: int) -> list[int]:
    """The value that the worker of each replica gives here; where there is one worker, its own."""
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return [value]

    @tf.function(autograph=False)
    def gather(value):
        return strategy.run(lambda: all_gather(tf.identity(value)))  # one made on the replica

    values = gather(tf.constant([value], tf.float32))  # exact to 16 million
    return [int(v) for v in strategy.experimental_local_results(values)[0].numpy()]


# --- Replicas: collectives inside of `strategy.run` -------------------------------------------


def replica_count() -> int:
    """Number of replicas in the current replica context; 1 outside of one."""
    context = tf.distribute.get_replica_context()
    return context.num_replicas_in_sync if context is not None else 1


def replica_id():
    """Index of this replica, from 0: an int32 scalar tensor, or 0 with one replica."""
    if replica_count() == 1:
        return 0
    return tf.cast(tf.distribute.get_replica_context().replica_id_in_sync_group, tf.int32)


def in_turn(function: Callable, count: int) -> list[tf.Tensor]:
    """`function(index)` for each index below `count`, one after the other, each result stacked.

    What one call holds in memory is free before the next begins. To be used in a step that is
    traced; not differentiable.

    Args:
        function: From an index, () int32, to a list of tensors, whose shapes do not depend on it.
            It may use the collectives below.

    Returns:
        The list, each tensor (count, ...).
    """
    if not _loops_hold_collectives():
        results = list(_unrolled(function, count))
        return [tf.stack(values) for values in zip(*results, strict=True)]
    # A loop has to know what comes out: tracing tells it, and that graph is thrown away.
    traced = tf.function(function, autograph=False).get_concrete_function(tf.constant(0))
    specs = [tf.TensorSpec(x.shape, x.dtype) for x in traced.structured_outputs]
    return tf.map_fn(function, tf.range(count), fn_output_signature=specs, parallel_iterations=1)


def in_turn_summed(function: Callable, count: int, zeros: Sequence) -> list[tf.Tensor]:
    """As `in_turn`, but the sum of the results.

    Args:
        zeros: What the sums begin with, of the results' shapes and types.
    """
    if not _loops_hold_collectives():
        sums = list(zeros)
        # As it comes in, so that one result is alive, not all.
        for result in _unrolled(function, count):
            sums[:] = [total + value for total, value in zip(sums, result, strict=True)]
        return sums

    def add(index, sums):
        result = function(index)
        return index + 1, [total + value for total, value in zip(sums, result, strict=True)]

    _, sums = tf.while_loop(
        lambda index, _: index < count, add, (tf.constant(0), list(zeros)), parallel_iterations=1
    )
    return sums


def _loops_hold_collectives() -> bool:
    """Whether the collectives work in TensorFlow's loops.

    Mirrored replicas meet by leaving their threads, which is not allowed in a loop.
    """
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

    Differentiable: the gradient that reaches this replica's `x` is the sum over all replicas.
    Every replica must hold the same number of rows.
    """
    if replica_count() == 1:
        return x
    rows = None if x.shape[0] is None else replica_count() * x.shape[0]
    gathered = tf.distribute.get_replica_context().all_gather(x, axis=0)
    return tf.ensure_shape(gathered, [rows, *x.shape[1:]])  # which the collective has forgotten


def all_reduce_mean(x):
    """Mean of `x` over replicas, differentiable; same shape as `x` (a tensor or a list of them).

    The gradient that reaches this replica's `x` is the mean over all replicas' gradients.
    """
    if replica_count() == 1:
        return x
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.MEAN, x)


def assign_each(function: Callable, variables: Sequence, others: Sequence) -> None:
    """Assigns `function(variable, other)` to each of `variables`, nothing being sent.

    Unlike `variable.assign` in a replica, which would average over replicas what is equal anyway.

    Args:
        function: From a variable and its other, as this replica has them, to a tensor of its shape.
        variables: Variables made under the strategy.
        others: For each, a variable made under it too.
    """

    def assign(strategy):
        for variable, other in zip(variables, others, strict=True):
            strategy.extended.update(
                variable, lambda v, w: v.assign(function(v, w)), args=(other,), group=False
            )

    # As Keras's optimizers do: on a TPU replicas do not leave their program for this.
    tf.__internal__.distribute.interim.maybe_merge_call(assign, tf.distribute.get_strategy())


def equal_on_replicas(value: tf.Tensor, name: str) -> keras.Variable:
    """A variable of which every replica has a copy, to be assigned the same everywhere.

    Nothing is sent when it is assigned; outside of a replica the first one's value is read.
    """
    return keras.Variable(
        value,
        trainable=False,
        dtype=value.dtype.name,
        autocast=False,
        name=name,
        synchronization="on_read",
        aggregation="only_first_replica",
    )
