"""Helpers of the tests that run command lines."""

import json
import sys
from pathlib import Path

from simclrv2_tf import run

# A program, with the interpreter that runs it.
SMALL_RUN = [sys.executable, "-m", "helpers.small_run"]

# A network and data that take a moment.
SMALL = [
    "--resnet_depth=10",
    "--width_multiplier=0.0625",
    "--proj_out_dim=8",
    "--image_size=16",
    "--train_batch_size=8",
    "--use_blur=False",
    "--learning_rate=0.1",
    "--warmup_epochs=0",
]


def result(model_dir):
    return json.loads((model_dir / "result.json").read_text())


def files(folder):
    """Everything below `folder`, with contents, to see whether anything changed."""
    return {p: p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()}


def fails(command, capsys):
    """Runs a command that must fail for bad input; returns its one line of error."""
    assert run.main(["run", *command]) == 2
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1 and "Traceback" not in error, error
    return lines[0]
