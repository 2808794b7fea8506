"""`--dry_run`: measures the cost of a run with a few steps of its first stage."""

from __future__ import annotations

import datetime
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from etils import epy

from simclrv2_tf.console.text import broken
from simclrv2_tf.experiments import execution
from simclrv2_tf.experiments.built_stages import BuiltStages, num_bytes

with epy.lazy_imports():
    import resource  # not on Windows

    import tensorflow as tf

    from simclrv2_tf.training import loop

if TYPE_CHECKING:
    from simclrv2_tf.experiments.stage import Built, StageRun

# The first call traces and compiles the step.
_WARM_UP, _MEASURED = 1, 3


def rehearse(runs: Sequence[StageRun]) -> None:
    """Prints the stages of a run, and the parameters, memory and time of the first stage.

    Builds the first stage, loads its starting weights, and trains for a few steps on its own
    batches. Writes nothing.

    Args:
        runs: The stages, opened and checked.

    Raises:
        CheckpointError: the starting weights are missing, unreadable, or of another network.
    """
    for number, run in enumerate(runs, start=1):
        print(broken(f"[{number}/{len(runs)}] {run.in_words}, in {run.directory}"), flush=True)
    if len(runs) > 1:
        print("Measured: the first stage. Later stages need the weights of earlier ones.")
    run = runs[0]
    with run.strategy.scope():
        built = BuiltStages(runs).build(run)
    execution.load_start(run, built)
    for name, model in built.networks.models.items():
        print(f"{name}: {model.count_params():,} parameters", flush=True)
    seconds = statistics.median(list(_steps(run, built))[_WARM_UP:])
    print(_memory(run, built), flush=True)
    steps = run.train_split.num_examples / run.config.train_batch_size
    print(
        f"Time: {seconds:.3g} s per step; {_duration(seconds * steps)} per epoch of {steps:.4g} "
        f"steps; {_duration(seconds * run.total_steps)} for the {run.total_steps:,} steps, without "
        "start, evaluation and export.\nDry run: nothing was written.",
        flush=True,
    )


def _steps(run: StageRun, built: Built) -> Iterator[float]:
    """Returns the seconds of each step, including its batch."""
    batches = run.strategy.distribute_datasets_from_function(
        lambda context: run.batches(context, 0)
    )
    iterator = iter(batches)
    step = loop.train_function(built.stage, run.strategy, several=False)
    for _ in range(_WARM_UP + _MEASURED):
        began = time.perf_counter()
        metrics, _ = step(iterator, tf.constant(1))
        loop.numbers(metrics)  # waits for the device
        yield time.perf_counter() - began


def _memory(run: StageRun, built: Built) -> str:
    """Describes the memory of the weights and the peak memory of the steps."""
    held = num_bytes(built)
    gpus = [f"GPU:{index}" for index, _ in enumerate(tf.config.list_logical_devices("GPU"))]
    if gpus:
        most = max(tf.config.experimental.get_memory_info(gpu)["peak"] for gpu in gpus)
        where = "of a GPU"
    else:
        # In KiB, except on macOS.
        unit = 1 if sys.platform == "darwin" else 2**10
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        where = "of this process"
    return (
        f"Memory: {held / 2**20:,.0f} MiB for weights and optimizer; peak {most / 2**20:,.0f} MiB "
        f"{where}, in steps of {run.config.train_batch_size} images at {run.config.image_size} px."
    )


def _duration(seconds: float) -> str:
    """Formats seconds as "about 2:05:00", in hours, minutes and seconds, or as "0.42 s"."""
    if seconds < 10:
        return f"{seconds:.2g} s"
    return f"about {datetime.timedelta(seconds=round(seconds))}"
