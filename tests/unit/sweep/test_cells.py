"""The cells of a sweep: their command lines, and what is refused before any begins."""

import json
from pathlib import Path

import pytest

from simclrv2_tf.cli import sweep
from simclrv2_tf.config import Config
from simclrv2_tf.experiments.directory import RunError
from simclrv2_tf.options import ConfigError
from simclrv2_tf.sweep import cells
from simclrv2_tf.sweep.earlier import SweepError


def made(*args):
    return cells.make(sweep.definition(["--output=out", *args]))


def errors_of(*args):
    with pytest.raises(ConfigError) as caught:
        made(*args)
    return list(caught.value.errors)


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_every_combination_is_a_cell_the_first_seed_first():
    found = made(
        *("--train_mode=supervised", "--grid.learning_rate=0.1,0.3", "--seeds=0,1"),
        *("--variant.small=--resnet_depth=18", "--variant.wide=--width_multiplier=2"),
    )
    assert [(*cell.setting.values(), cell.seed) for cell in found] == [
        (variant, rate, seed)
        for seed in (0, 1)
        for variant in ("small", "wide")
        for rate in ("0.1", "0.3")
    ]
    cell = found[3]
    assert cell.folder == "out/wide,learning_rate=0.3/seed_0"
    assert cell.in_words == "variant=wide, learning_rate=0.3, seed 0"
    # Its command line is an ordinary one, and gives what was checked.
    again = Config.from_argv(["run", *cell.flags])
    assert again == cell.config
    assert (again.width_multiplier, again.learning_rate) == (2, 0.3)
    assert (again.seed, again.label_seed, again.mode) == (0, 0, "train_then_eval")
    assert len({cell.folder for cell in found}) == 8


def test_what_is_nearer_to_the_cell_wins():
    (cell,) = made(
        *("--learning_rate=0.1", "--temperature=0.9", "--train_steps=5"),
        "--variant.a=--flagfile=demo/vicreg --temperature=0.7 --learning_rate=0.2",
        *("--grid.learning_rate=0.3", "--label_seed=7", "--seeds=4"),
    )
    config = cell.config
    assert (config.learning_rate, config.temperature, config.train_steps) == (0.3, 0.7, 5)
    assert (config.objective, config.seed, config.label_seed) == ("vicreg", 4, 7)


def test_lists_and_options_of_a_stage_vary():
    found = made("--grid.label_fraction=0.01;0.01,0.1", "--grid.small_student.resnet_depth=10,18")
    assert [
        (cell.config.label_fraction, cell.config.stage_options["small_student"]["resnet_depth"])
        for cell in found
    ] == [((0.01,), 10), ((0.01,), 18), ((0.01, 0.1), 10), ((0.01, 0.1), 18)]
    assert cells.stage_dimensions(found)["fraction"] == ["none", "0.01", "0.1"]
    assert "supervised" in cells.stage_dimensions(found)["stage"]


def test_recipes_vary():
    found = made("--grid.flagfile=demo/default,demo/vicreg")
    assert [cell.config.objective for cell in found] == ["nt_xent", "vicreg"]


def test_all_cells_are_checked_and_each_problem_is_said_once():
    lines = errors_of("--grid.learning_rate=0.1,-1", "--grid.temperature=0.5,0", "--seeds=0,1,2")
    assert len(lines) == 2
    assert lines[0].startswith("`temperature`") and lines[1].startswith("`learning_rate`")
    (line,) = errors_of("--train_mode=supervised", "--grid.checkpoint=,runs/a")
    assert line.startswith("`checkpoint` must be left out in supervised")


def test_one_run_twice_is_refused():
    (line,) = errors_of("--variant.a=--learning_rate=0.2", "--variant.b=--lr=2e-1")
    assert "Cells must differ" in line and "variant=a" in line and "variant=b" in line


def test_two_cells_in_one_folder_are_refused():
    (line,) = errors_of("--grid.data_dir=a b,a-b")
    assert "its own folder" in line and "both in out/data_dir=a-b/seed_0" in line
    (line,) = errors_of(f"--grid.data_dir={'a' * 300}")
    assert "at most 200 bytes" in line


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ("--compare_to=temperature=0.1", "must name a dimension that varies: learning_rate"),
        ("--compare_to=learning_rate=0.2", "learning_rate one of 0.1, 0.3"),
        ("--compare_to=stage=nothing", "stage one of pretrain"),
        ("--x_axis=temperature", "`x_axis` must name a dimension that varies"),
    ],
)
def test_comparisons_with_nothing_are_refused(args, expected):
    (line,) = errors_of("--grid.learning_rate=0.1,0.3", args)
    assert expected in line


def test_another_run_in_a_cells_folder_is_refused():
    (cell,) = made("--train_mode=supervised", "--train_epochs=3")
    Path(cell.folder).mkdir(parents=True)
    Path(cell.folder, "config.json").write_text(cell.config.to_json())
    made("--train_mode=supervised", "--train_epochs=3")
    with pytest.raises(RunError, match="train_epochs=3 in the folder, 5 here"):
        made("--train_mode=supervised", "--train_epochs=5")


def earlier_sweep(tmp_path, finished=True):
    held = []
    for rate in ("0.1", "0.2"):
        for seed in (0, 1):
            folder = tmp_path / "pre" / f"rate={rate}" / f"seed_{seed}"
            folder.mkdir(parents=True)
            config = Config(train_mode="pretrain", resnet_depth=34, model_dir=str(folder))
            (folder / "config.json").write_text(config.to_json())
            if finished:
                (folder / "result.json").write_text("{}")
            setting = {"learning_rate": rate}
            held.append({"setting": setting, "seed": seed, "folder": f"rate={rate}/seed_{seed}"})
    (tmp_path / "pre" / "sweep.json").write_text(json.dumps({"cells": held}))


def test_cells_start_from_those_of_another_sweep_with_their_seed(tmp_path):
    earlier_sweep(tmp_path)
    found = made(
        *("--train_mode=finetune", "--checkpoint=sweep:pre", "--seeds=1,0"),
        "--grid.ft_proj_selector=0,1",
    )
    assert [
        (
            cell.seed,
            cell.setting["ft_proj_selector"],
            cell.setting["checkpoint.learning_rate"],
            cell.config.checkpoint,
        )
        for cell in found
    ] == [
        (seed, layer, rate, f"pre/rate={rate}/seed_{seed}")
        for seed in (1, 0)
        for layer in ("0", "1")
        for rate in ("0.1", "0.2")
    ]
    assert found[0].config.resnet_depth == 34  # as the weights have it
    assert sum(flag.startswith("--checkpoint") for flag in found[0].flags) == 1
    folders = {cell.folder for cell in found}
    assert "out/ft_proj_selector=0,checkpoint.learning_rate=0.1/seed_1" in folders


def test_a_baseline_without_weights_stands_beside_them(tmp_path):
    earlier_sweep(tmp_path)
    found = made(
        *("--train_mode=linear_eval", "--variant.random=--checkpoint="),
        "--variant.pretrained=--checkpoint=sweep:pre",
        "--compare_to=variant=random,checkpoint.learning_rate=none",
    )
    assert [cell.config.checkpoint for cell in found] == [
        None,
        "pre/rate=0.1/seed_0",
        "pre/rate=0.2/seed_0",
    ]


def test_a_sweep_to_start_from_must_have_what_is_needed(tmp_path):
    arguments = ("--train_mode=finetune", "--checkpoint=sweep:pre")
    with pytest.raises(SweepError, match="Run that sweep first"):
        made(*arguments)
    earlier_sweep(tmp_path, finished=False)
    with pytest.raises(SweepError, match="whose cells have finished"):
        made(*arguments)
    for path in tmp_path.rglob("config.json"):
        path.with_name("result.json").write_text("{}")
    with pytest.raises(SweepError, match="without seed 5"):
        made(*arguments, "--seeds=0,5")
    (tmp_path / "pre" / "sweep.json").write_text("[]")
    with pytest.raises(SweepError, match="cannot be read"):
        made(*arguments)
