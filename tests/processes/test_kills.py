"""A run of several stages that is killed in its first and in its last stage."""

import csv
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

from helpers import small
from helpers.command_line import keras_weights
from helpers.processes import kill_after_the_first_checkpoint, start
from helpers.shared_runs import METHODS, command_line

FOLDER = "label_fraction_0.5"
FIRST, LAST = "pretrain", f"{FOLDER}/small_student"


def epochs(folder):
    return [row["epoch"] for row in csv.DictReader((folder / "history.csv").open())]


def rows(folder):
    found = json.loads((folder / "results.json").read_text())["rows"]
    return [{**row, "seconds": 0} for row in found]


def test_it_ends_as_if_never_stopped(shared_runs, copied_run, tmp_path, capsys):
    """Stages between the two are those of a whole run, and fit only to the same pretraining."""
    study, root = shared_runs("study"), copied_run("study")
    for path in [root / FIRST, root / LAST, root / "figures", *root.glob("result*")]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    command = command_line("study")
    for stage in (FIRST, LAST):
        kill_after_the_first_checkpoint(start(command, tmp_path), root / stage, tmp_path)
    capsys.readouterr()
    assert small.run(command, exports=False) == 0
    output = capsys.readouterr().out
    assert output.count("Finished before") == 4 and "Resuming at step" in output
    for ended, unbroken in zip(rows(root), rows(study), strict=True):
        assert ended == pytest.approx(unbroken, abs=1e-3)
    for stage in [FIRST, *(f"{FOLDER}/{method}" for method in METHODS)]:
        assert epochs(root / stage) == epochs(study / stage)
        for name in ("encoder",) + ("classifier",) * (stage != FIRST):
            both = (keras_weights(folder / stage, name) for folder in (root, study))
            for ours, expected in zip(*both, strict=True):
                scale = max(np.abs(expected).max(), 1e-6)
                np.testing.assert_allclose(ours, expected, atol=1e-3 * scale, err_msg=stage)
    # Of the first stage everything that is kept, the optimizer's momentum among it, bit for bit.
    ours, expected = (
        tf.train.load_checkpoint(str(folder / FIRST / "checkpoints" / "ckpt-6"))
        for folder in (root, study)
    )
    keys = [k for k in ours.get_variable_to_shape_map() if k.startswith("variables/")]
    assert len(keys) > 50 and any("momentum" in key.lower() for key in keys)
    for key in keys:
        np.testing.assert_array_equal(ours.get_tensor(key), expected.get_tensor(key), err_msg=key)
