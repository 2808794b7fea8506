"""Strategies by name: the devices that a run trains on."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os

from etils import epy

from simclrv2_tf import options
from simclrv2_tf.errors import UserError
from simclrv2_tf.options import option

with epy.lazy_imports():
    import tensorflow as tf


class DeviceError(UserError):
    """Raised if the devices that a run needs are missing."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeviceOptions(options.Group, title="Devices", once=True, incidental=True):
    """The devices that a run trains on."""

    strategy: str = option(
        "auto",
        "default: one device. mirrored: a replica on each GPU, or on `num_replicas` logical CPUs. "
        "multi_worker: this command in each process that the environment variable TF_CONFIG names, "
        "with one model_dir that all can reach. tpu: every core of a TPU. auto: multi_worker if "
        "TF_CONFIG names several workers, mirrored if there are several GPUs or num_replicas is "
        "above 1, else default.",
        choices=("auto", "default", "mirrored", "multi_worker", "tpu"),
    )
    num_replicas: int = option(0, "Number of replicas; 0: every GPU, or one CPU.", minimum=0)
    use_tpu: bool = option(False, "Same as strategy=tpu; an error if there is no TPU.")
    tpu_name: str | None = option(
        None, "With a TPU: name or grpc address of the Cloud TPU, or `local`."
    )
    tpu_zone: str | None = option(None, "With a TPU: zone of the Cloud TPU.")
    gcp_project: str | None = option(None, "With a TPU: project of the Cloud TPU.")
    master: str | None = option(
        None, "With a TPU: address of the TensorFlow master, instead of `tpu_name`."
    )


def strategy_of(options: DeviceOptions) -> tf.distribute.Strategy:
    """Returns the strategy that `options` describe; errors as for `make_strategy`."""
    return make_strategy(
        "tpu" if options.use_tpu else options.strategy,
        options.num_replicas,
        options.master or options.tpu_name,
        options.tpu_zone,
        options.gcp_project,
    )


def make_strategy(
    name: str = "auto",
    num_replicas: int = 0,
    tpu_name: str | None = None,
    tpu_zone: str | None = None,
    gcp_project: str | None = None,
) -> tf.distribute.Strategy:
    """Returns the `tf.distribute` strategy called `name`; call it before any use of devices.

    Args:
        name: As the option `strategy`. A TPU has not been tried yet.
        num_replicas: As the option. Logical CPUs must be created before TensorFlow is first used.
        tpu_name: Name or address of a Cloud TPU; None: this machine's (Colab, TPU VM).
        tpu_zone, gcp_project: Zone and project of the Cloud TPU, unless environment variables give
            them.

    Raises:
        DeviceError: There are fewer GPUs than `num_replicas`, or fewer logical CPUs in a process
            that has used TensorFlow; `TF_CONFIG` is missing or wrong; or no TPU can be used.
        ValueError: `name` is unknown.
    """
    options.of(DeviceOptions)["strategy"].check(name)
    if name == "tpu":
        return _tpu_strategy(tpu_name, tpu_zone, gcp_project)
    if name == "multi_worker" or (name == "auto" and "TF_CONFIG" in os.environ):
        num_workers = _num_workers()
        if name == "multi_worker" or num_workers > 1:
            if num_replicas:
                raise DeviceError(
                    "`num_replicas` must be 0 with several workers, which use every device. "
                    f"Received: num_replicas={num_replicas}, TF_CONFIG names {num_workers}"
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
        # A replica that waits in a collective blocks a thread, which the others need to reach it.
        if not tf.config.threading.get_inter_op_parallelism_threads():
            threads = max(os.cpu_count() or 1, 2 * count)
            tf.config.threading.set_inter_op_parallelism_threads(threads)
    except RuntimeError:
        raise DeviceError(
            "`num_replicas` logical CPUs must be created before TensorFlow is first used: make the "
            f"strategy first. Received: num_replicas={count}"
        ) from None


def _num_workers() -> int:
    """Returns the number of workers that `TF_CONFIG` names."""
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
        raise wrong(f"the text is not JSON ({error})") from None
    if value is None:
        raise wrong("it is not set")
    match value:
        case {"cluster": dict(cluster), "task": {"index": int()} as task}:
            listed = all(isinstance(hosts, list) and hosts for hosts in cluster.values())
        case _:
            listed = False
    if not listed:
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
            "worker must run this same command, be reachable at its address, and make its strategy "
            "before TensorFlow is first used."
        ) from error


def _tpu_strategy(name, zone, project) -> tf.distribute.Strategy:
    try:
        importlib.metadata.version("tensorflow-tpu")
    except importlib.metadata.PackageNotFoundError:
        # Checked before the resolver, which without kernels would try a metadata server for
        # minutes.
        raise DeviceError(
            "strategy='tpu' (or use_tpu) needs a TensorFlow with TPU kernels, which the package "
            "tensorflow lacks: install tensorflow-tpu==2.20.0 with libtpu==0.0.24 instead, "
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
        # Its first line may only be "Graph execution error:".
        reason = " ".join(str(error).split())[:400]
        raise DeviceError(
            f"No TPU answers ({reason}). In Colab choose a TPU runtime; on a "
            "TPU VM leave `tpu_name` out, or choose another strategy. "
            f"Received: strategy='tpu', tpu_name={name!r}"
        ) from error
    return tf.distribute.TPUStrategy(resolver)


def device_names() -> list[str]:
    """Returns the types of the devices that TensorFlow uses, such as `GPU NVIDIA H100`."""
    names = []
    for kind in ("TPU", "GPU"):
        for device in tf.config.list_physical_devices(kind):
            details = tf.config.experimental.get_device_details(device) if kind == "GPU" else {}
            names.append(" ".join(filter(None, (kind, details.get("device_name")))))
    return names or ["CPU"]
