"""Confusion matrices."""

from collections.abc import Sequence

import numpy as np

from simclrv2_tf.report.style import ACCENT, TEXT

_LONGEST = 20  # letters of a name
_MOST_NUMBERS = 20  # classes up to which each cell has its count


def confusion_figure(matrix: np.ndarray, names: Sequence[str]):
    """Draws a confusion matrix: the share of each class's images that each prediction has.

    Args:
        matrix: (C, C) counts, a row a class, a column a prediction.
        names: (C,).

    Returns:
        A matplotlib figure.

    Raises:
        ValueError: There are not as many names as classes.
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
    # Of one color that fades out, it looks the same on white paper and on a dark page.
    fading = LinearSegmentedColormap.from_list(
        "share", [(*to_rgb(ACCENT), 0), (*to_rgb(ACCENT), 1)]
    )
    drawn = axis.imshow(shares, cmap=fading, vmin=0, vmax=1)
    figure.colorbar(drawn, label="share of the class's images")
    size = TEXT - 3 if len(names) <= _MOST_NUMBERS else max(3, 170 // len(names))
    # A long name would leave no place for the matrix.
    shown = [f"{name[:_LONGEST]}…" if len(name) > _LONGEST else name for name in names]
    shown = [name.replace("$", r"\$") for name in shown]  # which begins mathematics
    axis.set_xticks(range(len(names)), shown, rotation=90, fontsize=size)
    axis.set_yticks(range(len(names)), shown, fontsize=size)
    axis.set_xlabel("predicted", fontsize=TEXT)
    axis.set_ylabel("class", fontsize=TEXT)
    for (row, column), count in np.ndenumerate(matrix) if len(names) <= _MOST_NUMBERS else ():
        if count:
            color = "white" if shares[row, column] > 0.5 else "black"
            cell = axis.text(column, row, f"{count:,}", ha="center", va="center", fontsize=9)
            cell.set(color=color, in_layout=False)  # measuring hundreds of them takes long
    right = np.trace(matrix) / max(matrix.sum(), 1)
    figure.set_label(
        f"Confusion matrix of {len(names)} classes, the share of each class's images that each "
        f"prediction has: {100 * right:.1f}% of all images are on the diagonal."
    )
    return figure
