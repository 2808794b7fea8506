"""A sweep of real runs whose process is killed, and which is then resumed."""

import subprocess
import sys
import time

import pandas as pd
import pytest

from helpers.command_line import SMALL
from helpers.processes import python
from simclrv2_tf.cli import sweep
from simclrv2_tf.sweep import command

CELL = (sys.executable, "-m", "helpers.small_run", "--no_exports")
FLAGS = [
    *["--dataset=folder:images", "--train_mode=supervised", *SMALL, "--train_steps=60"],
    *["--checkpoint_steps=2", "--seeds=0,1", "--output=out"],
]
PROGRAM = f"""
import sys
from simclrv2_tf.cli import sweep
from simclrv2_tf.sweep import command
command.run(sweep.definition(sys.argv[1:]), "the command", program={CELL!r})
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere runs outlive a killed sweep")
def test_a_killed_sweep_stops_its_runs_and_resumes(shared_runs, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").symlink_to(shared_runs.made("images"))
    first, log = tmp_path / "out" / "seed_0", tmp_path / "out" / "seed_0.log"
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, *FLAGS])
    try:
        while not (first / "checkpoints" / "checkpoint").exists():
            assert process.poll() is None, log.read_text()
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
    # Its run has got SIGTERM: it saves its step, and leaves its folder.
    deadline = time.monotonic() + 120
    while "Stopped by SIGTERM" not in log.read_text() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert "Stopped by SIGTERM. Saved step " in log.read_text()
    assert not (first / "result.json").exists()

    python("-c", PROGRAM, *FLAGS)
    assert "Resuming at step" in log.read_text()
    table = pd.read_csv(tmp_path / "out" / "results.csv")
    top1 = table[table["metric"] == "label_top_1_accuracy"]
    assert list(top1["seed"]) == [0, 1]
    means = pd.read_json(tmp_path / "out" / "results.json", typ="series")["means"]
    (row,) = [row for row in means if row["metric"] == "label_top_1_accuracy"]
    assert row["mean"] == pytest.approx(top1["value"].mean()) and row["n"] == 2

    # Both have finished: no process begins.
    command.run(sweep.definition(FLAGS), "the command", program=("no such program",))
    assert "Finished before: 2 of 2 cells." in capsys.readouterr().out
