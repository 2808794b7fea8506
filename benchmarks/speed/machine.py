"""The machine of the figures, and the file that holds them."""

import datetime
import json
import os
import pathlib
import platform
import statistics
from collections.abc import Sequence

# The settings of a processor with only AVX2; libraries read these when they are loaded.
AVX2 = {
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "XLA_FLAGS": "--xla_cpu_max_isa=AVX2",
}
RESULTS = pathlib.Path(__file__).with_name("results.json")


def processor() -> str:
    """Returns the processor's name, its relevant instructions and its number of cores."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    values = dict(line.split(":", 1) for line in lines if ":" in line)
    values = {key.strip(): value.strip() for key, value in values.items()}
    flags = values.get("flags", "").split()
    relevant = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
    found = [flag for flag in relevant if flag in flags]
    name = values.get("model name", platform.machine())
    return f"{name} ({', '.join(found)}), {os.cpu_count()} cores"


def summary(figures: Sequence[float]) -> dict[str, float]:
    """Returns the median of figures, the minimum and the maximum."""
    return {"median": statistics.median(figures), "least": min(figures), "largest": max(figures)}


def record(name: str, figures: dict) -> None:
    """Writes the figures of one benchmark to results.json; keeps the others."""
    held = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    date = datetime.date.today().isoformat()
    held[name] = {"date": date, "processor": processor(), **figures}
    RESULTS.write_text(json.dumps(held, indent=2) + "\n")
