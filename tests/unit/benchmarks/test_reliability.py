"""The short form of benchmarks/reliability: what is damaged is refused or skipped."""

import json
import random

import pytest

from helpers.paths import ROOT

FOLDER = ROOT / "benchmarks" / "reliability"


@pytest.fixture
def damage(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    import damage

    return damage


@pytest.mark.parametrize(
    "kind, count", [("checkpoints", 40), ("images", 150), ("command_lines", 300)]
)
def test_nothing_ends_in_a_traceback(damage, kind, count):
    found = getattr(damage, kind)(count, random.Random(1))
    bad = {what: n for what, n in found.items() if what.startswith(("traceback", "wrong"))}
    assert not bad, found
    assert not found.get("folders made")
    if kind != "images":
        found.pop("folders made", None)
        assert sum(found.values()) == count


def test_readme_shows_what_is_recorded(damage):
    import deterministic
    import kills
    import pipeline_memory

    results = json.loads((FOLDER / "results.json").read_text())
    text = (FOLDER / "README.md").read_text()
    assert damage.table(results["damage"]) in text
    assert kills.table(results["kills"]) in text
    assert deterministic.table(results["deterministic"]) in text
    rows = results["pipeline memory"]
    for shown in (text, (ROOT / "docs" / "scaling.md").read_text()):
        assert pipeline_memory.table(rows) in shown
    for row in rows:  # TensorFlow's own memory comes on top
        assert row["peak_megabytes"] < row["bound_megabytes"] + 100
    for session in results["kills"]:
        assert session["runs_that_differ"] == 0
        assert session["runs_that_ended"] == session["runs"]
