"""The numbers that a figure draws, as a table: the CSV file beside the figure."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from simclrv2_tf.files import csv_text, write_text
from simclrv2_tf.report.figures import HELD_OUT, TRAINING, Panel, bar_ends
from simclrv2_tf.report.results import METHODS, ordered
from simclrv2_tf.report.style import save_figure


class Numbers(NamedTuple):
    """A table of what a figure draws.

    Attributes:
        header: Names of the columns, each number with its unit.
        rows: A cell for each column; None for a number that there is not.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str | float | None]]

    def csv(self) -> str:
        """The text of the file; numbers have all their digits."""
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
        numbers: What it draws.
        folder: An `epath.Path`.
        name: Of the files, without a suffix.
        suffixes: As `save_figure` knows them.
    """
    for suffix in suffixes:
        save_figure(figure, folder / f"{name}{suffix}")
    write_text(folder / f"{name}.csv", numbers.csv())


def accuracy_numbers(rows: Sequence[Mapping]) -> Numbers:
    """The points and error bars of `accuracy_figure(rows)`.

    Raises:
        ValueError: As `results_markdown`.
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
    """The points of `learning_curves_figure(panels)`; the columns of axes tell their units."""
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
    """The bins of `reliability_figure(results)` that have examples, and the numbers above them."""
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
