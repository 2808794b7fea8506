"""Objectives, LARS and the calibration metric: two replicas equal one, all in one process."""

import json

import numpy as np
import pytest
import tensorflow as tf

from helpers import objectives_on_replicas as program
from helpers.formulas import assert_close, views
from helpers.processes import python
from simclrv2_tf import metrics


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    file = tmp_path_factory.mktemp("replicas") / "results.json"
    python("-m", "helpers.objectives_on_replicas", file, CUDA_VISIBLE_DEVICES="")
    return json.loads(file.read_text())


@pytest.mark.parametrize("images", program.IMAGES)
@pytest.mark.parametrize("name, case", program.CASES)
def test_objectives(results, name, case, images):
    """With one image each, replicas that took their own for the whole would see no variance."""
    found = results["objectives"][f"{name}, {case}, {images}"]
    x1, x2 = (x[:images] for x in views(max(program.IMAGES), program.WIDTH))
    wanted = program.value_and_gradient(
        program.objective(name, case), x1, x2, tf.constant(program.weight())
    )
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        assert_close(found[key], [value] * 2, 1e-6 if key == "loss" else 1e-5)  # on both


def test_lars(results):
    optimizer, variables, steps = program.lars()
    for gradients in steps:
        optimizer.apply(list(map(tf.constant, gradients)))
    for v, replicas in zip(variables, results["lars"], strict=True):
        assert len(replicas) == 2
        for replica in replicas:
            np.testing.assert_allclose(replica, v, rtol=1e-5, atol=1e-6)


def test_calibration(results):
    """The last four examples are padding, of weight 0."""
    logs, bins = results["calibration"]
    labels, logits = program.logits_of(24, 4, 2.0)
    one = metrics.Calibration()
    one.update_state(labels[:20], logits[:20])
    assert logs["expected_calibration_error"] == pytest.approx(float(one.result()), rel=2e-5)
    for entry, expected in zip(bins, one.bins(), strict=True):
        assert entry == pytest.approx(expected)
