"""benchmarks/your_images: its README shows its record."""

import json
import sys

import pytest

from helpers.paths import ROOT

FOLDER = ROOT / "benchmarks" / "your_images"


@pytest.fixture
def study(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.delitem(sys.modules, "run", raising=False)
    import run

    return run


def test_readme_shows_what_is_recorded(study):
    found = json.loads((FOLDER / "results.json").read_text())
    text = (FOLDER / "README.md").read_text()
    assert study.table(found) in text and found["processor"] in text
    for stage, accuracies in found["accuracy"].items():
        for accuracy, (low, high) in zip(accuracies, found["interval"][stage], strict=True):
            assert 0 <= low < accuracy < high <= 1
            assert accuracy * found["images"] == pytest.approx(round(accuracy * found["images"]))
