"""Tables say exactly what the rows hold, and figures draw exactly that."""

import math
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from simclrv2_tf import report
from simclrv2_tf.augment import ViewOptions

NAMES = ["supervised", "fine-tuned", "self-distilled", "small student"]


def row(fraction, method, top1, **more):
    return {
        "label_fraction": fraction,
        "method": method,
        "top1": top1,
        "num_labels": round(60_000 * fraction),
        "parameters": 697_610,
        "seconds": 12.6,
        **more,
    }


def rows(**more):
    # As no one would sort them.
    return [
        row(0.1, "small_student", 0.874, **more),
        row(0.1, "supervised", 0.862, **more),
        row(0.01, "self_distilled", 0.821, **more),
        row(0.01, "supervised", 0.75, **more),
        row(0.1, "self_distilled", 0.886, **more),
        row(0.01, "fine_tuned", 0.815, **more),
    ]


def bins(accuracies, counts=None):
    edges = np.linspace(0, 1, len(accuracies) + 1).tolist()
    counts = counts or [float(10 * (index + 1)) for index in range(len(accuracies))]
    return [
        {
            "lower": lower,
            "upper": upper,
            "count": 0.0 if accuracy is None else count,
            "confidence": None if accuracy is None else (lower + upper) / 2,
            "accuracy": accuracy,
        }
        for lower, upper, accuracy, count in zip(
            edges[:-1], edges[1:], accuracies, counts, strict=True
        )
    ]


def reliability(accuracies=(None, 0.2, 0.5, 0.9), error=0.123, top1=0.7654):
    return {"bins": bins(accuracies), "expected_calibration_error": error, "top1": top1}


def heights(container):
    return [patch.get_height() for patch in container]


@pytest.mark.parametrize(
    ("fraction", "text"),
    [
        (0.01, "1%"),
        (0.005, "0.5%"),
        (1.0, "100%"),
        (1, "100%"),
        (0.07, "7%"),
        (0.29, "29%"),
        (1 / 60, "1.667%"),
        (1e-6, "0.0001%"),
        (0.0, "0%"),
    ],
)
def test_percent(fraction, text):
    assert report.percent(fraction) == text


def test_a_table_without_rows_is_its_header():
    assert report.table(["a", "bc"], []) == "| a | bc |\n| - | -- |"


def test_markdown_is_exact():
    given = [
        row(0.1, "fine_tuned", 0.9, seconds=1234.4, expected_calibration_error=0.01234),
        row(0.005, "small_student", 0.71236, parameters=1_000),
        row(0.005, "supervised", 0.5),
    ]
    given[0] |= {"top1_low": 0.8812, "top1_high": 0.9161}
    given[1] |= {"gain": 0.2124, "gain_low": -0.001, "gain_high": 0.43}
    assert report.results_markdown(given, "Results") == (
        "# Results\n"
        "\n"
        "| labels | method        | top-1 (%)         | over supervised    | ECE (%) "
        "| params | seconds |\n"
        "| -----: | ------------- | ----------------- | ------------------ | ------- "
        "| ------ | ------: |\n"
        "|    300 | supervised    | 50.0              | -                  | -       "
        "| 0.698M |      13 |\n"
        "|    300 | small student | 71.2              | +21.2 (-0.1, 43.0) | -       "
        "| 0.001M |      13 |\n"
        "|  6,000 | fine-tuned    | 90.0 (88.1, 91.6) | -                  | 1.2     "
        "| 0.698M |   1,234 |\n"
    )


def test_the_table_fits_a_terminal_of_100_columns():
    """With the longest of each number that a run of ImageNet may have."""
    given = row(0.1, "self_distilled", 0.765, seconds=987_654, parameters=795_000_000)
    given |= {"num_labels": 128_117, "expected_calibration_error": 0.1234, "gain": -0.1234}
    given |= {"top1_low": 0.7613, "top1_high": 0.7687, "gain_low": -0.1534, "gain_high": -0.1034}
    assert max(map(len, report.results_markdown([given]).splitlines())) <= 100


def test_markdown_has_the_columns_that_rows_have():
    def header(given):
        return [cell.strip() for cell in report.results_markdown(given).split("\n")[0].split("|")]

    plain = ["", "labels", "method", "top-1 (%)", "params", "seconds", ""]
    assert header(rows()) == plain
    assert header(rows(top1_std=None)) == plain
    spread = plain[:4] + ["std"] + plain[4:]
    assert header([*rows(), row(1.0, "supervised", 0.9, top1_std=0.01)]) == spread


@pytest.mark.parametrize("show", [report.results_markdown, report.accuracy_figure])
def test_rows_that_cannot_be_shown(show):
    with pytest.raises(ValueError, match=r"`rows` must hold .* Received: rows=\[\]"):
        show([])
    with pytest.raises(ValueError, match="Received: method='linear'"):
        show([row(0.01, "linear", 0.5)])
    with pytest.raises(ValueError, match="label_fraction=0.01, method='supervised' 2 times"):
        show([row(0.01, "supervised", 0.5), row(0.01, "supervised", 0.6)])


def test_accuracy_figure_draws_the_rows():
    figure = report.accuracy_figure(rows())
    (axis,) = figure.axes
    drawn = {
        container.get_label(): np.array(container.lines[0].get_data()).T.tolist()
        for container in axis.containers
    }
    assert list(drawn) == NAMES
    expected = {
        "supervised": [[0.01, 75.0], [0.1, 86.2]],
        "fine-tuned": [[0.01, 81.5]],
        "self-distilled": [[0.01, 82.1], [0.1, 88.6]],
        "small student": [[0.1, 87.4]],
    }
    for name, points in expected.items():
        np.testing.assert_allclose(drawn[name], points)
    assert not any(container.has_yerr for container in axis.containers)
    looks = [container.lines[0] for container in axis.containers]
    assert len({line.get_color() for line in looks}) == 4
    assert len({line.get_marker() for line in looks}) == 4
    assert axis.get_xscale() == "log"
    assert [tick.get_text() for tick in axis.get_xticklabels()] == [
        "1%\n600 labels",
        "10%\n6,000 labels",
    ]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == NAMES


def test_accuracy_figure_draws_the_spread():
    given = rows(top1_std=0.02)
    del given[1]["top1_std"]  # supervised at 10%
    given[5]["top1_std"] = None  # the only fine-tuned one
    (axis,) = report.accuracy_figure(given).axes
    bars = {
        container.get_label(): container.lines[2][0].get_segments() if container.has_yerr else None
        for container in axis.containers
    }
    assert bars["fine-tuned"] is None
    np.testing.assert_allclose(
        bars["self-distilled"], [[[0.01, 80.1], [0.01, 84.1]], [[0.1, 86.6], [0.1, 90.6]]]
    )
    np.testing.assert_allclose(bars["supervised"][0], [[0.01, 73], [0.01, 77]])
    assert np.isnan(bars["supervised"][1]).any() or len(bars["supervised"][1]) == 0


def test_accuracy_figure_draws_intervals():
    given = [row(0.01, "supervised", 0.75), row(0.1, "supervised", 0.8), row(0.1, "fine_tuned", 1)]
    given[1] |= {"top1_low": 0.78, "top1_high": 0.83}
    (axis,) = report.accuracy_figure(given).axes
    with_bars, without = axis.containers
    segments = [part for part in with_bars.lines[2][0].get_segments() if np.size(part)]
    np.testing.assert_allclose(segments[-1], [[0.1, 78], [0.1, 83]])
    assert without.get_label() == "fine-tuned" and not without.has_yerr
    assert axis.get_ylabel().endswith("bars: 95% interval")
    assert axis.get_ylim()[0] < 75


@pytest.mark.parametrize("given", [rows(top1_std=0.03), [row(0.01, "supervised", 0.75)]])
def test_accuracy_figure_shows_every_point(given):
    figure = report.accuracy_figure(given)
    figure.canvas.draw()
    (axis,) = figure.axes
    box = axis.get_window_extent()
    for container in axis.containers:
        line = container.lines[0]
        for x, y in line.get_transform().transform(np.array(line.get_data(), float).T):
            # With room for half a marker.
            assert box.x0 + 10 < x < box.x1 - 10 and box.y0 + 10 < y < box.y1 - 10
    low, high = axis.get_ylim()
    tops = [100 * (entry["top1"] + entry.get("top1_std", 0)) for entry in given]
    bottoms = [100 * (entry["top1"] - entry.get("top1_std", 0)) for entry in given]
    assert low < min(bottoms) and max(tops) < high


def test_methods_at_one_fraction_stand_apart():
    given = [row(0.01, name, 0.8) for name in report.METHODS]
    (axis,) = report.accuracy_figure(given).axes
    lines = [container.lines[0] for container in axis.containers]
    places = [line.get_transform().transform((0.01, 80))[0] for line in lines]
    # In pixels; a marker's width in points is `markersize`.
    assert min(np.diff(places)) > lines[0].get_markersize() * axis.figure.dpi / 72


def panels():
    few = {"supervised": ([0.5, 1], ["0.3", "0.9"]), "small_student": ([1.0], [0.8])}
    return [
        report.Panel("pretraining", "contrastive loss", {"all": (range(1, 4), [3, 2, 1.5])}),
        report.Panel("1% of the labels", "accuracy", few, "share of training"),
        report.Panel("10% of the labels", "accuracy", {**few, "probe": ([0, 1], [0, 1])}),
    ]


def test_learning_curves_draw_the_panels():
    figure = report.learning_curves_figure(panels())
    assert [axis.get_title() for axis in figure.axes] == [panel.title for panel in panels()]
    assert [axis.get_xlabel() for axis in figure.axes] == ["epoch", "share of training", "epoch"]
    assert figure.axes[0].get_ylabel() == "contrastive loss"
    drawn = [[(line.get_label(), *line.get_data()) for line in axis.lines] for axis in figure.axes]
    assert [[label for label, _, _ in lines] for lines in drawn] == [
        ["all"],
        ["supervised", "small student"],
        ["supervised", "small student", "probe"],
    ]
    np.testing.assert_array_equal(drawn[0][0][1:], [[1, 2, 3], [3, 2, 1.5]])
    np.testing.assert_array_equal(drawn[1][0][1:], [[0.5, 1], [0.3, 0.9]])
    supervised, student = figure.axes[1].lines
    assert supervised.get_color() == report.METHODS["supervised"].color
    assert supervised.get_marker() == "None" and student.get_marker() == "o"
    looks = [(line.get_color(), line.get_linestyle()) for line in figure.axes[2].lines]
    assert len(set(looks)) == 3
    assert looks[:2] == [(line.get_color(), line.get_linestyle()) for line in figure.axes[1].lines]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "supervised",
        "small student",
        "probe",
    ]


def test_no_legend_is_cut_off():
    """Four long names in a narrow figure: fewer columns, and all of them within the figure."""
    names = ["online classifier", "nearest neighbours", "training images", "held-out images"]
    curves = {name: (range(3), [1, 2, 3]) for name in names}
    for count in (1, 2, 3):
        found = [report.Panel(f"panel {i}", "accuracy", curves) for i in range(count)]
        figure = report.learning_curves_figure(found)
        (legend,) = figure.legends
        extent = legend.get_window_extent(FigureCanvasAgg(figure).get_renderer())
        assert 0 < extent.width <= figure.bbox.width
        assert [text.get_text() for text in legend.get_texts()] == names


def test_learning_curves_of_one_curve_need_no_legend():
    figure = report.learning_curves_figure(panels()[:1])
    assert len(figure.axes) == 1 and not figure.legends


def test_learning_curves_need_curves():
    with pytest.raises(ValueError, match=r"`panels` must hold .* Received: panels=\[\]"):
        report.learning_curves_figure([])
    with pytest.raises(ValueError, match="Received: an empty 'a'"):
        report.learning_curves_figure([report.Panel("a", "b", {})])
    for x, y in (([], []), ([1, 2], [1])):
        with pytest.raises(ValueError, match=rf"Received: {len(x)} and {len(y)} for 'c' in 'a'"):
            report.learning_curves_figure([report.Panel("a", "b", {"c": (x, y)})])


def test_reliability_figure_draws_the_bins():
    given = {"teacher": reliability(), "student": reliability((0.3, 0.375, None, 0.6), 0.05, 0.8)}
    figure = report.reliability_figure(given)
    teacher, student, *below = figure.axes
    assert teacher.get_title() == "teacher\ntop-1 76.5%, ECE 12.3%"
    assert student.get_title() == "student\ntop-1 80.0%, ECE 5.0%"
    accuracy, over, under = teacher.containers
    assert heights(accuracy) == [0.2, 0.5, 0.9]
    assert [patch.get_x() for patch in accuracy] == [0.25, 0.5, 0.75]
    assert [patch.get_width() for patch in accuracy] == [0.25] * 3
    # Confidences are 0.375, 0.625 and 0.875: gaps begin at the accuracy and end there.
    np.testing.assert_allclose([(p.get_x(), p.get_y()) for p in over], [(0.25, 0.2), (0.5, 0.5)])
    np.testing.assert_allclose(heights(over), [0.175, 0.125])
    np.testing.assert_allclose([(p.get_x(), p.get_y()) for p in under], [(0.75, 0.9)])
    np.testing.assert_allclose(heights(under), [-0.025])
    accuracy, over, under = student.containers
    assert heights(accuracy) == [0.3, 0.375, 0.6]
    # The second bin is calibrated.
    assert [patch.get_x() for patch in over] == [0.75]
    assert [patch.get_x() for patch in under] == [0]
    for axis in (teacher, student):
        np.testing.assert_array_equal(axis.lines[0].get_xydata(), [[0, 0], [1, 1]])
    np.testing.assert_allclose(heights(below[0].containers[0]), [20 / 90, 30 / 90, 40 / 90])
    np.testing.assert_allclose(heights(below[1].containers[0]), [10 / 70, 20 / 70, 40 / 70])


@pytest.mark.parametrize(("count", "grid"), [(1, (1, 1)), (4, (1, 4)), (5, (2, 3)), (8, (2, 4))])
def test_reliability_figure_has_a_panel_for_each(count, grid):
    figure = report.reliability_figure({f"model {index}": reliability() for index in range(count)})
    assert len(figure.axes) == 2 * grid[0] * grid[1]
    assert sum(axis.axison for axis in figure.axes) == 2 * count
    titles = [axis.get_title().split("\n")[0] for axis in figure.axes if axis.get_title()]
    assert titles == [f"model {index}" for index in range(count)]


def test_reliability_figure_needs_examples():
    with pytest.raises(ValueError, match=r"`results` must hold .* Received: results=\{\}"):
        report.reliability_figure({})
    with pytest.raises(ValueError, match="Received: none for 'student'"):
        report.reliability_figure({"student": reliability((None, None))})
    for error, top1 in ((None, 0.5), (math.nan, 0.5), (0.1, None)):
        given = reliability(error=error, top1=top1)
        assert not report.can_be_drawn(given)
        with pytest.raises(ValueError, match="a number that is not finite for 'student'"):
            report.reliability_figure({"student": given})
    assert report.can_be_drawn(reliability())


FIGURES = {
    "accuracy": (lambda: report.accuracy_figure(rows(top1_std=0.01)), [*NAMES, "600 labels"]),
    "curves": (
        lambda: report.learning_curves_figure(panels()),
        ["supervised", "small student", "1% of the labels", "contrastive loss"],
    ),
    "reliability": (
        lambda: report.reliability_figure({"teacher": reliability(), "student": reliability()}),
        ["teacher", "student", "overconfidence", "confidence", "top-1 76.5%, ECE 12.3%"],
    ),
}


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_written(tmp_path, name):
    draw, texts = FIGURES[name]
    report.save_figure(draw(), tmp_path / "figure.png")
    png = (tmp_path / "figure.png").read_bytes()
    assert png.startswith(b"\x89PNG\r\n\x1a\n") and len(png) > 10_000
    for file in ("one.svg", "two.svg"):
        report.save_figure(draw(), tmp_path / file)
    svg = (tmp_path / "one.svg").read_bytes()
    assert svg == (tmp_path / "two.svg").read_bytes()
    assert b"<dc:date>" not in svg
    root = ElementTree.fromstring(svg)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    words = {"".join(node.itertext()).strip() for node in root.iter() if node.tag.endswith("text")}
    assert words >= set(texts)


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_that_is_laid_out_once_is_the_figure_that_matplotlib_saves(tmp_path, name):
    draw, _ = FIGURES[name]
    figure = draw()
    alt = figure.get_label()
    draw().savefig(tmp_path / "plain.png", metadata={"Description": alt} if alt else {})
    report.save_figure(figure, tmp_path / "figure.svg")
    report.save_figure(figure, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes() == (tmp_path / "plain.png").read_bytes()


def test_figures_have_a_known_suffix(tmp_path):
    figure = report.learning_curves_figure(panels()[:1])
    with pytest.raises(ValueError, match=r"must end in .png or .svg. Received: path=.*a\.jpeg"):
        report.save_figure(figure, tmp_path / "a.jpeg")
    assert not list(tmp_path.iterdir())


def test_views_figure(tmp_path):
    views = np.random.default_rng(0).uniform(-0.1, 1.1, (2, 5, 8, 8, 3))
    figure = report.views_figure(*views, count=3)
    images = [axis.images[0].get_array() for axis in figure.axes]
    np.testing.assert_array_equal(images, np.clip(views[:, :3], 0, 1).reshape(6, 8, 8, 3))
    assert [axis.get_ylabel() for axis in figure.axes] == ["view 1", "", "", "view 2", "", ""]
    report.save_figure(figure, tmp_path / "views.png")
    assert (tmp_path / "views.png").stat().st_size > 0


@pytest.mark.parametrize(
    ("channels", "drawn", "words"),
    [
        (1, [0], ""),
        (2, [0], ": of 2 bands, the first as gray"),
        (5, [0, 1, 2], ": of 5 bands, the first three as red, green and blue"),
    ],
)
def test_views_of_other_channels_say_which_are_drawn(channels, drawn, words):
    views = np.random.default_rng(0).uniform(0, 1, (2, 3, 8, 8, channels))
    figure = report.views_figure(*views)
    assert figure.get_suptitle() == "Two augmented views of each image" + words
    for axis, view in zip(figure.axes, views.reshape(-1, 8, 8, channels), strict=True):
        (image,) = axis.images
        np.testing.assert_array_equal(np.squeeze(image.get_array()), np.squeeze(view[..., drawn]))
        assert image.get_cmap().name == "gray" and image.get_clim() == (0, 1)


@pytest.mark.parametrize("count", [1, 5, 12])
def test_views_stand_below_their_originals(count):
    images = np.random.default_rng(0).uniform(0, 1, (3, 5, 8, 8, 3))
    original, view1, view2 = images
    settings = ViewOptions(min_crop_area=0.123, flip="both", rotate=True).views_in_words()
    figure = report.views_figure(view1, view2, count, original, settings)
    shown = min(count, 5)
    drawn = [axis.images[0].get_array() for axis in figure.axes]
    np.testing.assert_array_equal(drawn, images[:, :shown].reshape(-1, 8, 8, 3))
    labels = [axis.get_ylabel() for axis in figure.axes if axis.get_ylabel()]
    assert labels == ["original", "view 1", "view 2"]
    assert figure.get_suptitle().splitlines()[1:] == [settings]
    # The line of settings fits into the figure.
    figure.draw_without_rendering()
    (width, _), title = figure.get_size_inches(), figure._suptitle.get_window_extent()
    assert 0 <= title.x0 and title.x1 <= width * figure.dpi
