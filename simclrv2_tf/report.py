"""What a run shows to people: closing tables and figures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def table(header: Sequence[str], rows: Sequence[Sequence]) -> str:
    """Lays out `rows` under `header` as a Markdown table, numbers to the right.

    Floats are shown with four decimals, integers with thousands separated, None as a dash.
    """
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *cells, strict=True)]
    numeric = [
        all(isinstance(value, int | float | None) for value in column)
        for column in zip(*rows, strict=True)
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


def save_figure(figure, path) -> None:
    """Writes a matplotlib figure as a PNG to `path`, a local or remote `epath.Path`."""
    import io

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    path.write_bytes(buffer.getvalue())
