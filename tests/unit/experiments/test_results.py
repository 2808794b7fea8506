"""Figures of a run's results."""

import json
from types import SimpleNamespace

import pytest
from etils import epath

from helpers import report_runs
from simclrv2_tf.experiments import results


@pytest.mark.parametrize(("drawable", "drawn"), [({"student"}, True), (set(), False)])
def test_a_calibration_that_cannot_be_drawn_is_left_out_of_the_figure(tmp_path, drawable, drawn):
    held = {name: report_runs.calibration(0.5) for name in ("student", "teacher")}
    for name in held.keys() - drawable:
        held[name]["expected_calibration_error"] = None
    (tmp_path / "calibration.json").write_text(json.dumps(held))
    results.draw_calibration(SimpleNamespace(named=lambda name: epath.Path(tmp_path) / name))
    assert (tmp_path / "calibration.png").exists() == drawn
