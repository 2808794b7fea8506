"""The results of a sweep: `results.csv`, `.json` and `.md`, and figures."""

from __future__ import annotations

import importlib.metadata
import pathlib
import platform
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from etils import epath, epy

import simclrv2_tf
from simclrv2_tf import files
from simclrv2_tf.sweep import cells as cells_lib
from simclrv2_tf.sweep import gathering, statistics
from simclrv2_tf.sweep.statistics import METRIC, SEED, VALUE

with epy.lazy_imports():
    import pandas as pd

    from simclrv2_tf import report
    from simclrv2_tf.sweep import figures

if TYPE_CHECKING:
    from simclrv2_tf.sweep.cells import Cell
    from simclrv2_tf.sweep.definition import Definition

# If `metrics` is not given, the first of these that runs have.
_SHOWN = ("label_top_1_accuracy", "expected_calibration_error", "representation_rank")
_NAMES = {
    "label_top_1_accuracy": "top-1",
    "label_top_5_accuracy": "top-5",
    "expected_calibration_error": "ECE",
}
_SHARES = ("_accuracy", "_error")


def write(
    definition: Definition,
    found: Sequence[Cell],
    finished: Sequence[Cell],
    failed: Mapping[Cell, str],
    command: str,
) -> list[str]:
    """Writes the results of the finished cells; returns lines of warning.

    Args:
        definition: The sweep.
        found: All cells of the sweep.
        finished: The finished cells, in order.
        failed: The last line of error of each failed cell.
        command: The sweep's command line.

    Raises:
        RunFilesError, OptionsError: a file of a run is damaged.
    """
    dimensions = [*cells_lib.dimensions(found), *cells_lib.stage_dimensions(found)]
    table, splits = gathering.table(finished, dimensions)
    means = statistics.means(table, dimensions)
    compared = [
        (against, statistics.differences(table, dimensions, against))
        for against in definition.compare_to
    ]
    measured = list(dict.fromkeys(table[METRIC]))
    shown = [name for name in definition.metrics or _SHOWN if name in measured]
    shown = shown or measured[:1]
    root = epath.Path(definition.folder)
    files.write_text(root / "results.csv", table.to_csv(index=False, lineterminator="\n"))
    content = {
        "command": command,
        "versions": versions(),
        "processor": processor(),
        "jobs": definition.jobs,
        "splits": splits,
        "cells": [
            {
                "setting": dict(cell.setting),
                "seed": cell.seed,
                "command": cell.command,
                "state": "finished" if cell in finished else "failed" if cell in failed else "open",
                **({"error": failed[cell]} if cell in failed else {}),
            }
            for cell in found
        ],
        "means": records(means),
        "differences": [
            {"against": dict(against), **row} for against, rows in compared for row in records(rows)
        ],
    }
    files.write_text(root / "results.json", files.to_json(content))
    blocks = [*_introduction(content, table), *_of_cells(found, finished, failed)]
    if shown:
        metric, x_axis = shown[0], definition.x_axis
        figure = figures.means(means, table, dimensions, metric, x_axis)
        figure.set_label(figures.alt_text(means, dimensions, metric))
        name = column_name(metric)
        numbers = figures.numbers(means, dimensions, metric, name, table, x_axis)
        drawn = {"means": (figure, numbers)}
        blocks += ["## Means over seeds", _table(means, dimensions, shown)]
        blocks += [f"![{figure.get_label()}](means.png)"]
        for place, (against, rows) in enumerate(compared):
            name = "differences" + (f"_{place + 1}" if len(compared) > 1 else "")
            condition = ", ".join(f"{k}={v}" for k, v in against.items())
            blocks += [
                f"## Differences from {condition}, paired by seed",
                "The difference of each row from the row that differs only in this, paired over "
                "the seeds that both have.",
            ]
            rows = rows[rows[METRIC] == shown[0]]
            if rows.empty:
                blocks.append("No cells to compare have finished yet.")
                continue
            blocks.append(_table(rows, dimensions, shown[:1], signed=True))
            figure = figures.differences(rows, dimensions, metric, condition)
            what = f"Differences from {condition}"
            figure.set_label(figures.alt_text(rows, dimensions, metric, what))
            difference = figures.difference_name(metric, condition)
            drawn[name] = figure, figures.numbers(rows, dimensions, metric, difference)
            blocks.append(f"![{figure.get_label()}]({name}.png)")
        for name, (figure, numbers) in drawn.items():
            report.save_drawn(figure, numbers, root, name)
    files.write_text(root / "results.md", "\n\n".join(blocks) + "\n")
    missing = [name for name in definition.metrics if measured and name not in measured]
    return [
        f"`metrics` must be among the runs' metrics: {', '.join(measured)}. Received: {name}"
        for name in missing
    ]


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Returns the rows of a table for JSON."""
    return table.astype(object).where(table.notna(), None).to_dict("records")


def column_name(metric: str) -> str:
    """Describes a metric, with its unit."""
    name = _NAMES.get(metric, metric.replace("_", " "))
    return f"{name} (%)" if is_share(metric) else name


def is_share(metric: str) -> bool:
    """Whether a metric is a share in [0, 1], shown in percent."""
    return metric.endswith(_SHARES)


def number(metric: str, value: float, sign: str = "") -> str:
    """Formats a metric's value: a share in percent with two decimals, else four digits."""
    return f"{100 * value:{sign}.2f}" if is_share(metric) else f"{value:{sign}.4g}"


def versions() -> dict[str, str]:
    """Returns the versions of packages that the numbers depend on."""
    names = ("tensorflow", "keras", "numpy")
    return {
        "simclrv2_tf": simclrv2_tf.__version__,
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in names},
    }


def processor() -> str:
    """Returns the processor's name, and the number of cores."""
    path = pathlib.Path("/proc/cpuinfo")
    text = path.read_text() if path.exists() else ""
    model = re.search(r"^model name\s*: (.+)$", text, re.MULTILINE)
    count = len(re.findall(r"^processor\s*:", text, re.MULTILINE))
    name = model[1] if model else platform.processor() or platform.machine()
    return f"{name}, {count} cores" if count else name


def _introduction(content: Mapping[str, Any], table: pd.DataFrame) -> list[str]:
    versions = ", ".join(f"{name} {version}" for name, version in content["versions"].items())
    seconds = table.loc[table[METRIC] == gathering.SECONDS, VALUE].sum()
    seeds = sorted({*table[SEED]})
    states = [cell["state"] for cell in content["cells"]]
    said = [f"{states.count('finished')} of {len(states)} cells have finished."]
    if "failed" in states:
        said.append(f"{states.count('failed')} have failed.")
    if seeds:
        said += [
            f"Evaluated on {'; '.join(content['splits'])}.",
            f"Means ± sample standard deviation over seeds {', '.join(map(str, seeds))}. "
            "Intervals are 95% intervals by Student's t over seeds, not corrected for multiple "
            "comparisons.",
        ]
    return [
        "# Sweep",
        f"`{content['command']}`",
        " ".join(said),
        f"{seconds / 3600:.2f} hours of training in total, {content['jobs']} runs in parallel, on "
        f"{content['processor']}; {versions}. results.csv has every cell and metric.",
    ]


def _of_cells(
    found: Sequence[Cell], finished: Sequence[Cell], failed: Mapping[Cell, str]
) -> list[str]:
    """Lists the failed cells, and the cells that have not run yet."""
    blocks = []
    if failed:
        lines = [f"- {cell.in_words}: {problem}" for cell, problem in failed.items()]
        blocks += ["## Failed cells", "\n".join(lines)]
    others = [cell for cell in found if cell not in finished and cell not in failed]
    if others:
        blocks += ["## Cells not run yet", "\n".join(f"- {cell.in_words}" for cell in others)]
    return blocks


def _table(
    rows: pd.DataFrame, dimensions: Sequence[str], shown: Sequence[str], signed: bool = False
) -> str:
    """Returns one line per setting: dimensions, the first metric with its interval, others."""
    first, sign = shown[0], "+" if signed else ""
    lines: dict[tuple, dict[str, Mapping]] = {}
    for row in rows[rows[METRIC].isin(shown)].to_dict("records"):
        lines.setdefault(tuple(row[name] for name in dimensions), {})[row[METRIC]] = row
    cells = [
        [
            *key,
            _mean(line.get(first), sign),
            _interval(line.get(first), sign),
            line[first]["n"] if first in line else None,
            *(_mean(line.get(name), sign) for name in shown[1:]),
        ]
        for key, line in lines.items()
    ]
    names = [column_name(name) for name in shown]
    if signed:
        names = ["difference in points" if is_share(first) else "difference"]
    return report.table([*dimensions, names[0], "95% interval", "seeds", *names[1:]], cells)


def _mean(row: Mapping | None, sign: str) -> str | None:
    if row is None:
        return None
    spread = "" if pd.isna(row["std"]) else f" ± {number(row[METRIC], row['std'])}"
    return number(row[METRIC], row["mean"], sign) + spread


def _interval(row: Mapping | None, sign: str) -> str | None:
    if row is None or pd.isna(row["low"]):
        return None
    return ", ".join(number(row[METRIC], row[end], sign) for end in ("low", "high"))
