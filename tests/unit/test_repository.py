"""The repository itself: style, and that CI runs the command of the README."""

import re
import subprocess
import sys

import pytest

from helpers.paths import ROOT


def test_ci_runs_the_readmes_test_command():
    (command,) = (
        line
        for line in (ROOT / ".ci" / "run").read_text().splitlines()
        if line.startswith("python3 ")
    )
    assert "pytest" in command
    assert command in (ROOT / "README.md").read_text().splitlines()


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]], ids=["lint", "format"])
def test_ruff(command):
    ruff = [sys.executable, "-m", "ruff", *command, "--no-cache", str(ROOT)]
    done = subprocess.run(ruff, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_hints_of_the_public_modules_agree():
    """By mypy, with the packages that pyproject.toml names."""
    done = subprocess.run([sys.executable, "-m", "mypy"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    checked = int(re.search(r"in (\d+) source files", done.stdout)[1])
    assert checked > 60, "the packages are no longer found"
