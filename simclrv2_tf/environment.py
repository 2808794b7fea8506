"""Settings that TensorFlow reads once, when it is imported."""

import os

_DEFAULTS = {
    # Off by default on processors without AVX-512 VNNI, bfloat16 or AMX. On two AVX2 cores the
    # demo's pretraining step takes 422 ms without it and 195 ms with it.
    "TF_ENABLE_ONEDNN_OPTS": "1",
    "TF_CPP_MIN_LOG_LEVEL": "2",
}


def prepare() -> None:
    """Sets the environment variables of the commands; keeps those that the user has set.

    Call it before TensorFlow is imported: later it has no effect.
    """
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
