"""The benchmark of the input pipeline, on a few small batches."""

import json
import os
import random
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from helpers.paths import ROOT

FOLDER = ROOT / "benchmarks" / "speed"


@pytest.fixture
def pipeline(monkeypatch):
    for variable in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        monkeypatch.setenv(variable, "1")  # set by the benchmark: restored after the test
    monkeypatch.syspath_prepend(FOLDER.parent)
    from speed import pipeline

    return pipeline


def test_every_contestant_has_its_figures(pipeline, monkeypatch):
    monkeypatch.setattr(pipeline, "SIZES", (16,))
    results = pipeline.run(photos=4, batch=2, batches=1, repeats=1)
    cases = results["images_per_second_and_core"]
    photos = ["JPEG 500 x 375, 16 px", "JPEG 500 x 375, 16 px, antialiased"]
    assert list(cases) == ["packaged, 28 px", *photos]
    for name in photos:
        assert list(cases[name]) == ["ours", "pillow", "decoding", "pillow_decoding"]
    assert all(figure["median"] > 0 for case in cases.values() for figure in case.values())
    assert all(name in pipeline.table(results) for name in cases)


def test_files_compress_like_photographs(pipeline, tmp_path):
    (content,) = pipeline.write_photos(tmp_path, 1)
    assert 1.0 < 8 * len(content) / (pipeline.WIDTH * pipeline.HEIGHT) < 4.0  # bits a pixel


def test_views_of_pillow(pipeline):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8))
    first, second = pipeline.pillow_views.two_views([image] * 3, 24, random.Random(0))
    assert first.shape == second.shape == (3, 24, 24, 3) and first.dtype == np.float32
    assert first.min() >= 0 and first.max() <= 1 and np.any(first != second)
    # A whole turn changes nothing but rounding; half a turn makes red cyan.
    red = Image.new("RGB", (1, 1), (255, 0, 0))
    assert pipeline.pillow_views.turn_hue(red, 0.0).getpixel((0, 0)) == (255, 0, 0)
    half = pipeline.pillow_views.turn_hue(red, 0.5).getpixel((0, 0))
    assert half[0] < 10 and min(half[1:]) > 245


def test_readme_shows_what_is_recorded(pipeline, monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    import demo
    import startup
    import step
    import weight_gradient

    shown = {
        "pipeline": pipeline.table,
        "weight gradient": lambda recorded: weight_gradient.table(recorded["milliseconds"]),
        "step": lambda recorded: step.table(recorded["milliseconds"]),
        "startup": startup.table,
        "demo": lambda recorded: demo.table(recorded["stages"]),
    }
    results = json.loads((FOLDER / "results.json").read_text())
    assert {name.split(",")[0] for name in results} == shown.keys()
    text = (FOLDER / "README.md").read_text()
    for name, recorded in results.items():
        assert shown[name.split(",")[0]](recorded) in text, name
        assert recorded["processor"] in text


def test_a_worker_answers_with_the_time_of_its_steps(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(FOLDER)
    from worker import Worker

    program = tmp_path / "program.py"
    program.write_text("from worker import serve\nserve(lambda: sum(range(1000)))\n")
    worker = Worker([sys.executable, str(program)], {**os.environ, "PYTHONPATH": str(FOLDER)})
    assert len(worker.milliseconds(0)) == 2
    assert all(0 < taken < 1000 for taken in worker.milliseconds(0.01))
    worker.close()
    with pytest.raises(RuntimeError, match="ended with 1"):
        Worker([sys.executable, "-c", "raise SystemExit(1)"], dict(os.environ))


def test_our_side_of_the_steps():
    """Each kind answers on a small case, in its own process as in the benchmark."""
    program = f"""
import io, runpy, sys
import cases
cases.CASES["demo"] = cases.Case(10, 1 / 16, 0.0, "imagenet", 28, 4, "adam")
for kind in ("step", "convolutions", "views"):
    sys.argv[1:], sys.stdin = ["demo", "float32", kind], io.StringIO("0\\n")
    runpy.run_path({str(FOLDER / "our_step.py")!r}, run_name="__main__")
"""
    path = os.pathsep.join([str(FOLDER), os.environ["PYTHONPATH"]])
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    answers = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    assert [len(answer) for answer in answers] == [2, 2, 2]
