"""`--dry_run`: what it prints, and that it leaves nothing."""

import re

import pytest

from helpers import small
from helpers.command_line import SMALL, files
from helpers.shared_runs import command_line
from simclrv2_tf.network_options import NetworksOptions
from simclrv2_tf.networks import build_networks


def dry(capsys, *flags, status=0):
    assert small.run([*SMALL, *flags, "--mode=train_then_eval", "--dry_run"]) == status
    said = capsys.readouterr()
    return said.out if status == 0 else said.err


def parameters(text):
    found = re.findall(r"^(\w+): ([\d,]+) parameters$", text, re.MULTILINE)
    return {name: int(number.replace(",", "")) for name, number in found}


def test_its_parameters_are_those_of_the_networks_and_nothing_is_written(
    images, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    text = dry(capsys, f"--dataset=folder:{images}", "--proj_hidden_dim=24")
    options = NetworksOptions(
        resnet_depth=10, width_multiplier=0.0625, proj_out_dim=8, proj_hidden_dim=24
    )
    networks = build_networks(options, 2, image_size=16, seed=0, resnet=small.resnet)
    expected = {name: model.count_params() for name, model in networks.models.items()}
    assert parameters(text) == expected and len(expected) == 3
    assert "pretrain: ResNet-10 0.0625x, 24 images" in text
    held, most = re.search(r"Memory: ([\d,]+) MiB .*; peak ([\d,]+) MiB", text).groups()
    assert 0 <= int(held) < int(most.replace(",", ""))
    assert re.search(r"Time: \S+ s per step; .* per epoch of 3 steps; .* for the 301 steps", text)
    assert text.endswith("Dry run: nothing was written.\n")
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_is_there_stays_as_it_is(copied_run, capsys):
    folder = copied_run("pretrain")
    before = files(folder)
    command = [*command_line("pretrain"), "--dry_run"]
    assert small.run(command) == 0
    assert "Dry run: nothing was written." in capsys.readouterr().out
    assert files(folder) == before


def test_several_stages_are_planned_and_the_first_is_measured(images, tmp_path, capsys):
    flags = [f"--dataset=folder:{images}", "--train_mode=semi_supervised", "--label_fraction=0.5"]
    text = dry(capsys, *flags, f"--model_dir={tmp_path / 'run'}")
    planned = re.findall(r"^\[(\d)/5\] (\w+): .*/(\w+)$", text, re.MULTILINE)
    assert [name for _, _, name in planned] == [
        "pretrain", "supervised", "fine_tuned", "self_distilled", "small_student",
    ]  # fmt: skip
    assert text.count("Time: ") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--train_batch_size=32"], "Give --train_batch_size=16 or less"),
        (
            ["--train_mode=finetune", "--checkpoint=nothing"],
            "checkpoint=nothing, which holds none of these",
        ),
    ],
)
def test_it_refuses_what_a_run_would(images, tmp_path, capsys, flags, expected):
    flags = [f"--dataset=folder:{images}", *flags, f"--model_dir={tmp_path / 'run'}"]
    assert expected in dry(capsys, *flags, status=2)
    assert not (tmp_path / "run").exists()
