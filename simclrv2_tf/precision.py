"""Chooses the compute dtype of the networks: bfloat16 if the device is fast in it."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence, Set
from typing import Any

from etils import epy

with epy.lazy_imports():
    import tensorflow as tf

PRECISIONS = ("auto", "float32", "mixed_bfloat16")
# Ampere is NVIDIA's first generation with bfloat16 in its tensor cores.
_LEAST_COMPUTE_CAPABILITY = (8, 0)
# Instructions that multiply in bfloat16. Without them a step takes seven times as long as in
# float32; with AMX half as long; with AVX-512 BF16 0.65 to 0.95 times (AMD EPYC, fourth generation,
# two cores).
_FAST_INSTRUCTIONS = {"amx_bf16": "AMX", "avx512_bf16": "AVX-512 BF16"}


def detect() -> tuple[str, str]:
    """Returns the precision for the devices that TensorFlow finds, and the reason."""
    tpus = tf.config.list_logical_devices("TPU")
    gpus = tf.config.list_physical_devices("GPU")
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    return choose(bool(tpus), details, processor_flags())


def choose(
    has_tpu: bool, gpus: Sequence[Mapping[str, Any]], processor: Set[str]
) -> tuple[str, str]:
    """Returns the precision for a type of device, and the reason.

    Args:
        has_tpu: Whether training runs on a TPU.
        gpus: `get_device_details` of each GPU; empty without GPUs.
        processor: The flags of the processor, as Linux names them; empty if unknown. Only used
            without TPU and GPU.

    Returns:
        "float32" or "mixed_bfloat16", and the reason.
    """
    if has_tpu:
        return "mixed_bfloat16", "a TPU computes in bfloat16"
    if gpus:
        capability = min(tuple(gpu.get("compute_capability") or ()) for gpu in gpus)
        if not capability:
            return "float32", "the GPU's compute capability is unknown"
        named = f"the GPU has compute capability {capability[0]}.{capability[1]}"
        fast = capability >= _LEAST_COMPUTE_CAPABILITY
        return ("mixed_bfloat16" if fast else "float32"), f"{named}, bfloat16 is fast from 8.0"
    if not processor:
        return "float32", "the processor's instructions are unknown"
    found = [name for flag, name in _FAST_INSTRUCTIONS.items() if flag in processor]
    if found:
        return "mixed_bfloat16", f"the processor has {found[0]}"
    names = " nor ".join(_FAST_INSTRUCTIONS.values())
    return "float32", f"the processor has neither {names}, so bfloat16 is slow"


def processor_flags(cpuinfo: str = "/proc/cpuinfo") -> frozenset[str]:
    """Returns the first processor's flags in a file like Linux's; empty without such a file."""
    try:
        lines = pathlib.Path(cpuinfo).read_text().splitlines()
    except OSError:
        return frozenset()
    flags = next((line for line in lines if line.startswith("flags")), "")
    return frozenset(flags.partition(":")[2].split())
