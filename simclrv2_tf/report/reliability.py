"""Reliability diagrams."""

from collections.abc import Mapping

import numpy as np

from simclrv2_tf.report.results import METHODS
from simclrv2_tf.report.style import TEXT, grid, legend_below, style_axis


def can_be_drawn(result: Mapping) -> bool:
    """Whether a result of `reliability_figure` has examples and only finite numbers."""
    bins = [entry for entry in result["bins"] if entry["count"]]
    numbers = [result["expected_calibration_error"], result["top1"]]
    numbers += [entry[key] for entry in bins for key in ("count", "confidence", "accuracy")]
    return bool(bins) and all(x is not None and np.isfinite(x) for x in numbers)


def reliability_figure(results: Mapping[str, Mapping], legend: bool = True):
    """Draws reliability diagrams, one per classifier: accuracy in bins of confidence.

    Above, the accuracy of each bin with examples, and its gap to the bin's mean confidence; below,
    the share of the examples in each bin (arXiv 1706.04599, figure 1).

    Args:
        results: Maps a classifier's name to `bins` (of `Calibration.bins`),
            `expected_calibration_error` and `top1`, both in [0, 1]. The name may be empty.
        legend: Whether to add a legend below.

    Returns:
        A matplotlib figure.

    Raises:
        ValueError: There are no results, or a result has no examples in bins, or a number that is
            None, NaN or infinite.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    if not results:
        raise ValueError(f"`results` must hold at least one result. Received: results={results!r}")
    lines, columns = grid(len(results), 4)
    size = (3.6 * columns + 0.4, 5 * lines + 0.5 * legend)
    figure = Figure(figsize=size, dpi=150, layout="constrained")
    axes = figure.subplots(
        2 * lines, columns, squeeze=False, sharey="row", height_ratios=[3, 1] * lines
    )
    bar_style = {"facecolor": METHODS["fine_tuned"].color, "edgecolor": "white"}
    # The style of a gap shows which of its ends is the accuracy.
    over_style = {"facecolor": "#F4C7A8", "edgecolor": "#D55E00", "hatch": "///"}
    under_style = {"facecolor": "#BFE3F7", "edgecolor": "#0072B2", "hatch": "\\\\\\"}
    uppers, lowers = axes.reshape(lines, 2, columns).swapaxes(0, 1).reshape(2, -1)
    for index, (name, result) in enumerate(results.items()):
        upper, lower = uppers[index], lowers[index]
        bins = [entry for entry in result["bins"] if entry["count"]]
        if not can_be_drawn(result):
            found = "a number that is not finite" if bins else "none"
            raise ValueError(
                "`results` must have examples in bins, and finite numbers. "
                f"Received: {found} for {name!r}"
            )
        left, right, count, confidence, accuracy = (
            np.array([entry[key] for entry in bins])
            for key in ("lower", "upper", "count", "confidence", "accuracy")
        )
        width = right - left
        upper.bar(left, accuracy, width, align="edge", zorder=2, **bar_style)
        gap = confidence - accuracy
        for style, height in ((over_style, gap.clip(min=0)), (under_style, gap.clip(max=0))):
            shown = height != 0
            sides = (values[shown] for values in (left, height, width, accuracy))
            upper.bar(*sides, align="edge", zorder=3, **style)
        upper.plot([0, 1], [0, 1], color="black", linestyle="--", linewidth=1.2, zorder=4)
        error = result["expected_calibration_error"]
        numbers = f"top-1 {100 * result['top1']:.1f}%, ECE {100 * error:.1f}%"
        upper.set_title(f"{name}\n{numbers}" if name else numbers, fontsize=TEXT)
        for axis in (upper, lower):
            axis.set(xlim=(0, 1), xticks=(0, 0.5, 1))
        upper.set(ylim=(0, 1), yticks=(0, 0.5, 1))
        upper.tick_params(labelbottom=False)
        lower.bar(left, count / count.sum(), width, align="edge", color="#999999", zorder=2)
        first = index % columns == 0
        style_axis(upper, y_label="accuracy" if first else "")
        style_axis(lower, x_label="confidence", y_label="share of\nimages" if first else "")
    for axis in (*uppers[len(results) :], *lowers[len(results) :]):
        axis.set_axis_off()
    found = "; ".join(
        f"{name or 'the classifier'} top-1 {100 * result['top1']:.1f}%, "
        f"ECE {100 * result['expected_calibration_error']:.1f}%"
        for name, result in results.items()
    )
    figure.set_label(f"Accuracy in bins of confidence, and the share of images in each: {found}.")
    if not legend:
        return figure
    patches = [Patch(**style) for style in (bar_style, over_style, under_style)]
    names = ["accuracy", "overconfidence", "underconfidence"]
    legend_below(figure, patches, names, 3 if columns > 1 else 1)
    return figure
