"""Folders that a command may not write to or read: one line, and nothing is lost."""

import ctypes
import os
import subprocess
import sys

import pytest

from helpers.command_line import SMALL, files

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="drops Linux capabilities")
_DAC_OVERRIDE, _DAC_READ_SEARCH = 1, 2
_PR_CAPBSET_DROP = 24


def _obey_permissions():
    """Makes the program that follows obey permissions, for the superuser too."""
    for capability in (_DAC_OVERRIDE, _DAC_READ_SEARCH) if os.geteuid() == 0 else ():
        ctypes.CDLL(None).prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)


@pytest.mark.parametrize("kind", ["model_dir", "dataset"])
def test_permission_denied_is_one_line(kind, images, tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir()
    (closed / "own.txt").write_text("kept")
    before = files(tmp_path)
    closed.chmod(0o500 if kind == "model_dir" else 0)
    data, model_dir = (images, closed / "run") if kind == "model_dir" else (closed, tmp_path / "a")
    command = ["--mode=train", f"--dataset=folder:{data}", *SMALL, "--train_steps=2"]
    done = subprocess.run(
        [sys.executable, "-m", "helpers.small_run", *command, f"--model_dir={model_dir}"],
        preexec_fn=_obey_permissions,
        capture_output=True,
        text=True,
        check=False,
    )
    closed.chmod(0o700)
    lines = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert done.returncode in (1, 2) and len(lines) == 1 and "Traceback" not in done.stderr
    path = model_dir if kind == "model_dir" else f"{closed}/"
    assert lines[0].startswith(f"Error: {path}: Permission denied. Give a path that this user can")
    assert files(tmp_path) == before
