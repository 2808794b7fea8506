"""The CSV file of a figure has exactly the values that matplotlib holds."""

import csv
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from etils import epath
from PIL import Image

from simclrv2_tf import report


def row(fraction, method, top1, **more):
    return {
        "label_fraction": fraction,
        "method": method,
        "top1": top1,
        "num_labels": round(60_000 * fraction),
        **more,
    }


def rows():
    return [
        row(0.1, "fine_tuned", 1 / 3, top1_low=0.3, top1_high=0.4),
        row(0.01, "supervised", 0.75, top1_std=0.03, top1_low=0.7, top1_high=0.8),
        row(0.01, "fine_tuned", 0.8123),
        row(0.1, "small_student", 0.9, top1_low=0.87, top1_high=0.91),
    ]


def panels():
    names = {
        "supervised": ([1, 2, 3], [30.5, 1e-7, 200 / 3]),
        "small_student": ([3], [80.25]),
    }
    held_out = {"supervised": ([2, 3], [41.5, 42.5]), 'nearest, "neighbours"': ([3], [7])}
    return [
        report.Panel("pretraining", "contrastive loss", {"pretraining": ([1, 2], [9.5, 8.25])}),
        report.Panel(
            "1% of the labels", "top-1 accuracy (%)", names, "training done (%)", held_out
        ),
        report.Panel("10% of the labels", "top-1 accuracy (%)", {}, held_out=held_out),
    ]


def bins(*entries):
    edges = np.linspace(0, 1, len(entries) + 1).tolist()
    return [
        {"lower": edges[k], "upper": edges[k + 1], "count": n, "confidence": c, "accuracy": a}
        for k, (n, c, a) in enumerate(entries)
    ]


def reliability():
    own = bins((0.0, None, None), (30.0, 0.4, 1 / 3), (10.0, 0.9, 0.95))
    other = bins((5.0, 0.2, 0.1), (0.0, None, None), (15.0, 0.8, 0.7))
    return {
        "teacher": {"top1": 0.5, "expected_calibration_error": 0.0625, "bins": own},
        "student": {"top1": 0.55, "expected_calibration_error": 0.1, "bins": other},
    }


@pytest.fixture
def written(tmp_path):
    def write(figure, numbers, suffixes=(".png", ".svg")):
        report.save_drawn(figure, numbers, epath.Path(tmp_path), "drawn_1.667pct", suffixes)
        names = {path.name for path in tmp_path.iterdir()}
        assert names == {f"drawn_1.667pct{suffix}" for suffix in (*suffixes, ".csv")}
        with (tmp_path / "drawn_1.667pct.csv").open(newline="") as file:
            return list(csv.DictReader(file))

    return write


def test_accuracy_and_its_bars(written):
    figure = report.accuracy_figure(rows())
    held = written(figure, report.accuracy_numbers(rows()))
    (axis,) = figure.axes
    points = [
        (container.get_label(), *point)
        for container in axis.containers
        for point in zip(*container.lines[0].get_data(), strict=True)
    ]
    x, y = "share of the images with a label (0 to 1)", "top-1 accuracy (%)"
    assert {(r["method"], float(r[x]), float(r[y])) for r in held} == set(points)
    assert len(held) == len(points) == 4
    for container in axis.containers:
        own = [r for r in held if r["method"] == container.get_label()]
        segments = container.lines[2][0].get_segments()
        ends = {tuple(part[:, 1]) for part in segments if np.isfinite(part).all() and len(part)}
        listed = {(float(r["bar from (%)"]), float(r["bar to (%)"])) for r in own if r["bar"]}
        np.testing.assert_allclose(sorted(listed), sorted(ends), rtol=1e-12)
    bars = {(r["method"], r["labels"]): r["bar"] for r in held}
    assert bars == {
        ("supervised", "600"): "standard deviation over seeds",
        ("fine-tuned", "600"): "",
        ("fine-tuned", "6000"): "95% interval",
        ("small student", "6000"): "95% interval",
    }


def test_learning_curves_on_training_and_held_out_images(written):
    figure = report.learning_curves_figure(panels())
    held = written(figure, report.learning_curves_numbers(panels()))
    drawn = [
        (axis.get_title(), axis.get_xlabel(), axis.get_ylabel(), line.get_label(), *point)
        for axis in figure.axes
        for line in axis.lines
        for point in line.get_xydata().tolist()
    ]
    listed = [
        (
            r["panel"],
            r["x axis"],
            r["y axis"],
            r["curve"] + (", held-out" if r["images"] == "held-out" else ""),
            float(r["x"]),
            float(r["y"]),
        )
        for r in held
    ]
    assert listed == drawn and len(listed) == 12
    assert {r["images"] for r in held} == {"training", "held-out"}


def test_held_out_curves_share_the_color_and_show_their_points():
    figure = report.learning_curves_figure(panels())
    training, student, held_out, neighbours = figure.axes[1].lines
    assert training.get_color() == held_out.get_color() == report.METHODS["supervised"].color
    assert training.get_marker() == "None" and held_out.get_marker() == "o"
    # One point of training is drawn as a dot, one on held-out images as a circle.
    assert student.get_markerfacecolor() == student.get_color()
    assert neighbours.get_markerfacecolor() == "white"
    assert len({line.get_color() for line in figure.axes[1].lines}) == 3
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "supervised",
        "small student",
        'nearest, "neighbours"',
        "training images",
        "held-out images",
    ]


def test_bins_of_confidence(written):
    figure = report.reliability_figure(reliability())
    held = written(figure, report.reliability_numbers(reliability()), (".png",))
    uppers, lowers = figure.axes[:2], figure.axes[2:4]
    for name, upper, lower in zip(reliability(), uppers, lowers, strict=True):
        own = [r for r in held if r["classifier"] == name]
        bars, shares = upper.containers[0], lower.containers[0]
        assert [float(r["confidence from (0 to 1)"]) for r in own] == [p.get_x() for p in bars]
        widths = [
            float(r["confidence to (0 to 1)"]) - float(r["confidence from (0 to 1)"]) for r in own
        ]
        assert widths == pytest.approx([p.get_width() for p in bars], abs=1e-12)
        assert [float(r["accuracy (0 to 1)"]) for r in own] == [p.get_height() for p in bars]
        assert [float(r["share of images (0 to 1)"]) for r in own] == [
            p.get_height() for p in shares
        ]
        gaps = {p.get_x(): p.get_height() for c in upper.containers[1:] for p in c}
        for r in own:
            gap = float(r["mean confidence (0 to 1)"]) - float(r["accuracy (0 to 1)"])
            assert gaps[float(r["confidence from (0 to 1)"])] == gap
        title = f"top-1 {float(own[0]['top-1 of all (%)']):.1f}%, "
        assert upper.get_title() == f"{name}\n{title}ECE {float(own[0]['ECE of all (%)']):.1f}%"


def test_what_a_figure_shows_is_listed_in_words(tmp_path):
    """The first and last number of each curve: in the title of an SVG, in a PNG's description."""
    figure = report.learning_curves_figure(panels())
    report.save_drawn(figure, report.learning_curves_numbers(panels()), epath.Path(tmp_path), "a")
    root = ElementTree.parse(tmp_path / "a.svg").getroot()
    (title,) = [node.text for node in root if node.tag.endswith("}title")]
    assert title == Image.open(tmp_path / "a.png").info["Description"]
    assert title.startswith(
        "pretraining, contrastive loss against epoch: pretraining from 9.5 to 8.25"
    )
    assert "supervised on held-out images from 41.5 to 42.5" in title


@pytest.mark.parametrize(
    ("draw", "listed"),
    [
        (lambda: report.accuracy_figure(rows()), "fine-tuned 81.2 at 1%, 33.3 at 10%; small"),
        (lambda: report.reliability_figure(reliability()), "teacher top-1 50.0%, ECE 6.2%; stud"),
        (lambda: report.confusion_figure(np.array([[3, 1], [0, 4]]), "ab"), "87.5% of all images"),
        (lambda: report.views_figure(*np.zeros((2, 3, 4, 4, 3))), "views of each image, 3 pairs"),
    ],
)
def test_every_figure_has_an_alternative_text(draw, listed):
    assert listed in draw().get_label()
