"""The report in a browser: it fits, asks for nothing, and its map answers."""

import re

import numpy as np
import pytest

from helpers import browser, report_runs
from simclrv2_tf.experiments import report_page
from simclrv2_tf.report.page import suggestions

NAMES = (
    "T-shirt/top",
    "a class with a very long name, as folders of photographs have them",
    "<i>&",
)
WIDTHS = (360, 390, 768, 1280)


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Pages of a whole run, of one that was stopped, of one without labels, and of all of them."""
    browser.programs()
    root = tmp_path_factory.mktemp("runs")
    runs = {
        "whole": report_runs.run_of_stages(
            root / "a_name_that_is_longer_than_a_phone_is_wide", NAMES
        ),
        "stopped": report_runs.run_of_stages(root / "stopped", ended=1),
        "flat": report_runs.run_of_one(root / "flat", (), train_mode="pretrain"),
    }
    found = {name: report_page.write([str(run)]) for name, run in runs.items()}
    every = root / "all.html"
    found["all"] = report_page.write([str(run) for run in runs.values()], str(every))
    found["suggestions"] = root / "suggestions.html"
    found["suggestions"].write_text(suggestions.html(suggested(), "today"))
    return found


def suggested():
    """Twelve images to label, of files with long names."""
    pixels = np.random.default_rng(0).integers(0, 256, (12, 96, 96, 3)).astype(np.uint8)
    return suggestions.Suggestions(
        model="runs/a_name_that_is_longer_than_a_phone_is_wide_" + "x" * 40,
        images="photos",
        table="suggestions.csv",
        asked=20,
        readable=4000,
        labelled=7,
        files=[f"<i>&/{'long' * 20}_{number}.jpg" for number in range(12)],
        clusters=range(1, 13),
        sizes=[1200] * 12,
        typicality=[3.5] * 12,
        thumbnails=pixels,
    )


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    with browser.opened(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.mark.parametrize("name", ["whole", "stopped", "flat", "all", "suggestions"])
def test_a_page_fits_and_asks_for_nothing(name, pages, chromium):
    for width in WIDTHS:
        chromium.open(pages[name], width)
        assert chromium.run("return innerWidth") == width
        # Of an element that is wider than the page, not of one that scrolls within.
        wide = chromium.run("return document.documentElement.scrollWidth")
        assert wide <= width, (name, width, wide)
        assert chromium.console() == []
        asked = chromium.requests()
        assert asked and {url.partition(":")[0] for url in asked} <= {"file", "data"}
        assert {url for url in asked if url.startswith("file")} == {pages[name].as_uri()}
    ids = chromium.run("return [...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len({*ids})


def lightness(color):
    return sum(map(float, re.findall(r"[\d.]+", color)[:3])) / 3


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_both_color_schemes(scheme, pages, chromium):
    chromium.open(pages["whole"], scheme=scheme)
    background = lightness(chromium.run("return getComputedStyle(document.body).backgroundColor"))
    assert (background < 60) == (scheme == "dark")
    texts = "body, h2, td, figcaption, small, nav a, pre, .drawn text:not([style*='#ffffff'])"
    colors = chromium.run(
        """return [...document.querySelectorAll(arguments[0])].map(element => {
             const style = getComputedStyle(element);
             return element.tagName === "text" ? style.fill : style.color;
           })""",
        texts,
    )
    assert len(colors) > 100
    for color in {*colors}:
        assert abs(lightness(color) - background) > 80, color


def test_texts_of_figures_can_be_read_on_a_phone(pages, chromium):
    chromium.open(pages["whole"], 360)
    sizes = chromium.run(
        """return [...document.querySelectorAll(".figures .drawn, .wide .drawn")].map(drawn => {
             const scale = drawn.getBoundingClientRect().width / drawn.viewBox.baseVal.width;
             const texts = [...drawn.querySelectorAll("text")];
             return Math.min(...texts.map(t => scale * parseFloat(getComputedStyle(t).fontSize)));
           })"""
    )
    assert len(sizes) >= 8 and min(sizes) >= 8, sizes


def test_on_paper_nothing_is_cut_off(pages, chromium):
    chromium.open(pages["whole"], 800, media="print")
    shown = "return getComputedStyle(document.querySelector(arguments[0])).display"
    assert chromium.run(shown, "nav") == "none" and chromium.run(shown, "main") == "block"
    assert chromium.run("return getComputedStyle(document.querySelector('.scroll')).overflowX") in (
        "visible",
        "clip",
    )


def test_the_map_shows_the_image_of_a_point_and_one_class_alone(pages, chromium):
    chromium.open(pages["whole"])
    (tip,) = chromium.find(".tip")
    assert not tip.is_displayed()
    point = chromium.find(".plane circle")[7]
    chromium.point_at(point)
    assert tip.is_displayed()
    # Points may cover each other: the one that is shown is marked.
    (marked,) = chromium.find("circle.at")
    index = int(marked.get_attribute("data-index"))
    assert tip.text == marked.get_attribute("data-text") and f"test/{index}" in tip.text
    box = chromium.run("return arguments[0].querySelector('svg').getAttribute('viewBox')", tip)
    assert box == f"{index % 40 * 32} {index // 40 * 32} 32 32"
    inside = chromium.run(
        """const a = arguments[0].getBoundingClientRect();
           const b = arguments[0].parentElement.getBoundingClientRect();
           return [a.left >= b.left, a.right <= b.right, a.top >= b.top, a.bottom <= b.bottom]""",
        tip,
    )
    assert inside == [True] * 4
    chromium.point_at(chromium.find("h1")[0])
    assert not tip.is_displayed()
    buttons = chromium.find(".legend button")
    assert [button.text for button in buttons] == list(NAMES)
    aside = (
        "return [...document.querySelectorAll('.plane g')].map(g => g.classList.contains('aside'))"
    )
    for pressed, expected in ((0, [False, True, True]), (2, [True, True, False]), (2, [False] * 3)):
        chromium.run("arguments[0].click()", buttons[pressed])
        assert chromium.run(aside) == expected
        states = [button.get_attribute("aria-pressed") for button in buttons]
        assert states == [str(not hidden and any(expected)).lower() for hidden in expected]
    assert chromium.console() == []


@pytest.mark.parametrize(("ci", "ends"), [("true", pytest.fail), ("", pytest.skip)])
def test_without_a_browser_tests_skip_and_fail_in_ci(ci, ends, monkeypatch):
    monkeypatch.setattr(browser.shutil, "which", lambda name: None)
    monkeypatch.setenv("CI", ci)
    with pytest.raises(ends.Exception, match="chromium-driver, of Debian, are not installed"):
        browser.programs()
