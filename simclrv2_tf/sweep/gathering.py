"""Gathers the measurements of a sweep's finished cells into one table."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from etils import epy

from simclrv2_tf.experiments import run_files
from simclrv2_tf.sweep.cells import FRACTION, STAGE, Cell, fraction_in_words
from simclrv2_tf.sweep.definition import NONE
from simclrv2_tf.sweep.statistics import METRIC, SEED, VALUE

with epy.lazy_imports():
    import pandas as pd

if TYPE_CHECKING:
    from simclrv2_tf.report.page.runs import Stage

SECONDS = "seconds"
# Entries of `result.json` that are not measurements.
_NO_METRICS = {"images", "global_step", "label_top_1_low", "label_top_1_high"}
_NO_METRICS |= {"selected_step", "stopped_step", "pretrain_global_step"}


def table(cells: Sequence[Cell], dimensions: Sequence[str]) -> tuple[pd.DataFrame, list[str]]:
    """Returns the measurements of finished cells, and the evaluated splits.

    Args:
        cells: Finished cells.
        dimensions: The dimensions of settings, including `stage` and `fraction` if runs have
            several stages.

    Returns:
        One row per cell, stage and metric, for `statistics.means`: `dimensions` as text, "none" for
        missing ones, `seed`, `metric` and `value`. Also the splits, such as "test of
        fashion_mnist_small (2,000 images)".

    Raises:
        RunFilesError, OptionsError: a file of a run is damaged.
    """
    rows: list[dict[str, Any]] = []
    splits: dict[str, None] = {}
    for cell in cells:
        for stage in _measured(cell):
            where = dict.fromkeys(dimensions, NONE) | dict(cell.setting) | {SEED: cell.seed}
            if STAGE in dimensions:
                where |= {STAGE: stage.name, FRACTION: stage.fraction}
            rows += [{**where, METRIC: name, VALUE: v} for name, v in stage.metrics.items()]
            splits[stage.split] = None
    columns = [*dimensions, SEED, METRIC, VALUE]
    return pd.DataFrame(rows, columns=columns), [*splits]


class _Measured(NamedTuple):
    """The measurements of a stage; `split` describes the evaluated split."""

    name: str
    fraction: str
    metrics: Mapping[str, float]
    split: str


@functools.cache  # reads each cell once, although the table is written after every cell
def _measured(cell: Cell) -> tuple[_Measured, ...]:
    run = run_files.read(cell.folder)
    return tuple(
        _Measured(
            stage.name,
            fraction_in_words(stage.fraction),
            _metrics(stage),
            _evaluated_on(stage, run.data),
        )
        for stage in run.stages
    )


def _metrics(stage: Stage) -> dict[str, float]:
    """Returns the numbers of a stage's result, and the seconds of its training."""
    found = {
        name: float(value)
        for name, value in stage.result.items()
        if name not in _NO_METRICS and isinstance(value, int | float)
    }
    return {**found, SECONDS: stage.seconds}


def _evaluated_on(stage: Stage, data: Mapping[str, Any]) -> str:
    images = f" ({stage.images:,} images)" if stage.images else ""
    return f"{stage.split or 'an unknown split'} of {data.get('name', 'the data')}{images}"
