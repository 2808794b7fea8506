"""Figures of views, accuracy and training."""

import itertools
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from simclrv2_tf.channels import COLORS, RGB
from simclrv2_tf.report.results import METHODS, ordered, percent
from simclrv2_tf.report.style import TEXT, grid, legend_below, style_axis

EPOCH = "epoch"  # label of an axis with whole numbers
TRAINING, HELD_OUT = "training", "held-out"  # images
_SETTINGS_INCHES = 9.5  # width of a line of settings
_INTERVAL, _DEVIATION = "95% interval", "standard deviation over seeds"  # of error bars
_WIDE_INCHES = 7  # of a legend of four methods in one line
_GRAY = "#666666"
_HELD_OUT_LOOK = {"linewidth": 1.2, "marker": "o", "markersize": 4, "markerfacecolor": "white"}
_OTHER_STYLES = tuple(itertools.product(("-", "--", ":"), ("#CC79A7", "#56B4E9", "#E69F00")))


def views_figure(
    view1: np.ndarray,
    view2: np.ndarray,
    count: int = 12,
    originals: np.ndarray | None = None,
    settings: str = "",
):
    """Draws up to `count` pairs of views, one pair per column, below their images.

    Args:
        view1, view2: (b, S, S, C) in [0, 1]. One or two channels are drawn as gray, from the first;
            more as RGB, from the first three.
        count: Maximum number of pairs.
        originals: (b, S, S, C) in [0, 1], such as the images cropped for evaluation.
        settings: The settings of the views, for a line below the title.
    """
    from matplotlib.figure import Figure

    rows = {"view 1": view1, "view 2": view2}
    if originals is not None:
        rows = {"original": originals, **rows}
    count, channels = min(count, len(view1)), view1.shape[-1]
    size = (max(count, _SETTINGS_INCHES) if settings else count) + 0.3, len(rows) + 0.5
    figure = Figure(figsize=size, dpi=120, layout="constrained")
    axes = figure.subplots(len(rows), count, squeeze=False)
    for row, (label, images) in zip(axes, rows.items(), strict=True):
        for axis, image in zip(row, images, strict=False):
            shown = image[..., : RGB if channels >= RGB else 1]
            axis.imshow(np.clip(shown, 0, 1), interpolation="nearest", cmap="gray", vmin=0, vmax=1)
            axis.set_xticks([])
            axis.set_yticks([])
            axis.spines[:].set_visible(False)
        row[0].set_ylabel(label, fontsize=8)
    title = "Two augmented views of each image"
    if channels not in COLORS:
        drawn = "first as gray" if channels < RGB else "first three as red, green and blue"
        title += f": of {channels} bands, the {drawn}"
    figure.suptitle(f"{title}\n{settings}" if settings else title, fontsize=9)
    figure.set_label(f"{title}, {count} pairs. {settings}".strip())
    return figure


class Panel(NamedTuple):
    """A panel of `learning_curves_figure`: one quantity against another.

    Attributes:
        title: Title of the panel.
        y_label, x_label: The quantities, with units.
        curves: Maps labels to x and y values of equal length, on the training images. A key of
            `METHODS` as the label gives a curve the method's name and color.
        held_out: The same on held-out images, with the same or other labels.
    """

    title: str
    y_label: str
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]]
    x_label: str = EPOCH
    held_out: Mapping[str, tuple[Sequence[float], Sequence[float]]] = MappingProxyType({})


def accuracy_figure(rows: Sequence[Mapping], size: tuple[float, float] = (7.2, 4.8)):
    """Draws top-1 accuracy against the label fraction, one line per method.

    Methods may be missing at a fraction. Error bars are one standard deviation if a row has
    `top1_std`, else its 95% interval.

    Args:
        rows: As for `results_markdown`.
        size: Width and height in inches.

    Raises:
        ValueError: As for `results_markdown`.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullLocator
    from matplotlib.transforms import ScaledTranslation

    rows = ordered(rows)
    figure = Figure(figsize=size, dpi=150, layout="constrained")
    axis = figure.subplots()
    present = [name for name in METHODS if any(row["method"] == name for row in rows)]
    fractions = sorted({row["label_fraction"] for row in rows})
    axis.set_xscale("log")
    # Sets limits explicitly, because matplotlib's own ignore shifted lines.
    margin = max(1.6, (fractions[-1] / fractions[0]) ** 0.12)
    axis.set_xlim(fractions[0] / margin, fractions[-1] * margin)
    top1 = np.array([100 * row["top1"] for row in rows])
    below, above = np.nan_to_num(_percent_reach(rows))
    low, high = np.min(top1 - below), np.max(top1 + above)
    margin = max(0.08 * (high - low), 0.5)
    axis.set_ylim(low - margin, high + margin)
    for index, name in enumerate(present):
        method = METHODS[name]
        own = [row for row in rows if row["method"] == name]
        reach = _percent_reach(own)
        # Shifts methods with similar values apart, in points of 1/72 inch.
        step = 14 if len(fractions) == 1 else 7
        aside = step / 72 * (index - (len(present) - 1) / 2)
        line, _, _ = axis.errorbar(
            [row["label_fraction"] for row in own],
            [100 * row["top1"] for row in own],
            None if np.all(np.isnan(reach)) else reach,
            label=method.name,
            color=method.color,
            marker=method.marker,
            linestyle=method.dashes,
            linewidth=2.2,
            markersize=9,
            elinewidth=1.6,
            capsize=4,
            transform=axis.transData + ScaledTranslation(aside, 0, figure.dpi_scale_trans),
        )
        line.set_markeredgecolor("white")
    labels = {row["label_fraction"]: row["num_labels"] for row in rows}
    axis.set_xticks(fractions, [f"{percent(x)}\n{labels[x]:,} labels" for x in fractions])
    axis.xaxis.set_minor_locator(NullLocator())
    y_label = f"top-1 accuracy (%){_bars_in_words(rows)}"
    style_axis(axis, x_label="share of the images with a label", y_label=y_label)
    handles, names = axis.get_legend_handles_labels()
    legend_below(figure, handles, names, 2 if size[0] < _WIDE_INCHES else 4)
    ends = "; ".join(
        f"{METHODS[name].name} "
        + ", ".join(
            f"{100 * row['top1']:.1f} at {percent(row['label_fraction'])}"
            for row in rows
            if row["method"] == name
        )
        for name in present
    )
    figure.set_label(f"Top-1 accuracy (%) against the share of the images with a label: {ends}.")
    return figure


def bar_ends(row: Mapping) -> tuple[float | None, float | None, str | None]:
    """Returns the ends of a row's error bar in `accuracy_figure`, in percent, and its type.

    None for a row without error bar.
    """
    (below,), (above,) = _percent_reach([row])
    if np.isnan(below):
        return None, None, None
    bar = _INTERVAL if row.get("top1_std") is None else _DEVIATION
    return 100 * row["top1"] - below, 100 * row["top1"] + above, bar


def _percent_reach(rows) -> np.ndarray:
    """Returns lengths of error bars below and above `top1`: (2, N), in percent, NaN for none."""

    def reach(row):
        if row.get("top1_std") is not None or row.get("top1_low") is None:
            return row.get("top1_std"), row.get("top1_std")
        return row["top1"] - row["top1_low"], row["top1_high"] - row["top1"]

    # An accuracy in float32 may be outside its interval by rounding.
    return np.maximum(100 * np.array([reach(row) for row in rows], float).T, 0)


def _bars_in_words(rows) -> str:
    """Describes the error bars of `accuracy_figure`, for the y label."""
    if any(row.get("top1_std") is not None for row in rows):
        return f"\nbars: {_DEVIATION}"
    has_intervals = any(row.get("top1_low") is not None for row in rows)
    return f"\nbars: {_INTERVAL}" if has_intervals else ""


def learning_curves_figure(panels: Sequence[Panel], colors: Mapping[str, str] | None = None):
    """Draws learning curves, one panel per quantity, with one legend for all.

    Up to three panels are side by side. The legend has the curves of panels with several curves;
    the title and `y_label` of a panel describe a single curve. Curves on held-out images have a
    circle at each point, and the color of the training curve with the same label.

    Args:
        panels: At least one.
        colors: Colors of solid curves by label, instead of the defaults.

    Raises:
        ValueError: There are no panels, a panel has no curves, or a curve has no points or
            different numbers of x and y values.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.ticker import MaxNLocator

    if not panels:
        raise ValueError(f"`panels` must hold at least one panel. Received: panels={panels!r}")
    lines, columns = grid(len(panels), 3)
    figure = Figure(figsize=(4.6 * columns, 3.7 * lines + 0.5), dpi=150, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.08)
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    others = itertools.cycle(_OTHER_STYLES)
    styles = {key: (method.dashes, method.color) for key, method in METHODS.items()}
    styles |= {key: ("-", color) for key, color in (colors or {}).items()}
    legend = {}
    for axis, panel in zip(axes, panels, strict=False):
        if not panel.curves and not panel.held_out:
            raise ValueError(f"`panels` must have curves. Received: an empty {panel.title!r}")
        several = len({*panel.curves, *panel.held_out}) > 1
        drawn = [(key, False, points) for key, points in panel.curves.items()]
        drawn += [(key, True, points) for key, points in panel.held_out.items()]
        for key, is_held_out, (x, y) in drawn:
            if len(x) != len(y) or len(x) == 0:
                raise ValueError(
                    "`panels` must have curves with the same number of x and y values, at least "
                    "one. "
                    f"Received: {len(x)} and {len(y)} for {key!r} in {panel.title!r}"
                )
            if key not in styles:
                styles[key] = next(others)
            dashes, color = styles[key]
            name = METHODS[key].name if key in METHODS else key
            look = {"color": color, "linestyle": dashes, "linewidth": 2}
            if is_held_out:
                look |= _HELD_OUT_LOOK
            elif len(x) == 1:
                look["marker"] = "o"  # a single point has no line
            points = (np.asarray(values, float) for values in (x, y))
            axis.plot(*points, label=f"{name}, {HELD_OUT}" if is_held_out else name, **look)
            if several:
                handle = Line2D([], [], color=color, linestyle=dashes, linewidth=2)
                legend.setdefault(name, handle)
        axis.set_title(panel.title, fontsize=TEXT + 1)
        style_axis(axis, x_label=panel.x_label, y_label=panel.y_label)
        if panel.x_label == EPOCH:
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    if any(panel.held_out for panel in panels):
        legend["training images"] = Line2D([], [], color=_GRAY, linewidth=2)
        legend["held-out images"] = Line2D([], [], color=_GRAY, **_HELD_OUT_LOOK)
    if legend:
        legend_below(figure, legend.values(), legend, min(4, 2 * columns))
    figure.set_label(" ".join(map(_panel_in_words, panels)))
    return figure


def _panel_in_words(panel: Panel) -> str:
    """Describes the quantity of a panel, and the first and last value of each curve."""
    ends = "; ".join(
        f"{METHODS[key].name if key in METHODS else key}{where} "
        f"from {float(y[0]):.3g} to {float(y[-1]):.3g}"
        for where, curves in (("", panel.curves), (" on held-out images", panel.held_out))
        for key, (_, y) in curves.items()
    )
    title = f"{panel.title}, " if panel.title else ""
    return f"{title}{panel.y_label} against {panel.x_label}: {ends}."
