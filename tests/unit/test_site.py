"""The documentation's site: built without warnings, and asking for nothing from elsewhere."""

import importlib.util
import os
import re
import subprocess
import sys

import pytest

from helpers.paths import ROOT

_ATTRIBUTES = re.compile(r"""<(?:script|img|link|iframe)[^>]*?(?:src|href)=["']([^"']+)["']""")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    if not all(map(importlib.util.find_spec, ("mkdocs", "material", "mkdocstrings"))):
        pytest.skip("the extra docs is not installed")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        # Otherwise the theme prints a note on the next version of MkDocs.
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stderr
    return folder


def test_every_page_of_docs_is_built(site):
    pages = {page.stem for page in (ROOT / "docs").glob("*.md")}
    pages |= {"index", "changes", "benchmarks", "recipes"}
    assert {page.stem for page in site.glob("*.html")} == pages | {"404"}
    assert "Your own images" in (site / "index.html").read_text()
    assert (site / "released_weights.html").read_text().count("<tr>") == 71 + 1
    recipes = (site / "recipes.html").read_text()
    for path in (ROOT / "flags").rglob("*"):
        assert path.is_dir() or f"<code>{path.relative_to(ROOT / 'flags')}</code>" in recipes
    assert "--temperature" in (site / "reference" / "flags.html").read_text()


def test_no_page_asks_for_anything_from_elsewhere(site):
    for page in site.rglob("*.html"):
        for target in _ATTRIBUTES.findall(page.read_text()):
            assert not re.match(r"(https?:)?//", target), (page.name, target)
    for style in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//", style.read_text()), style.name


def test_equations_are_mathml(site):
    text = (site / "concepts.html").read_text()
    assert text.count("<math") >= 8 and "$$" not in text
    assert "<math" not in (site / "your_images.html").read_text()
