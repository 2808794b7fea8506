"""Figures of a sweep: means or differences with their intervals, and their descriptions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import matplotlib.figure
import numpy as np

from simclrv2_tf.report.numbers import Numbers
from simclrv2_tf.report.style import ACCENT, SECOND, legend_below, style_axis
from simclrv2_tf.sweep import results
from simclrv2_tf.sweep.definition import NONE
from simclrv2_tf.sweep.statistics import METRIC, SEED, VALUE

if TYPE_CHECKING:
    import pandas as pd

_LINE_INCHES = 0.34  # height of a setting's row
_MOST_COLORS = (ACCENT, SECOND, "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_DASHES = ("-", "--", ":", "-.")


def means(
    rows: pd.DataFrame,
    table: pd.DataFrame,
    dimensions: Sequence[str],
    metric: str,
    x_axis: str | None = None,
) -> matplotlib.figure.Figure:
    """Draws a metric's mean in each setting, its t interval, and a tick per seed.

    Args:
        rows: Result of `statistics.means`.
        table: The values, as for `statistics.means`.
        dimensions: The dimensions of settings.
        metric: The metric.
        x_axis: A dimension with numbers as values, for the x axis, with one line per setting of the
            other dimensions. None: one row per setting.
    """
    rows, table = rows[rows[METRIC] == metric], table[table[METRIC] == metric]
    label = results.column_name(metric)
    if x_axis is not None:
        return _lines(rows, dimensions, x_axis, label, _scale(metric))
    seeds = [
        table.loc[(table[list(dimensions)] == list(key)).all(axis=1), VALUE]
        for key in rows[list(dimensions)].itertuples(index=False)
    ]
    return _dots(rows, dimensions, label, _scale(metric), seeds)


def differences(
    rows: pd.DataFrame, dimensions: Sequence[str], metric: str, against: str
) -> matplotlib.figure.Figure:
    """Draws a metric's paired differences with their t intervals, and a line at 0.

    Args:
        rows: Result of `statistics.differences` for one metric.
        dimensions: The dimensions of settings.
        metric: The metric.
        against: The reference of the differences, as text.
    """
    label = difference_name(metric, against).replace(", difference", ",\ndifference", 1)
    figure = _dots(rows, dimensions, label, _scale(metric), ())
    figure.axes[0].axvline(0, color="#666666", linewidth=1.2)
    return figure


def difference_name(metric: str, against: str) -> str:
    """Describes a difference, with its unit."""
    name = results.column_name(metric).replace(" (%)", " (points)")
    return f"{name}, difference from {against}"


def numbers(
    rows: pd.DataFrame,
    dimensions: Sequence[str],
    metric: str,
    name: str,
    table: pd.DataFrame | None = None,
    x_axis: str | None = None,
) -> Numbers:
    """Returns the means and intervals of a figure, and below each the values of seeds.

    Args:
        rows: Result of `statistics.means` or `statistics.differences`.
        dimensions: The dimensions of settings.
        metric: The metric.
        name: Name of the numbers, with unit.
        table: The values of seeds, as for `statistics.means`.
        x_axis: As for `means`; with an x axis, values of seeds are not drawn.
    """
    if x_axis is not None:
        rows, table = rows[rows[x_axis] != NONE], None
    scale, found = _scale(metric), []
    values = None if table is None else table[table[METRIC] == metric]
    for row in rows[rows[METRIC] == metric].to_dict("records"):
        setting = tuple(row[dimension] for dimension in dimensions)
        ends = (None if np.isnan(row[end]) else scale * row[end] for end in ("low", "high"))
        found.append((*setting, "mean", scale * row["mean"], *ends))
        if values is not None:
            own = values[(values[list(dimensions)] == list(setting)).all(axis=1)]
            for seed, value in zip(own[SEED], own[VALUE], strict=True):
                found.append((*setting, str(seed), scale * value, None, None))
    return Numbers((*dimensions, "seed", name, "95% interval from", "95% interval to"), found)


def alt_text(
    rows: pd.DataFrame, dimensions: Sequence[str], metric: str, what: str = "Means over seeds"
) -> str:
    """Describes a figure: its content, and its lowest and highest mean."""
    rows = rows[rows[METRIC] == metric]
    ends = [rows.loc[index] for index in (rows["mean"].idxmin(), rows["mean"].idxmax())]
    said = [
        f"{results.number(metric, row['mean'])} for {name}"
        if (name := setting_name(row, dimensions))
        else results.number(metric, row["mean"])
        for row in ends
    ]
    count = f"{len(rows)} setting{'s' * (len(rows) > 1)}"
    many = f"from {said[0]} to {said[1]}" if len(rows) > 1 else said[0]
    return f"{what} of {results.column_name(metric)} with 95% intervals, {count}: {many}"


def setting_name(row, dimensions: Sequence[str], without: str | None = None) -> str:
    """Describes a setting, such as "nt_xent, learning_rate=0.1"; omits dimensions that it lacks."""
    plain = ("variant", "stage")
    return ", ".join(
        str(row[name]) if name in plain else f"{name}={row[name]}"
        for name in dimensions
        if name != without and row[name] != NONE
    )


def _scale(metric: str) -> float:
    return 100 if results.is_share(metric) else 1


def _reach(rows: pd.DataFrame, scale: float) -> np.ndarray:
    """Returns the lengths of intervals below and above the mean: (2, N), 0 for a single seed."""
    reach = scale * np.array([rows["mean"] - rows["low"], rows["high"] - rows["mean"]], float)
    return np.nan_to_num(np.maximum(reach, 0))


def _dots(
    rows: pd.DataFrame,
    dimensions: Sequence[str],
    label: str,
    scale: float,
    seeds: Sequence[Sequence[float]],
) -> matplotlib.figure.Figure:
    """Draws one row per setting, the first at the top."""
    figure = matplotlib.figure.Figure(
        figsize=(8, _LINE_INCHES * len(rows) + 1.3), dpi=150, layout="constrained"
    )
    axis = figure.subplots()
    places = np.arange(len(rows))
    for place, values in zip(places, seeds, strict=False):
        axis.plot(
            scale * np.asarray(values, float),
            np.full(len(values), place),
            "|",
            color="#888888",
            markersize=9,
        )
    axis.errorbar(
        scale * rows["mean"].to_numpy(float),
        places,
        xerr=_reach(rows, scale),
        fmt="o",
        color=ACCENT,
        markeredgecolor="white",
        markersize=8,
        capsize=4,
    )
    style_axis(axis, x_label=f"{label}\nbars: 95% t interval over seeds")
    names = [setting_name(row, dimensions) or "all" for row in rows.to_dict("records")]
    axis.set_yticks(places, names)
    axis.set_ylim(len(rows) - 0.5, -0.5)
    return figure


def _lines(
    rows: pd.DataFrame, dimensions: Sequence[str], x_axis: str, label: str, scale: float
) -> matplotlib.figure.Figure:
    """Draws one line per setting of the dimensions that are not the x axis."""
    rows = rows[rows[x_axis] != NONE]
    figure = matplotlib.figure.Figure(figsize=(7.2, 5), dpi=150, layout="constrained")
    axis = figure.subplots()
    others = [name for name in dimensions if name != x_axis]
    groups: dict[str, list] = {}
    for index, row in enumerate(rows.to_dict("records")):
        groups.setdefault(setting_name(row, others), []).append(index)
    for place, (name, indices) in enumerate(groups.items()):
        own = rows.iloc[indices]
        own = own.iloc[np.argsort(own[x_axis].astype(float).to_numpy())]
        axis.errorbar(
            own[x_axis].astype(float).to_numpy(),
            scale * own["mean"].to_numpy(float),
            yerr=_reach(own, scale),
            label=name,
            color=_MOST_COLORS[place % len(_MOST_COLORS)],
            linestyle=_DASHES[place // len(_MOST_COLORS) % len(_DASHES)],
            marker="o",
            markeredgecolor="white",
            markersize=8,
            linewidth=2,
            capsize=4,
        )
    values = sorted({float(value) for value in rows[x_axis]})
    if len(values) > 2 and values[0] > 0 and values[-1] / values[0] > 3:
        axis.set_xscale("log")
        axis.minorticks_off()
    axis.set_xticks(values, [f"{value:g}" for value in values])
    style_axis(axis, x_label=x_axis, y_label=f"{label}\nbars: 95% t interval over seeds")
    if len(groups) > 1:
        handles, names = axis.get_legend_handles_labels()
        legend_below(figure, handles, names, 1 if max(map(len, names)) > 30 else 2)
    return figure
