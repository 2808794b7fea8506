"""The semi-supervised study: its recipe, its comparison runs, and its numbers over seeds."""

import gzip
import importlib.util
import json
import math
import os
import statistics
import struct
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from helpers.paths import ROOT
from simclrv2_tf.config import Config, ConfigError
from simclrv2_tf.experiments import plan

SCRIPT = ROOT / "benchmarks" / "semi_supervised" / "run.py"
SEEDS = (0, 1, 2)
TOP1 = {
    (0.01, "supervised"): (0.78, 0.80, 0.79),
    (0.01, "fine_tuned"): (0.84, 0.85, 0.86),
    (0.01, "self_distilled"): (0.85, 0.85, 0.87),
    (0.01, "small_student"): (0.83, 0.86, 0.84),
    (0.01, "fine_tuned_layer_0"): (0.83, 0.85, 0.83),
    (0.01, "fine_tuned_layer_1"): (0.84, 0.85, 0.86),
    (0.1, "supervised"): (0.88, 0.87, 0.89),
    (0.1, "fine_tuned"): (0.90, 0.91, 0.90),
}


@pytest.fixture(scope="module")
def study():
    spec = importlib.util.spec_from_file_location("semi_supervised_study", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def made_up_rows():
    rows = [
        {
            "label_fraction": fraction,
            "method": method,
            "seed": seed,
            "top1": top1,
            "num_labels": round(60_000 * fraction),
            "parameters": 697_610,
            "seconds": 10 + seed,
            "expected_calibration_error": 0.1 * top1,
        }
        for (fraction, method), values in TOP1.items()
        for seed, top1 in zip(SEEDS, values, strict=True)
    ]
    linear = [
        {"label_fraction": 1.0, "method": method, "seed": seed, "top1": base + 0.01 * seed**2}
        for method, base in (("linear_evaluation", 0.8), ("linear_evaluation_random_init", 0.5))
        for seed in SEEDS
    ]
    # Seeds come one after the other, and fractions in any order.
    return sorted(rows + linear, key=lambda row: (row["seed"], -row["label_fraction"]))


def test_means_and_spreads_are_those_of_the_seeds(study):
    means = study.mean_over_seeds(made_up_rows())
    found = {(row["label_fraction"], row["method"]): row for row in means}
    assert len(found) == len(means) == len(TOP1) + 2
    for key, values in TOP1.items():
        row = found[key]
        assert row["top1"] == pytest.approx(np.mean(values))
        assert row["top1_std"] == pytest.approx(np.std(values, ddof=1))
        assert row["expected_calibration_error"] == pytest.approx(np.mean(values) / 10)
        assert row["expected_calibration_error_std"] == pytest.approx(np.std(values, ddof=1) / 10)
        assert (row["seconds"], row["seconds_std"]) == (11, 1)
        assert (row["num_labels"], row["parameters"]) == (round(60_000 * key[0]), 697_610)
        assert row["num_seeds"] == 3 and "seed" not in row
    # 0.78, 0.80, 0.79: deviations -0.01, 0.01, 0 from 0.79, divided by n - 1 = 2.
    assert found[0.01, "supervised"]["top1_std"] == pytest.approx(0.01)
    fractions = [row["label_fraction"] for row in means]
    assert fractions == sorted(fractions)


def test_a_single_seed_has_no_spread(study):
    (row,) = study.mean_over_seeds([made_up_rows()[-1]])
    assert row["top1_std"] is None
    assert row["num_seeds"] == 1


@pytest.mark.parametrize(
    "change", [{"seed": 0}, {"num_labels": 601}, {"parameters": 1}], ids=lambda change: [*change][0]
)
def test_rows_that_cannot_be_averaged_are_refused(study, change):
    key = (0.01, "supervised")
    rows = [row for row in made_up_rows() if (row["label_fraction"], row["method"]) == key][:2]
    study.mean_over_seeds(rows)
    with pytest.raises(ValueError, match="each seed once, with the same labels"):
        study.mean_over_seeds([rows[0], {**rows[1], **change}])


def test_differences_are_paired_by_seed(study):
    pairs = [("fine_tuned", "supervised"), ("self_distilled", "fine_tuned")]
    found = study.differences(made_up_rows(), pairs)
    keys = [(row["label_fraction"], row["method"], row["against"]) for row in found]
    # At 10% nothing was distilled: that pair is absent, not zero.
    assert keys == [
        (0.01, "fine_tuned", "supervised"),
        (0.01, "self_distilled", "fine_tuned"),
        (0.1, "fine_tuned", "supervised"),
    ]
    assert found[0]["by_seed"] == pytest.approx({0: 0.06, 1: 0.05, 2: 0.07})
    assert found[0]["top1"] == pytest.approx(0.06)
    assert found[0]["top1_std"] == pytest.approx(0.01)
    assert found[1]["top1_std"] == pytest.approx(statistics.stdev([0.01, 0, 0.01]))
    # Not the spread of two independent means.
    apart = math.hypot(statistics.stdev(TOP1[0.1, "fine_tuned"]), 0.01)
    assert found[2]["top1_std"] == pytest.approx(statistics.stdev([0.02, 0.04, 0.01]))
    assert found[2]["top1_std"] != pytest.approx(apart)


def test_a_difference_takes_only_seeds_that_have_both(study):
    rows = [r for r in made_up_rows() if (r["method"], r["seed"]) != ("supervised", 1)]
    row = study.differences(rows, [("fine_tuned", "supervised")])[0]
    assert row["by_seed"] == pytest.approx({0: 0.06, 2: 0.07})
    assert row["top1"] == pytest.approx(0.065)


def test_summary_keeps_the_comparisons_apart(study):
    rows = made_up_rows()
    summary = study.summary(rows)
    assert {row["method"] for row in summary["rows"]} == {*plan.METHODS}
    layers = [(row["method"], row["top1"]) for row in summary["head_layer"]]
    assert sorted(layers) == [
        ("fine_tuned_layer_0", pytest.approx(2.51 / 3)),
        ("fine_tuned_layer_1", pytest.approx(0.85)),
    ]
    assert [row["top1"] for row in summary["linear_evaluation"]] == pytest.approx(
        [0.8 + 0.05 / 3, 0.5 + 0.05 / 3]
    )
    by_name = {
        (row["label_fraction"], row["method"], row["against"]): row["top1"]
        for row in summary["differences"]
    }
    assert by_name == pytest.approx(
        {
            (0.01, "fine_tuned", "supervised"): 0.06,
            (0.01, "self_distilled", "fine_tuned"): 0.02 / 3,
            (0.01, "small_student", "self_distilled"): -0.04 / 3,
            (0.01, "fine_tuned_layer_1", "fine_tuned_layer_0"): 0.04 / 3,
            (0.1, "fine_tuned", "supervised"): 0.07 / 3,
            (1.0, "linear_evaluation", "linear_evaluation_random_init"): 0.3,
        }
    )
    assert summary["per_seed"] == rows


def test_results_are_written_as_they_are(study, tmp_path):
    results = {
        **study.provenance([0, 1, 2], 2, ["--train_steps=2"]),
        "seconds": 5400,
        **study.summary(made_up_rows()),
    }
    figures = tmp_path / "figures"
    figures.mkdir()
    for name in ("learning_curves.png", "reliability_1pct.svg", "accuracy.png"):
        (figures / name).write_text(name)
    study.write_results(results, tmp_path / "out", figures)
    written = json.loads((tmp_path / "out" / "results.json").read_text())
    assert written["seeds"] == [0, 1, 2]
    assert written["command"] == (
        "python benchmarks/semi_supervised/run.py --seeds 0 1 2 --jobs 2 -- --train_steps=2"
    )
    assert {*written["versions"]} == {"tensorflow", "keras"}
    assert written["rows"] == results["rows"]
    text = (tmp_path / "out" / "results.md").read_text()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    assert ["1%", "600", "supervised", "79.00 ± 1.00", "7.90 ± 0.10", "697,610", "11"] in cells
    assert ["1%", "fine-tuned - supervised", "+6.00 ± 1.00", "+6.00, +5.00, +7.00"] in cells
    assert "1.5 hours" in text
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {
        *("results.json", "results.md", "accuracy.png", "accuracy.svg"),
        *("learning_curves.png", "reliability_1pct.svg"),
    }
    # The mean's figure, not that of the single run.
    assert (tmp_path / "out" / "accuracy.png").read_bytes().startswith(b"\x89PNG")


needs_affinity = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="this system does not share out cores"
)


@needs_affinity
def test_seeds_at_once_share_the_cores(study):
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        pytest.skip("needs two cores")
    both = threading.Barrier(2, timeout=60)
    shares = {}

    def function(seed):
        shares[seed] = os.sched_getaffinity(0)
        if seed < 2:
            both.wait()

    assert sorted(study.parallel_runs.in_parallel(function, [0, 1, 2], 2)) == [0, 1, 2]
    assert shares[0] | shares[1] == set(cores) and not shares[0] & shares[1]
    assert shares[2] in (shares[0], shares[1])
    assert os.sched_getaffinity(0) == set(cores)


@needs_affinity
def test_one_seed_that_fails_stops_the_others(study, tmp_path, monkeypatch):
    endless = tmp_path / "endless"
    endless.write_text("#!/bin/sh\nexec sleep 1000\n")
    endless.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(endless))
    cores = sorted(os.sched_getaffinity(0)) * 2
    monkeypatch.setattr(study.parallel_runs, "_cores", lambda: cores)
    begun = []

    def function(seed):
        begun.append(seed)
        if seed == 1:
            while not study.parallel_runs._running:
                time.sleep(0.01)
            raise study.RunError("seed 1 failed")
        with (tmp_path / "lock").open("w") as lock:
            study.parallel_runs.execute([], lock)

    with pytest.raises(study.RunError, match="seed 1 failed"):
        list(study.parallel_runs.in_parallel(function, [0, 1, 2], 2))
    assert sorted(begun) == [0, 1] and not study.parallel_runs._running


def test_the_recipe_is_accepted(study, tmp_path):
    flags = study.run_flags(3, tmp_path, ["--train_steps=2", "--seed=9"])
    config = study.read_config(flags)
    assert (config.seed, config.label_seed, config.train_steps) == (3, 3, 2)
    assert (config.dataset, config.train_mode) == ("fashion_mnist", "semi_supervised")
    assert config.model_dir == str(tmp_path / "seed_3")
    with pytest.raises(ConfigError, match="without eval_name"):
        study.read_config([*flags, "--eval_name=held_out"])


@pytest.mark.parametrize("layer, other", [(1, 0), (0, 1), (-1, 0)])
def test_the_comparison_differs_in_the_head_layer_alone(study, tmp_path, layer, other):
    root = tmp_path
    changes = [f"--fine_tuned.ft_proj_selector={layer}", "--fine_tuned.weight_decay=1e-7"]
    stages = study.fine_tunings(study.read_config(study.run_flags(0, root, changes)))
    assert len(stages) == 2
    for stage in stages:
        folder = Path(stage.model_dir)
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(stage.to_json())
        again = Config.from_argv(["", *study.head_layer_flags(stage.model_dir)])
        differing = {
            name: value
            for name, value in json.loads(again.to_json()).items()
            if value != json.loads(stage.to_json())[name]
        }
        assert differing == {
            "ft_proj_selector": other,
            "model_dir": f"{stage.model_dir}_layer_{other}",
        }


def test_without_a_projection_head_there_is_no_comparison(study, tmp_path):
    flags = study.run_flags(0, tmp_path, ["--proj_head_mode=none"])
    assert study.fine_tunings(study.read_config(flags)) == []


def test_a_finished_seed_is_gathered(study, tmp_path):
    config = study.read_config(study.run_flags(0, tmp_path, ["--label_fraction=0.01"]))
    (stage,) = study.fine_tunings(config)
    layer, other = study.other_fine_tuning(stage)
    root = Path(config.model_dir)
    own = {
        "label_fraction": 0.01,
        "method": "fine_tuned",
        "top1": 0.8,
        "num_labels": 600,
        "parameters": 1234,
        "seconds": 7,
        "expected_calibration_error": 0.05,
    }
    for folder, seconds in ((root / "pretrain", 100.6), (Path(stage.model_dir), 7), (other, 5)):
        folder.mkdir(parents=True)
        (folder / "history.csv").write_text(f"epoch,seconds\n1,{seconds}\n2,{seconds}\n")
    (root / "config.json").write_text(config.to_json())
    (root / "results.json").write_text(json.dumps({"rows": [own]}))
    (root / "result.json").write_text('{"label_top_1_accuracy": 0.7}')
    assert not study.is_finished(config)
    (other / "result.json").write_text(
        '{"label_top_1_accuracy": 0.9, "expected_calibration_error": 0.02}'
    )
    assert study.is_finished(config)
    rows, seconds = study.gather(config)
    assert rows == [
        own,
        {**own, "method": f"fine_tuned_layer_{stage.ft_proj_selector}"},
        {
            **own,
            "method": f"fine_tuned_layer_{layer}",
            "top1": 0.9,
            "seconds": 10,
            "expected_calibration_error": 0.02,
        },
    ]
    assert seconds == 201 + 14 + 10
    (root / "result.json").write_text(
        '{"label_top_1_accuracy": 0.7, "random_init_top_1_accuracy": 0.3}'
    )
    assert [(row["method"], row["top1"]) for row in study.gather(config)[0][3:]] == [
        ("linear_evaluation", 0.7),
        ("linear_evaluation_random_init", 0.3),
    ]
    # Evaluated otherwise before: those results are not this study's.
    held_out = ["--label_fraction=0.01", "--eval_split=train[50000:]"]
    assert not study.is_finished(study.read_config(study.run_flags(0, tmp_path, held_out)))


def test_idx_files_are_read(study, tmp_path):
    values = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    path = tmp_path / "images.gz"
    header = struct.pack(">BBBBIII", 0, 0, 8, 3, 2, 3, 4)
    path.write_bytes(gzip.compress(header + values.tobytes()))
    np.testing.assert_array_equal(study.read_idx(path), values)
    path.write_bytes(gzip.compress(b"\0\0\x0d" + header[3:] + values.tobytes()))
    with pytest.raises(ValueError, match="IDX file of bytes"):
        study.read_idx(path)


def test_missing_files_are_named(study, tmp_path):
    (tmp_path / "train-images-idx3-ubyte.gz").touch()
    with pytest.raises(FileNotFoundError, match="without train-labels.*t10k-images.*t10k-labels"):
        study.prepare(tmp_path, tmp_path / "data")
    assert not (tmp_path / "data").exists()
