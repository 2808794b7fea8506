"""`--help`: every flag, without TensorFlow."""

import dataclasses

import pytest

from helpers.config import parse
from helpers.paths import RECIPES, ROOT
from helpers.processes import python
from simclrv2_tf.config import Config


@pytest.mark.parametrize("flag", ["--help", "-help", "--helpfull", "--helpshort", "-h"])
def test_help_names_every_flag_and_choice(flag, capsys):
    with pytest.raises(SystemExit) as caught:
        parse("--no_such_flag", flag)
    assert caught.value.code == 0
    text = capsys.readouterr().out
    words = set(text.replace("--[no]", "--").split())
    names = {field.name for field in dataclasses.fields(Config)} - {"stage_options"}
    assert {f"--{name}" for name in names} <= words
    for expected in ("(default: 0.1)", "mixed_bfloat16", *RECIPES):
        assert expected in text
    assert max(map(len, text.splitlines())) <= 100


def test_help_imports_no_framework(tmp_path):
    code = """
import sys
from simclrv2_tf.config import Config
try:
    Config.from_argv(["run", "--help"])
except SystemExit as stop:
    assert stop.code == 0
Config.from_argv(["run", "--seed=3"])
heavy = {"tensorflow", "keras", "numpy", "tensorflow_datasets", "matplotlib"} & set(sys.modules)
assert not heavy, heavy
"""
    assert "--temperature" in python("-c", code, cwd=tmp_path, PYTHONPATH=str(ROOT))
