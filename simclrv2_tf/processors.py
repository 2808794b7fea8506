"""Controls whether layers may use operations that are faster on CPUs than TensorFlow's own."""

import contextlib
import os
import threading
from collections.abc import Set

import keras
from etils import epy

from simclrv2_tf import precision

with epy.lazy_imports():
    import tensorflow as tf

# Values of oneDNN's environment variable that exclude AVX-512.
_WITHOUT_AVX512 = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2")


class _Faster(threading.local):  # mirrored replicas are traced in separate threads
    active = False


_faster = _Faster()


@contextlib.contextmanager
def faster_operations():
    """Lets layers called in this context use operations that are faster on CPUs.

    The stages' steps use it; exported graphs keep TensorFlow's own operations. It only has an
    effect with Keras's TensorFlow backend, on a machine without GPU and TPU.
    """
    earlier, _faster.active = _faster.active, _without_accelerator()
    try:
        yield
    finally:
        _faster.active = earlier


def faster() -> bool:
    """Whether the context `faster_operations` is active and has an effect."""
    return _faster.active


def has_avx512(flags: Set[str] | None = None) -> bool:
    """Whether oneDNN may use AVX-512, as far as is known; True on processors other than x86.

    Args:
        flags: The processor's flags, as Linux names them; default: this processor's.
    """
    if os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper() in _WITHOUT_AVX512:
        return False
    flags = precision.processor_flags() if flags is None else flags
    return "avx2" not in flags or "avx512bw" in flags


def _without_accelerator() -> bool:
    if keras.backend.backend() != "tensorflow":
        return False
    return not any(tf.config.list_logical_devices(kind) for kind in ("GPU", "TPU"))
