"""The look that all figures share, and how they are written."""

from __future__ import annotations

TEXT = 13  # points, in figures around 7 inches wide: readable from a slide


def style_axis(axis, x_label: str = "", y_label: str = "") -> None:
    """Labels and grids an axis."""
    axis.set_xlabel(x_label, fontsize=TEXT)
    axis.set_ylabel(y_label, fontsize=TEXT)
    axis.tick_params(labelsize=TEXT - 1)
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
