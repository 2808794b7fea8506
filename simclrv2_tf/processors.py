"""Where layers may use operations that are faster on processors than TensorFlow's own."""

import contextlib
import os
import threading
from collections.abc import Set

import keras
from etils import epy

from simclrv2_tf import precision

with epy.lazy_imports():
    import tensorflow as tf

# What oneDNN may be limited to by its environment variable, without AVX-512.
_WITHOUT_AVX512 = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2")


class _Faster(threading.local):  # mirrored replicas are traced in threads of their own
    active = False


_faster = _Faster()


@contextlib.contextmanager
def faster_operations():
    """Lets the layers called in this context use operations that are faster on processors.

    The stages' steps use it; exported graphs keep TensorFlow's own operations. Has an effect only
    with Keras's TensorFlow backend, on a machine without GPU and TPU.
    """
    earlier, _faster.active = _faster.active, _without_accelerator()
    try:
        yield
    finally:
        _faster.active = earlier


def faster() -> bool:
    """Whether this is called in the context `faster_operations`, where it has an effect."""
    return _faster.active


def has_avx512(flags: Set[str] | None = None) -> bool:
    """Whether oneDNN may use AVX-512, as far as can be told; True on processors other than x86.

    Args:
        flags: The processor's flags, as Linux names them; default: this one's.
    """
    if os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper() in _WITHOUT_AVX512:
        return False
    flags = precision.processor_flags() if flags is None else flags
    return "avx2" not in flags or "avx512bw" in flags


def _without_accelerator() -> bool:
    if keras.backend.backend() != "tensorflow":
        return False
    return not any(tf.config.list_logical_devices(kind) for kind in ("GPU", "TPU"))
