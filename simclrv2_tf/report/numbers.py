"""The numbers in a figure as a table, for the CSV file alongside the figure."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from simclrv2_tf.files import csv_text, write_text
from simclrv2_tf.report.figures import HELD_OUT, TRAINING, Panel, bar_ends
from simclrv2_tf.report.results import METHODS, ordered
from simclrv2_tf.report.style import save_figure


class Numbers(NamedTuple):
    """The table of a figure's numbers.

    Attributes:
        header: Names of the columns, each number with its unit.
        rows: One cell per column; None for missing numbers.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str | float | None]]

    def csv(self) -> str:
        """Returns the text of the file; numbers have all their digits."""
        cells = ([_text(value) for value in row] for row in self.rows)
        return csv_text([self.header, *cells])


def _text(value: str | float | None) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return str(value if isinstance(value, int) else float(value))


def save_drawn(
    figure, numbers: Numbers, folder, name: str, suffixes: Sequence[str] = (".png", ".svg")
) -> None:
    """Writes a figure to `folder/name` with each of `suffixes`, and its numbers with `.csv`.

    Args:
        figure: A matplotlib figure.
        numbers: The numbers in the figure.
        folder: An `epath.Path`.
        name: Name of the files, without a suffix.
        suffixes: As for `save_figure`.
    """
    for suffix in suffixes:
        save_figure(figure, folder / f"{name}{suffix}")
    write_text(folder / f"{name}.csv", numbers.csv())


def accuracy_numbers(rows: Sequence[Mapping]) -> Numbers:
    """Returns the points and error bars of `accuracy_figure(rows)`.

    Raises:
        ValueError: As for `results_markdown`.
    """
    header = (
        "method",
        "share of the images with a label (0 to 1)",
        "labels",
        "top-1 accuracy (%)",
        "bar from (%)",
        "bar to (%)",
        "bar",
    )
    return Numbers(
        header,
        [
            (
                METHODS[row["method"]].name,
                row["label_fraction"],
                row["num_labels"],
                100 * row["top1"],
                *bar_ends(row),
            )
            for row in ordered(rows)
        ],
    )


def learning_curves_numbers(panels: Sequence[Panel]) -> Numbers:
    """Returns the points of `learning_curves_figure(panels)`; column names include units."""
    return Numbers(
        ("panel", "curve", "images", "x axis", "x", "y axis", "y"),
        [
            (panel.title, name, images, panel.x_label, float(x), panel.y_label, float(y))
            for panel in panels
            for images, curves in ((TRAINING, panel.curves), (HELD_OUT, panel.held_out))
            for key, points in curves.items()
            for name in [METHODS[key].name if key in METHODS else key]
            for x, y in zip(*points, strict=True)
        ],
    )


def reliability_numbers(results: Mapping[str, Mapping]) -> Numbers:
    """Returns the non-empty bins of `reliability_figure(results)`, and the numbers above them."""
    header = (
        "classifier",
        "confidence from (0 to 1)",
        "confidence to (0 to 1)",
        "mean confidence (0 to 1)",
        "accuracy (0 to 1)",
        "share of images (0 to 1)",
        "top-1 of all (%)",
        "ECE of all (%)",
    )
    rows = []
    for name, result in results.items():
        images = sum(entry["count"] for entry in result["bins"])
        of_all = 100 * result["top1"], 100 * result["expected_calibration_error"]
        rows += [
            (
                name,
                *(entry[key] for key in ("lower", "upper", "confidence", "accuracy")),
                entry["count"] / images,
                *of_all,
            )
            for entry in result["bins"]
            if entry["count"]
        ]
    return Numbers(header, rows)
