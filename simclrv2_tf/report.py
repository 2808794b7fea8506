"""What a run shows to people: closing tables and figures."""

from __future__ import annotations

import collections
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np


def table(header: Sequence[str], rows: Sequence[Sequence]) -> str:
    """Lays out `rows` under `header` as a Markdown table, numbers to the right.

    Floats are shown with four decimals, integers with thousands separated, None as a dash.
    """
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *cells, strict=True)]
    numeric = [
        bool(rows) and all(isinstance(row[place], int | float | None) for row in rows)
        for place in range(len(header))
    ]

    def line(values):
        padded = (
            value.rjust(width) if right else value.ljust(width)
            for value, width, right in zip(values, widths, numeric, strict=True)
        )
        return "| " + " | ".join(padded) + " |"

    rule = [
        "-" * (width - 1) + ":" if right else "-" * width
        for width, right in zip(widths, numeric, strict=True)
    ]
    return "\n".join([line(header), "| " + " | ".join(rule) + " |", *map(line, cells)])


def _cell(value) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def views_figure(view1: np.ndarray, view2: np.ndarray, count: int = 12):
    """Draws pairs of views, one pair a column: what the network is asked to agree on.

    Args:
        view1: (b, S, S, 3) in [0, 1]; `view2` likewise.
        count: Pairs to show, at most b.

    Returns:
        A matplotlib figure.
    """
    from matplotlib.figure import Figure

    count = min(count, len(view1))
    figure = Figure(figsize=(count, 2.3), dpi=120, layout="constrained")
    axes = figure.subplots(2, count, squeeze=False)
    for row, views in zip(axes, (view1, view2), strict=True):
        for axis, image in zip(row, views, strict=False):
            axis.imshow(np.clip(image, 0, 1), interpolation="nearest")
            axis.set_axis_off()
    figure.suptitle("Two augmented views of each image", fontsize=9)
    return figure


class Method(NamedTuple):
    """How a method of `results.json` is called and drawn."""

    name: str
    color: str
    marker: str
    dashes: str


# Colors of Okabe and Ito, which readers with any color vision tell apart.
METHODS = {
    "supervised": Method("supervised", "#000000", "o", "--"),
    "fine_tuned": Method("fine-tuned", "#0072B2", "s", "-"),
    "self_distilled": Method("self-distilled", "#D55E00", "^", "-"),
    "small_student": Method("small student", "#009E73", "D", "-"),
}
_OTHER_STYLES = tuple(itertools.product(("-", "--", ":"), ("#CC79A7", "#56B4E9", "#E69F00")))
_TEXT = 13  # points, in figures around 7 inches wide: readable from a slide


class Panel(NamedTuple):
    """One panel of `learning_curves_figure`.

    `curves` maps a label to its x and y values, equally many. A label that is a key of `METHODS`
    takes its name and color, the same ones as in `accuracy_figure`.
    """

    title: str
    y_label: str
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]]
    x_label: str = "epoch"


def percent(fraction: float) -> str:
    """How a share in [0, 1] is shown, to four digits: "0.5%", "1%", "100%"."""
    return f"{np.format_float_positional(100 * fraction, 4, fractional=False, trim='-')}%"


def results_markdown(rows: Sequence[Mapping], title: str | None = None) -> str:
    """The text of `results.md`: one line for each label fraction and method.

    Args:
        rows: Those of `results.json`: `label_fraction` in (0, 1], `method` (a key of `METHODS`),
            `top1` in [0, 1], `num_labels`, `parameters`, `seconds`; optionally `top1_std` (over
            seeds) and `expected_calibration_error`, each in [0, 1], whose columns appear where a
            row has them.
        title: Optional heading.

    Raises:
        ValueError: `rows` is empty, has an unknown method or a method twice at a fraction.
    """
    rows = _ordered(rows)
    columns = {
        "label fraction": [percent(row["label_fraction"]) for row in rows],
        "labels": [row["num_labels"] for row in rows],
        "method": [METHODS[row["method"]].name for row in rows],
        "top-1": [float(row["top1"]) for row in rows],
        "top-1 std": [row.get("top1_std") for row in rows],
        "ECE": [row.get("expected_calibration_error") for row in rows],
        "parameters": [row["parameters"] for row in rows],
        "seconds": [round(row["seconds"]) for row in rows],
    }
    columns = {
        name: values
        for name, values in columns.items()
        if any(value is not None for value in values)
    }
    text = table(list(columns), list(zip(*columns.values(), strict=True))) + "\n"
    return text if title is None else f"# {title}\n\n{text}"


def _ordered(rows: Sequence[Mapping]) -> list[Mapping]:
    """Rows by fraction and method, having checked that they can be shown so."""
    if not rows:
        raise ValueError(f"`rows` must hold at least one result. Received: rows={rows!r}")
    keys = [(row["label_fraction"], row["method"]) for row in rows]
    for key, count in collections.Counter(keys).items():
        if key[1] not in METHODS:
            raise ValueError(
                f"`rows` must have methods among {list(METHODS)}. Received: method={key[1]!r}"
            )
        if count > 1:
            raise ValueError(
                "`rows` must have each method once at a label fraction (the mean over seeds, its "
                f"spread in `top1_std`). Received: label_fraction={key[0]}, method={key[1]!r} "
                f"{count} times"
            )
    order = list(METHODS)
    return sorted(rows, key=lambda row: (row["label_fraction"], order.index(row["method"])))


def accuracy_figure(rows: Sequence[Mapping]):
    """Draws top-1 accuracy against the label fraction, one line a method.

    Args:
        rows: As for `results_markdown`. Methods may be missing at a fraction; those with a
            `top1_std` get error bars of one standard deviation.

    Returns:
        A matplotlib figure.

    Raises:
        ValueError: as `results_markdown`.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullLocator
    from matplotlib.transforms import ScaledTranslation

    rows = _ordered(rows)
    figure = Figure(figsize=(7.2, 4.8), dpi=150, layout="constrained")
    axis = figure.subplots()
    present = [name for name in METHODS if any(row["method"] == name for row in rows)]
    fractions = sorted({row["label_fraction"] for row in rows})
    axis.set_xscale("log")
    # Limits are set by hand: lines moved aside count for nothing in matplotlib's own.
    margin = max(1.6, (fractions[-1] / fractions[0]) ** 0.12)
    axis.set_xlim(fractions[0] / margin, fractions[-1] * margin)
    top1 = np.array([100 * row["top1"] for row in rows])
    reach = np.nan_to_num(_percent_std(rows))
    low, high = np.min(top1 - reach), np.max(top1 + reach)
    margin = max(0.08 * (high - low), 0.5)
    axis.set_ylim(low - margin, high + margin)
    for index, name in enumerate(present):
        method = METHODS[name]
        own = [row for row in rows if row["method"] == name]
        spread = _percent_std(own)
        # Methods close to each other stand apart on paper, by points of 1/72 inch.
        step = 14 if len(fractions) == 1 else 7
        aside = step / 72 * (index - (len(present) - 1) / 2)
        line, _, _ = axis.errorbar(
            [row["label_fraction"] for row in own],
            [100 * row["top1"] for row in own],
            None if np.all(np.isnan(spread)) else spread,
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
    _style(axis, x_label="share of the images with a label", y_label="top-1 accuracy (%)")
    # Accuracy grows with the labels: the corner below stays free.
    axis.legend(loc="lower right", fontsize=_TEXT, handlelength=3)
    return figure


def _percent_std(rows) -> np.ndarray:
    """`top1_std` in percent, NaN where a row has none."""
    return 100 * np.array([row.get("top1_std") for row in rows], float)


def learning_curves_figure(panels: Sequence[Panel]):
    """Draws training curves, one panel a quantity, with one legend for all.

    Args:
        panels: What to draw, in order, up to three side by side. The legend holds the curves of
            panels with several; a panel's only curve is what its title and `y_label` say.

    Returns:
        A matplotlib figure.

    Raises:
        ValueError: there are no panels, or a panel has no curves, or a curve has no points or
            not as many x as y values.
    """
    from matplotlib.figure import Figure

    if not panels:
        raise ValueError(f"`panels` must hold at least one panel. Received: panels={panels!r}")
    lines = math.ceil(len(panels) / 3)
    columns = math.ceil(len(panels) / lines)
    figure = Figure(figsize=(4.6 * columns, 3.7 * lines + 0.5), dpi=150, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.08)
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    others = itertools.cycle(_OTHER_STYLES)
    styles = {key: (method.dashes, method.color) for key, method in METHODS.items()}
    legend = {}
    for axis, panel in zip(axes, panels, strict=False):
        if not panel.curves:
            raise ValueError(f"`panels` must have curves. Received: an empty {panel.title!r}")
        for key, (x, y) in panel.curves.items():
            if len(x) != len(y) or len(x) == 0:
                raise ValueError(
                    "`panels` must have curves of equally many x and y values, at least one. "
                    f"Received: {len(x)} and {len(y)} for {key!r} in {panel.title!r}"
                )
            if key not in styles:
                styles[key] = next(others)
            dashes, color = styles[key]
            name = METHODS[key].name if key in METHODS else key
            (curve,) = axis.plot(
                *(np.asarray(values, float) for values in (x, y)),
                color=color,
                linestyle=dashes,
                linewidth=2,
                label=name,
                # One point makes no line.
                marker="o" if len(x) == 1 else None,
            )
            if len(panel.curves) > 1:
                legend.setdefault(name, curve)
        axis.set_title(panel.title, fontsize=_TEXT + 1)
        _style(axis, x_label=panel.x_label, y_label=panel.y_label)
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    if legend:
        figure.legend(
            legend.values(), legend, ncols=min(4, 2 * columns),
            loc="outside lower center", fontsize=_TEXT, frameon=False,
        )  # fmt: skip
    return figure


def reliability_figure(results: Mapping[str, Mapping]):
    """Draws reliability diagrams, one a classifier: accuracy in bins of confidence.

    Above, the accuracy of each bin that has examples, and the gap between it and the bin's mean
    confidence; below, the share of the examples in each bin (arXiv 1706.04599, figure 1).

    Args:
        results: Under each classifier's name: `bins` (what `Calibration.bins` returns),
            `expected_calibration_error` and `top1`, both in [0, 1].

    Returns:
        A matplotlib figure.

    Raises:
        ValueError: there are no results, or no examples in one.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    if not results:
        raise ValueError(f"`results` must hold at least one. Received: results={results!r}")
    lines = math.ceil(len(results) / 4)
    columns = math.ceil(len(results) / lines)
    figure = Figure(figsize=(3.6 * columns + 0.4, 5 * lines + 0.5), dpi=150, layout="constrained")
    axes = figure.subplots(
        2 * lines, columns, squeeze=False, sharey="row", height_ratios=[3, 1] * lines
    )
    bar_style = {"facecolor": METHODS["fine_tuned"].color, "edgecolor": "white"}
    # A gap's place alone would not tell which of its ends is the accuracy: two looks.
    over_style = {"facecolor": "#F4C7A8", "edgecolor": "#D55E00", "hatch": "///"}
    under_style = {"facecolor": "#BFE3F7", "edgecolor": "#0072B2", "hatch": "..."}
    for index, (name, result) in enumerate(results.items()):
        line, column = divmod(index, columns)
        upper, lower = axes[2 * line, column], axes[2 * line + 1, column]
        bins = [entry for entry in result["bins"] if entry["count"]]
        if not bins:
            raise ValueError(f"`results` must have examples in bins. Received: none for {name!r}")
        left, right, count, confidence, accuracy = (
            np.array([entry[key] for entry in bins])
            for key in ("lower", "upper", "count", "confidence", "accuracy")
        )
        width = right - left
        upper.bar(left, accuracy, width, align="edge", zorder=2, **bar_style)
        gap = confidence - accuracy
        for style, height in ((over_style, gap.clip(min=0)), (under_style, gap.clip(max=0))):
            shown = height != 0
            upper.bar(
                left[shown], height[shown], width[shown], accuracy[shown],
                align="edge", zorder=3, **style,
            )  # fmt: skip
        upper.plot([0, 1], [0, 1], color="black", linestyle="--", linewidth=1.2, zorder=4)
        error = result["expected_calibration_error"]
        upper.set_title(
            f"{name}\ntop-1 {100 * result['top1']:.1f}%, ECE {100 * error:.1f}%", fontsize=_TEXT
        )
        for axis in (upper, lower):
            axis.set(xlim=(0, 1), xticks=(0, 0.5, 1))
        upper.set(ylim=(0, 1), yticks=(0, 0.5, 1))
        upper.tick_params(labelbottom=False)
        lower.bar(left, count / count.sum(), width, align="edge", color="#999999", zorder=2)
        first = column == 0
        _style(upper, y_label="accuracy" if first else "")
        _style(lower, x_label="confidence", y_label="share of\nimages" if first else "")
    for index in range(len(results), lines * columns):
        line, column = divmod(index, columns)
        axes[2 * line, column].set_axis_off()
        axes[2 * line + 1, column].set_axis_off()
    figure.legend(
        [Patch(**style) for style in (bar_style, over_style, under_style)],
        ["accuracy", "overconfidence", "underconfidence"], ncols=3 if columns > 1 else 1,
        loc="outside lower center", fontsize=_TEXT, frameon=False,
    )  # fmt: skip
    return figure


def _style(axis, x_label: str = "", y_label: str = "") -> None:
    axis.set_xlabel(x_label, fontsize=_TEXT)
    axis.set_ylabel(y_label, fontsize=_TEXT)
    axis.tick_params(labelsize=_TEXT - 1)
    axis.grid(color="#dddddd", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)


def save_figure(figure, path) -> None:
    """Writes a matplotlib figure to `path`, a local or remote `epath.Path`, as its suffix says.

    The same figure gives the same bytes. Texts of an SVG stay texts, to be searched and edited.

    Args:
        path: Ends in `.png` or `.svg`.

    Raises:
        ValueError: `path` ends otherwise.
    """
    import io

    import matplotlib

    # An SVG would otherwise carry the time and random ids.
    metadata = {".png": {}, ".svg": {"Date": None}}
    if path.suffix not in metadata:
        raise ValueError(f"`path` must end in .png or .svg. Received: path={path}")
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "simclrv2_tf"}):
        figure.savefig(buffer, format=path.suffix[1:], metadata=metadata[path.suffix])
    path.write_bytes(buffer.getvalue())
