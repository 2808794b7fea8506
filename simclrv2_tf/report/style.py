"""The look that all figures share, and how they are written."""

import io
import math

from simclrv2_tf.files import whole

TEXT = 13  # points, in figures around 7 inches wide: readable from a slide


def style_axis(axis, x_label: str = "", y_label: str = "") -> None:
    """Labels and grids an axis."""
    axis.set_xlabel(x_label, fontsize=TEXT)
    axis.set_ylabel(y_label, fontsize=TEXT)
    axis.tick_params(labelsize=TEXT - 1)
    axis.grid(color="#dddddd", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)


def grid(count: int, most_columns: int) -> tuple[int, int]:
    """Rows and columns of `count` panels, the rows as full as can be."""
    rows = math.ceil(count / most_columns)
    return rows, math.ceil(count / rows)


def legend_below(figure, handles, labels, columns: int) -> None:
    """Adds one legend for all panels of a figure."""
    figure.legend(
        handles, labels, ncols=columns, loc="outside lower center", fontsize=TEXT, frameon=False
    )


def save_figure(figure, path) -> None:
    """Writes a matplotlib figure to `path`, an `epath.Path` that ends in `.png` or `.svg`.

    The same figure gives the same bytes, written whole or not at all. Texts of an SVG stay texts,
    to be searched and edited.

    Raises:
        ValueError: `path` ends otherwise.
    """
    import matplotlib

    # An SVG would otherwise have the time and random ids.
    metadata = {".png": {}, ".svg": {"Date": None}}
    if path.suffix not in metadata:
        raise ValueError(f"`path` must end in .png or .svg. Received: path={path}")
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "simclrv2_tf"}):
        figure.savefig(buffer, format=path.suffix[1:], metadata=metadata[path.suffix])
    with whole(path) as unfinished:
        unfinished.write_bytes(buffer.getvalue())
