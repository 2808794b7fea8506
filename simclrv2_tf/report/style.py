"""The common style of all figures, and their files."""

import io
import math

from simclrv2_tf.files import whole

ACCENT, SECOND = "#0072B2", "#D55E00"  # of Okabe and Ito
TEXT = 13  # points, in figures around 7 inches wide: readable from a slide


def style_axis(axis, x_label: str = "", y_label: str = "") -> None:
    """Adds labels and a grid to an axis."""
    axis.set_xlabel(x_label, fontsize=TEXT)
    axis.set_ylabel(y_label, fontsize=TEXT)
    axis.tick_params(labelsize=TEXT - 1)
    axis.grid(color="#dddddd", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)


def grid(count: int, most_columns: int) -> tuple[int, int]:
    """Returns the number of rows and columns for `count` panels."""
    rows = math.ceil(count / most_columns)
    return rows, math.ceil(count / rows)


def legend_below(figure, handles, labels, columns: int) -> None:
    """Adds one legend for all panels of a figure, with as many columns as fit."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    renderer = FigureCanvasAgg(figure).get_renderer()
    for count in range(columns, 0, -1):
        legend = figure.legend(
            handles, labels, ncols=count, loc="outside lower center", fontsize=TEXT, frameon=False
        )
        if count == 1 or legend.get_window_extent(renderer).width <= figure.bbox.width:
            return
        legend.remove()


def rendered(
    figure, suffix: str, salt: str = "simclrv2_tf", transparent: bool = False, alt: str = ""
) -> bytes:
    """Returns the bytes of a matplotlib figure; equal figures give equal bytes.

    Text in an SVG stays text, for search and editing.

    Args:
        figure: The figure.
        suffix: ".png" or ".svg".
        salt: Salt of the hashed ids in an SVG.
        transparent: Whether the figure has no background.
        alt: Description for readers who do not see the figure: the title of an SVG, the description
            in the metadata of a PNG.
    """
    import matplotlib

    if engine := figure.get_layout_engine():
        # Once for all formats. With a layout engine, each format would be laid out and drawn twice.
        engine.execute(figure)
        figure.set_layout_engine(None)
    if suffix == ".svg":
        # An SVG would otherwise have the time and random ids.
        metadata = {"Date": None} | ({"Title": alt} if alt else {})
    else:
        metadata = {"Description": alt} if alt else {}
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": salt}):
        figure.savefig(buffer, format=suffix[1:], metadata=metadata, transparent=transparent)
    return buffer.getvalue()


def save_figure(figure, path) -> None:
    """Writes a matplotlib figure to `path`, an `epath.Path` that ends in `.png` or `.svg`.

    Writes atomically. The label of the figure is its alternative text.

    Raises:
        ValueError: `path` has another suffix.
    """
    if path.suffix not in (".png", ".svg"):
        raise ValueError(f"`path` must end in .png or .svg. Received: path={path}")
    content = rendered(figure, path.suffix, alt=figure.get_label())
    with whole(path) as unfinished:
        unfinished.write_bytes(content)
