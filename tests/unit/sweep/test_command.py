"""Whole sweeps, of a program that stands in for a run: results, failures, resuming, refusals."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from helpers.report_runs import run_of_one, run_of_stages
from simclrv2_tf.cli import main
from simclrv2_tf.config import Config
from simclrv2_tf.sweep import command, figures, gathering, results, statistics
from simclrv2_tf.sweep.cells import Cell

STAND_IN = (sys.executable, "-m", "helpers.sweep_cell")
SWEEP = ["sweep", "--train_mode=supervised", "--output=out"]
RATES = [*SWEEP, "--grid.learning_rate=0.1,0.3", "--seeds=0,1", "--compare_to=learning_rate=0.1"]


@pytest.fixture(autouse=True)
def stand_in(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = command.run
    monkeypatch.setattr(
        command, "run", lambda definition, text: run(definition, text, program=STAND_IN)
    )


def fails(args, capsys):
    assert main(args) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
    assert line.startswith("Error: ")
    return line


def test_a_sweep_fails_in_part_is_resumed_and_extended(tmp_path, capsys):
    (tmp_path / "break").write_text("learning_rate=0.3/seed_1 1 No space left.\n")
    assert main(RATES) == 1
    said = capsys.readouterr()
    assert "4 cells: 2 settings, 2 seeds; 1 in parallel, in out." in said.out
    assert "--train_split='train[:80%]'" in said.out  # test images are for final cells
    assert "learning_rate=0.3, seed 1: failed after" in said.out and " left" in said.out
    name = "learning_rate=0.3, seed 1: Error: No space left. (exit status 1)"
    assert "1 of 4 cells have failed" in said.err and name in said.err
    held = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [cell["state"] for cell in held["cells"]] == ["finished"] * 3 + ["failed"]
    assert held["cells"][3]["error"] == "Error: No space left. (exit status 1)"
    assert [row["n"] for row in held["differences"] if row["metric"] == "seconds"] == [1]
    assert f"- {name}" in (tmp_path / "out" / "results.md").read_text()

    (tmp_path / "break").unlink()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("run.json")}
    assert main([*RATES[:-2], "--seeds=0,1,2", RATES[-1]]) == 0
    out = capsys.readouterr().out
    assert "Finished before: 3 of 6 cells." in out and out.count(": started") == 3
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    check_results(tmp_path / "out")
    assert "+2.00 ± 0.00" in out  # the table is printed

    # All is finished: nothing begins.
    assert main([*RATES[:-2], "--seeds=0,1,2", RATES[-1]]) == 0
    assert ": started" not in capsys.readouterr().out


def check_results(folder):
    table = pd.read_csv(folder / "results.csv")
    assert list(table) == ["learning_rate", "seed", "metric", "value"]
    assert set(table["metric"]) == {"label_top_1_accuracy", "seconds"} and len(table) == 12
    held = json.loads((folder / "results.json").read_text())
    assert held["splits"] == ["test of d (50 images)"]
    means = {r["learning_rate"]: r for r in held["means"] if r["metric"] != "seconds"}
    assert [means[rate]["mean"] for rate in ("0.1", "0.3")] == pytest.approx([0.52, 0.54])
    assert means["0.1"]["std"] == pytest.approx(0.01)
    (row,) = [row for row in held["differences"] if row["metric"] != "seconds"]
    assert row["against"] == {"learning_rate": "0.1"} and row["learning_rate"] == "0.3"
    assert (row["n"], row["mean"]) == (3, pytest.approx(0.02))
    text = (folder / "results.md").read_text()
    reach = 100 * 4.302653 * 0.01 / np.sqrt(3)
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    assert ["0.1", "52.00 ± 1.00", f"{52 - reach:.2f}, {52 + reach:.2f}", "3"] in cells
    assert "Evaluated on test of d (50 images)." in text and "over seeds 0, 1, 2." in text
    assert "paired by seed" in text and "0.10 hours of training in total" in text
    assert "](means.png)" in text and "](differences.png)" in text
    for name, described in (("means", "Means over seeds of"), ("differences", "Differences from")):
        assert f"![{described}" in text
        with Image.open(folder / f"{name}.png") as picture:
            assert picture.text["Description"].startswith(described)
        svg = (folder / f"{name}.svg").read_text()
        assert "95% t interval over seeds" in svg and f"<title>{described}" in svg
    drawn = pd.read_csv(folder / "means.csv", dtype={"learning_rate": str})
    ends = ["95% interval from", "95% interval to"]
    assert list(drawn) == ["learning_rate", "seed", "top-1 (%)", *ends]
    assert drawn["seed"].tolist() == 2 * ["mean", "0", "1", "2"]
    assert drawn["top-1 (%)"].tolist() == pytest.approx([52, 51, 52, 53, 54, 53, 54, 55])
    assert drawn.loc[0, ends].tolist() == pytest.approx([52 - reach, 52 + reach])
    assert drawn.loc[[1, 2, 3, 5, 6, 7], ends].isna().all(axis=None)
    (row,) = pd.read_csv(folder / "differences.csv").to_dict("records")
    name = "top-1 (points), difference from learning_rate=0.1"
    assert (row["learning_rate"], row["seed"], row[name]) == (0.3, "mean", pytest.approx(2))
    held = json.loads((folder / "sweep.json").read_text())
    assert {"out/" + cell["folder"] for cell in held["cells"]} == {
        f"out/learning_rate={rate}/seed_{seed}" for rate in ("0.1", "0.3") for seed in range(3)
    }


def test_a_dry_run_writes_nothing(tmp_path, capsys):
    assert main([*RATES, "--dry_run"]) == 0
    lines = [x for x in capsys.readouterr().out.splitlines() if x.startswith("python -m")]
    assert len(lines) == 4 and len({*lines}) == 4
    assert list(tmp_path.iterdir()) == []


def test_another_sweep_or_a_run_in_the_folder_is_refused(tmp_path, capsys):
    for path, content in (("out", {}), ("run", None)):
        (tmp_path / path).mkdir()
        if content is None:
            (tmp_path / path / "config.json").write_text("{}")
    definition = {"dimensions": ["temperature"], "flags": {"train_mode": "pretrain"}}
    (tmp_path / "out" / "sweep.json").write_text(json.dumps({"sweep": definition, "cells": []}))
    line = fails(RATES, capsys)
    assert "temperature vary in the folder, learning_rate here" in line
    assert "train_mode=pretrain in the folder, supervised here" in line
    assert "a run. Choose another --output" in fails([*SWEEP, "--output=run"], capsys)
    assert not (tmp_path / "out" / "results.md").exists()


def test_a_second_sweep_in_the_folder_is_refused(tmp_path, capsys):
    with command.Owner(command.epath.Path(tmp_path / "out")):
        line = fails([*SWEEP[:-1], f"--output={tmp_path / 'out'}"], capsys)
    assert "owned by process" in line


def test_bad_grids_are_refused_before_any_work(tmp_path, capsys):
    line = fails([*SWEEP, "--grid.learning_rate=0.1,-3"], capsys)
    assert line.endswith("Received: learning_rate=-3.0")
    assert list(tmp_path.iterdir()) == []


def test_signals_stop_all_cells(tmp_path):
    """SIGTERM to the sweep: its cells get one each, and the exit status says so.

    `timeout` sends the sweep two.
    """
    code = (
        "import sys; from simclrv2_tf.cli import sweep; from simclrv2_tf.sweep import command\n"
        f"command.run.__defaults__ = ({STAND_IN!r},)\nsys.exit(sweep.main(sys.argv[1:]))"
    )
    args = [*SWEEP[1:], "--variant.slow=--learning_rate=0.1", "--seeds=0,1", "--jobs=2"]
    args = args if len(os.sched_getaffinity(0)) > 1 else args[:-1]
    sweep = subprocess.Popen(
        [sys.executable, "-c", code, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        count = 2 if "--jobs=2" in args else 1
        while len(list(tmp_path.rglob("began"))) < count:
            assert sweep.poll() is None, sweep.communicate()
            time.sleep(0.02)
        sweep.send_signal(signal.SIGTERM)
        time.sleep(0.1)
        sweep.send_signal(signal.SIGTERM)
        _, error = sweep.communicate(timeout=60)
    finally:
        sweep.kill()
    assert sweep.returncode == 143
    assert b"Stopped: 0 of 2 cells have finished" in error and b"Traceback" not in error
    assert [path.read_text() for path in tmp_path.rglob("ended")] == ["SIGTERM"] * count


def cell_of(folder, seed=0, **setting):
    return Cell(setting, seed, str(folder), (), Config())


def test_rows_of_several_stages_are_gathered(tmp_path):
    root = run_of_stages(tmp_path / "all")
    dimensions = ["variant", "stage", "fraction"]
    table, splits = gathering.table([cell_of(root, 3, variant="a")], dimensions)
    top1 = table[table["metric"] == "label_top_1_accuracy"]
    found = {(row.stage, row.fraction): row.value for row in top1.itertuples()}
    for fraction in ("0.01", "0.1"):
        for stage in ("supervised", "fine_tuned", "self_distilled", "small_student"):
            path = root / f"label_fraction_{fraction}" / stage / "result.json"
            expected = json.loads(path.read_text())["label_top_1_accuracy"]
            assert found[stage, fraction] == expected
    assert {("linear_eval", "none"), ("linear_eval_random_init", "none")} <= {*found}
    assert len(found) == 11 and set(table["variant"]) == {"a"} and set(table["seed"]) == {3}
    assert splits == ["test of folder:photos (60 images)"]
    assert not {"images", "global_step", "label_top_1_low"} & {*table["metric"]}
    gained = statistics.differences(table, dimensions, {"stage": "supervised"})
    gained = gained[gained["metric"] == "label_top_1_accuracy"]
    for row in gained.to_dict("records"):
        if row["fraction"] != "none":
            difference = found[row["stage"], row["fraction"]] - found["supervised", row["fraction"]]
            assert row["mean"] == pytest.approx(difference)
    assert len(gained) == 6  # linear evaluation has nothing to be compared with


def test_a_setting_that_lacks_a_dimension_has_none(tmp_path):
    root = run_of_one(tmp_path / "one", train_mode="supervised")
    table, _ = gathering.table([cell_of(root, variant="random")], ["variant", "checkpoint.rate"])
    assert set(table["checkpoint.rate"]) == {"none"}


def test_numbers_are_shown_in_their_units():
    assert results.number("label_top_1_accuracy", 0.71234) == "71.23"
    assert results.number("expected_calibration_error", 0.05, "+") == "+5.00"
    assert results.number("representation_rank", 63.456) == "63.46"
    assert results.column_name("label_top_1_accuracy") == "top-1 (%)"
    assert results.column_name("seconds") == "seconds"


@pytest.mark.parametrize("x_axis", [None, "width"])
def test_figures_show_every_setting(x_axis, tmp_path):
    rows = [
        {"width": width, "labels": labels, "seed": seed, "metric": "label_top_1_accuracy",
         "value": 0.5 + float(width) / 10 + 0.01 * seed + float(labels)}
        for width in ("4", "0.5", "1") for labels in ("0.1", "0.01") for seed in (0, 1, 2)
    ]  # fmt: skip
    table = pd.DataFrame(rows)
    means = statistics.means(table, ["width", "labels"])
    figure = figures.means(means, table, ["width", "labels"], "label_top_1_accuracy", x_axis)
    (axis,) = figure.axes
    containers = axis.containers
    if x_axis is None:
        assert [t.get_text() for t in axis.get_yticklabels()][0] == "width=4, labels=0.1"
        drawn = containers[0].lines[0].get_xdata()
        np.testing.assert_allclose(drawn, 100 * means["mean"])
        low = [segment[0, 0] for segment in containers[0].lines[2][0].get_segments()]
        np.testing.assert_allclose(low, 100 * means["low"])
        ticks = [line.get_xdata() for line in axis.lines if line.get_marker() == "|"]
        seeds = table.groupby(["width", "labels"], sort=False)["value"]
        expected = [100 * own.to_numpy() for _, own in seeds]
        assert len(expected) == 6
        for own, values in zip([t for t in ticks if len(t) == 3], expected, strict=True):
            np.testing.assert_allclose(own, values)
    else:
        assert [c.get_label() for c in containers] == ["labels=0.1", "labels=0.01"]
        np.testing.assert_allclose(containers[1].lines[0].get_xdata(), [0.5, 1, 4])
        np.testing.assert_allclose(containers[1].lines[0].get_ydata(), [57, 62, 92])
    numbers = figures.numbers(
        means, ["width", "labels"], "label_top_1_accuracy", "top-1 (%)", table, x_axis
    )
    of_means = [row for row in numbers.rows if row[2] == "mean"]
    assert [row[:2] for row in of_means] == list(zip(means["width"], means["labels"], strict=True))
    np.testing.assert_allclose([row[3:] for row in of_means], 100 * means[["mean", "low", "high"]])
    assert len(numbers.rows) - len(of_means) == (18 if x_axis is None else 0)
    alt = figures.alt_text(means, ["width", "labels"], "label_top_1_accuracy")
    assert "6 settings: from 57.00 for width=0.5, labels=0.01 to 101.00 for width=4" in alt


def test_nothing_measured_is_said(tmp_path):
    (tmp_path / "break").write_text("out 1 No data.\n")
    assert main(SWEEP) == 1
    text = (tmp_path / "out" / "results.md").read_text()
    assert "0 of 1 cells have finished. 1 have failed." in text and "Means" not in text
    assert not (tmp_path / "out" / "means.png").exists()
