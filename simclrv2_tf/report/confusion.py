"""Confusion matrices."""

from collections.abc import Sequence

import numpy as np

from simclrv2_tf.report.style import ACCENT, TEXT

_LONGEST = 20  # letters of a name
_MOST_NUMBERS = 20  # classes up to which each cell has its count


def confusion_figure(matrix: np.ndarray, names: Sequence[str]):
    """Draws a confusion matrix: for each class, the share of its images with each prediction.

    Args:
        matrix: (C, C) counts; rows are classes, columns predictions.
        names: (C,).

    Returns:
        A matplotlib figure.

    Raises:
        ValueError: The numbers of names and classes differ.
    """
    from matplotlib.colors import LinearSegmentedColormap, to_rgb
    from matplotlib.figure import Figure

    if matrix.shape != (len(names), len(names)):
        raise ValueError(
            "`matrix` must have a row and a column for each name. "
            f"Received: shape {matrix.shape} and {len(names)} names"
        )
    side = min(max(4.0, 1.6 + 0.42 * len(names)), 14.0)
    figure = Figure(figsize=(side + 1, side), dpi=120, layout="constrained")
    axis = figure.subplots()
    totals = matrix.sum(axis=1, keepdims=True)
    shares = np.divide(matrix, totals, out=np.zeros(matrix.shape), where=totals > 0)
    # One color with varying opacity looks the same on a white and on a dark page.
    fading = LinearSegmentedColormap.from_list(
        "share", [(*to_rgb(ACCENT), 0), (*to_rgb(ACCENT), 1)]
    )
    drawn = axis.imshow(shares, cmap=fading, vmin=0, vmax=1)
    figure.colorbar(drawn, label="share of the class's images")
    size = TEXT - 3 if len(names) <= _MOST_NUMBERS else max(3, 170 // len(names))
    # A long name would leave no space for the matrix.
    shown = [f"{name[:_LONGEST]}…" if len(name) > _LONGEST else name for name in names]
    shown = [name.replace("$", r"\$") for name in shown]  # a dollar sign starts a formula
    axis.set_xticks(range(len(names)), shown, rotation=90, fontsize=size)
    axis.set_yticks(range(len(names)), shown, fontsize=size)
    axis.set_xlabel("predicted", fontsize=TEXT)
    axis.set_ylabel("class", fontsize=TEXT)
    for (row, column), count in np.ndenumerate(matrix) if len(names) <= _MOST_NUMBERS else ():
        if count:
            color = "white" if shares[row, column] > 0.5 else "black"
            cell = axis.text(column, row, f"{count:,}", ha="center", va="center", fontsize=9)
            cell.set(color=color, in_layout=False)  # measuring hundreds of cells is slow
    right = np.trace(matrix) / max(matrix.sum(), 1)
    figure.set_label(
        f"Confusion matrix of {len(names)} classes, with the share of each class's images per "
        f"prediction: {100 * right:.1f}% of all images are on the diagonal."
    )
    return figure
