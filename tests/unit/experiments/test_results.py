"""Figures of a run's results, and what they say of more labels."""

import json
from types import SimpleNamespace

import pytest
from etils import epath

from helpers import report_runs
from simclrv2_tf import predictions
from simclrv2_tf.experiments import results


@pytest.mark.parametrize(("drawable", "drawn"), [({"student"}, True), (set(), False)])
def test_a_calibration_that_cannot_be_drawn_is_left_out_of_the_figure(tmp_path, drawable, drawn):
    held = {name: report_runs.calibration(0.5) for name in ("student", "teacher")}
    for name in held.keys() - drawable:
        held[name]["expected_calibration_error"] = None
    (tmp_path / "calibration.json").write_text(json.dumps(held))
    results.draw_calibration(SimpleNamespace(named=lambda name: epath.Path(tmp_path) / name))
    assert (tmp_path / "calibration.png").exists() == drawn
    assert (tmp_path / "calibration.csv").exists() == drawn


def test_results_say_what_more_labels_brought(tmp_path):
    root = report_runs.run_of_stages(tmp_path / "run")
    outcomes, rows = [], []
    for fraction in (0.01, 0.1):
        for method in report_runs.METHODS:
            folder = epath.Path(root) / f"label_fraction_{fraction}" / method
            found = predictions.read(folder / predictions.NAME)
            outcomes.append(SimpleNamespace(predictions=lambda found=found: found))
            top1 = json.loads((folder / "result.json").read_text())["label_top_1_accuracy"]
            rows.append({"method": method, "num_labels": round(1000 * fraction), "top1": top1})
    steps, text = results._more_labels(outcomes, rows)
    assert [(s["method"], s["fewer_labels"], s["more_labels"]) for s in steps] == [
        (method, 10, 100) for method in report_runs.METHODS
    ]
    for step, few, many in zip(steps, rows[:4], rows[4:], strict=True):
        assert step["gain"] == pytest.approx(many["top1"] - few["top1"])
        assert step["gain_low"] < step["gain"] < step["gain_high"]
    assert text.startswith("\nMore labels: small student, from 10 to 100 labels (10 times as many)")
    assert max(map(len, text.splitlines())) <= 100
    assert results._more_labels(outcomes[:4], rows[:4]) == ([], "")
