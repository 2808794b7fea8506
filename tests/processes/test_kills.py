"""A run of several stages that is stopped in its first and killed in its last stage."""

import csv
import json
import shutil
import signal
import time

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
    return list(csv.DictReader((folder / "history.csv").open()))


def without_seconds(folder):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in epochs(folder)]


def stop_after_the_first_checkpoint(processes, folder, logs):
    """Sends SIGTERM: the run must end with its status and a line."""
    (process,) = processes
    while not (folder / "checkpoints" / "checkpoint").exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    status, log = process.wait(60), (logs / "worker_0.log").read_text()
    assert status == 143 and "Stopped by SIGTERM. Saved step " in log, log[-3000:]
    assert not (folder / "result.json").exists() and not (folder / "owner.json").exists()


def rows(folder):
    found = json.loads((folder / "results.json").read_text())["rows"]
    return [{**row, "seconds": 0} for row in found]


def test_it_ends_as_if_never_stopped(shared_runs, copied_run, tmp_path, capsys):
    """The stages in between equal a whole run's, and are valid only for the same pretraining."""
    study, root = shared_runs("study"), copied_run("study")
    for path in [root / FIRST, root / LAST, root / "figures", *root.glob("result*")]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    command = command_line("study")
    stop_after_the_first_checkpoint(start(command, tmp_path), root / FIRST, tmp_path)
    kill_after_the_first_checkpoint(start(command, tmp_path), root / LAST, tmp_path)
    capsys.readouterr()
    assert small.run(command, exports=False) == 0
    output = capsys.readouterr().out
    assert output.count("Finished before") == 4 and "Resuming at step" in output
    for ended, unbroken in zip(rows(root), rows(study), strict=True):
        assert ended == pytest.approx(unbroken, abs=1e-3)
    for stage in [FIRST, *(f"{FOLDER}/{method}" for method in METHODS)]:
        numbers = [[row["epoch"] for row in epochs(folder / stage)] for folder in (root, study)]
        assert numbers[0] == numbers[1]
        for name in ("encoder",) + ("classifier",) * (stage != FIRST):
            both = (keras_weights(folder / stage, name) for folder in (root, study))
            for ours, expected in zip(*both, strict=True):
                scale = max(np.abs(expected).max(), 1e-6)
                np.testing.assert_allclose(ours, expected, atol=1e-3 * scale, err_msg=stage)
    # Of the first stage everything that is kept, the optimizer's momentum among it, bit for bit;
    # also the row of the epoch within which it was stopped, by the metrics of both its parts.
    assert without_seconds(root / FIRST) == without_seconds(study / FIRST)
    assert all(float(row["seconds"]) > 0 for row in epochs(root / FIRST))
    ours, expected = (
        tf.train.load_checkpoint(str(folder / FIRST / "checkpoints" / "ckpt-6"))
        for folder in (root, study)
    )
    keys = [k for k in ours.get_variable_to_shape_map() if k.startswith("variables/")]
    assert len(keys) > 50 and any("momentum" in key.lower() for key in keys)
    for key in keys:
        np.testing.assert_array_equal(ours.get_tensor(key), expected.get_tensor(key), err_msg=key)
