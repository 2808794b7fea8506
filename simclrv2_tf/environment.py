"""Settings of TensorFlow that the commands make, before and after they import it."""

import os
import sys

from etils import epy

with epy.lazy_imports():
    import tensorflow as tf

_ONEDNN = "TF_ENABLE_ONEDNN_OPTS"
_DEFAULTS = {
    # Off by default on processors without AVX-512 VNNI, bfloat16 or AMX. On two AVX2 cores the
    # demo's pretraining step takes 422 ms without it and 195 ms with it.
    _ONEDNN: "1",
    "TF_CPP_MIN_LOG_LEVEL": "2",
}


def prepare() -> None:
    """Sets the environment variables of the commands; keeps those that the user has set.

    Call it before TensorFlow is imported: later it has no effect.
    """
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)


def accelerator_nodes() -> bool | None:
    """Whether Linux shows a GPU or TPU among its devices; None elsewhere. Takes no TensorFlow."""
    if not sys.platform.startswith("linux"):
        return None
    return any(os.path.exists(f"/dev/{node}") for node in ("nvidiactl", "kfd", "accel0", "vfio"))


def skip_graph_rewrites() -> None:
    """Turns off TensorFlow's graph optimizer, Grappler, on a machine without GPU and TPU.

    It makes no training step faster there, and doubles the time of its first call. The setting is
    the process's: call `tf.config.optimizer.set_experimental_options` to change it.
    """
    accelerators = [d for kind in ("GPU", "TPU") for d in tf.config.list_physical_devices(kind)]
    if not accelerators:
        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})


def onednn() -> str:
    """Whether TensorFlow was told to use oneDNN's kernels, for the log."""
    value = os.environ.get(_ONEDNN)
    if value is None:
        return f"oneDNN as TensorFlow chooses ({_ONEDNN} is not set)"
    return f"oneDNN {'on' if value == '1' else 'off'} ({_ONEDNN}={value})"
