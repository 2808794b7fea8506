"""`--help`: every flag, without TensorFlow."""

import dataclasses
import re

import pytest

from helpers.config import parse
from helpers.paths import RECIPES, ROOT
from helpers.processes import python
from simclrv2_tf import options
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
from simclrv2_tf import options
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


def test_the_page_of_the_reference_has_the_defaults():
    """Flags whose defaults are said to be the reference's, and the five that differ."""
    text = (ROOT / "docs" / "from_the_reference.md").read_text()
    section = text.partition("## Flag by flag")[2]
    listed = section.partition("same default:")[2].partition("Five have")[0]
    same = re.findall(r"`(\w+)`", listed)
    rows = re.findall(r"^\| `(\w+)` \| (\S+) \| (\S+) \|", section, re.M)
    known = options.of(Config)
    assert len({*same}) == len(same) == 43 and len(rows) == 5
    # The released program's, google-research/simclr at 1e7f15d, tf2/run.py.
    defaults = {
        "batch_norm_decay": 0.9,
        "cache_dataset": False,
        "checkpoint_epochs": 1,
        "color_jitter_strength": 1.0,
        "eval_batch_size": 256,
        "fine_tune_after_block": -1,
        "ft_proj_selector": 0,
        "global_bn": True,
        "hidden_norm": True,
        "image_size": 224,
        "keep_hub_module_max": 1,
        "learning_rate": 0.3,
        "learning_rate_scaling": "linear",
        "lineareval_while_pretraining": True,
        "mode": "train",
        "momentum": 0.9,
        "num_proj_layers": 3,
        "optimizer": "lars",
        "proj_head_mode": "nonlinear",
        "proj_out_dim": 128,
        "resnet_depth": 50,
        "temperature": 0.1,
        "train_batch_size": 512,
        "train_epochs": 100,
        "train_mode": "pretrain",
        "train_split": "train",
        "use_blur": True,
        "warmup_epochs": 10,
        "width_multiplier": 1,
    }
    empty = {"checkpoint", "data_dir", "eval_name", "gcp_project", "master", "model_dir"}
    empty |= {"tpu_name", "tpu_zone"}
    zero = {"checkpoint_steps", "eval_steps", "se_ratio", "sk_ratio", "train_steps"}
    defaults |= dict.fromkeys(empty) | dict.fromkeys(zero, 0) | {"zero_init_logits_layer": False}
    assert {name: known[name].default for name in same} == defaults
    shown = {"1e-4": 1e-4, "none": None, "false": False}
    for name, there, here in rows:
        assert known[name].default == shown[here] and there != here
