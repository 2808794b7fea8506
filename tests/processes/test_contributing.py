"""The examples of CONTRIBUTING.md, applied to a copy of the package and run."""

import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

from helpers.command_line import SMALL, result
from helpers.paths import ROOT

BLOCK = re.compile(r"```(?:python|text)\n# (\S+\.py)(?:, after: ([^\n]+))?\n(.*?)```", re.DOTALL)


def examples():
    """(file, the line after which the text belongs or "", text) of each block with a file."""
    return BLOCK.findall((ROOT / "CONTRIBUTING.md").read_text())


@pytest.fixture(scope="module")
def changed(tmp_path_factory):
    """A folder with a copy of the package and the recipes, the examples added."""
    root = tmp_path_factory.mktemp("changed")
    for name in ("simclrv2_tf", "flags"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for file, before, text in examples():
        path = root / file
        if before:
            assert path.read_text().count(before) == 1, f"{file} has another table now"
            path.write_text(path.read_text().replace(before, f"{before}\n{text}"))
        else:
            assert not path.exists(), f"{file} is no longer a new file"
            path.write_text(text)
    return root


def run(root, *flags):
    command = [sys.executable, "-m", "simclrv2_tf.run", *flags]
    done = subprocess.run(
        command,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root), "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_there_is_an_example_of_each():
    parts = [file.split("/")[1] for file, before, _ in examples() if not before]
    assert parts == ["objectives", "experiments", "datasets", "export"]


def test_help_has_the_new_options(changed):
    text = run(changed, "--help")
    assert "--agreement_scale (default: 1.0)" in text
    for expected in ("agreement: the squared distance of the views.", "head_tuning:", "npz"):
        assert expected in " ".join(text.split())


def test_a_new_objective_trains_on_a_new_source_and_a_new_stage_exports_a_new_format(changed):
    steps = [*SMALL, "--dataset=stripes", "--mode=train_then_eval", "--train_steps=2"]
    run(changed, *steps, "--objective=agreement", "--agreement_scale=2", "--model_dir=pretrain")
    assert result(changed / "pretrain")["global_step"] == 2
    flags = ["--train_mode=head_tuning", "--ft_proj_selector=1", "--export_formats=npz"]
    run(changed, *steps, *flags, "--checkpoint=pretrain", "--model_dir=tuned")
    assert result(changed / "tuned")["global_step"] == 2
    with np.load(changed / "tuned" / "image_classifier.npz") as file:
        names = set(file)
    assert {"classifier|kernel", "projection1_dense|kernel"} <= names
