"""The shoot-out's bookkeeping: its runs are accepted, and its tables are those of its numbers."""

import argparse
import importlib.util
import json
import math

import pytest

from helpers.paths import ROOT
from simclrv2_tf.config import Config, ConfigError

SCRIPT = ROOT / "benchmarks" / "objectives" / "run.py"


@pytest.fixture(scope="module")
def study():
    spec = importlib.util.spec_from_file_location("objectives_study", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def arguments(work):
    return argparse.Namespace(work=work, seeds=[0, 1], flags=["--train_steps=2"], jobs=1)


def test_every_run_is_accepted_and_differs_only_in_its_objective(study, tmp_path):
    runs = study.result_commands(arguments(tmp_path), dict.fromkeys(study.SETTINGS, 3))
    assert {arm for arm, _ in runs} == set(study.NAMES) - {"batch_256"}
    own = {"objective", "model_dir", "seed", "label_seed", "learning_rate", "temperature"}
    own |= {"memory_size", "ema_decay", "train_batch_size", "num_proj_layers", "proj_output_bn"}
    own |= {"proj_hidden_dim", "proj_out_dim", "hybrid_diagonal", "tico_momentum_views"}
    own |= {"vicreg_covariance", "tico_rho", "barlow_off_diagonal"}
    shared = []
    for (arm, seed), commands in runs.items():
        configs = [Config.from_argv(["", *flags]) for flags in commands]
        assert [c.train_mode for c in configs] == ["pretrain"] * (arm != "random") + [
            "linear_eval",
            "finetune",
        ]
        assert all(c.seed == c.label_seed == seed and c.eval_split is None for c in configs)
        weights = [c.checkpoint for c in configs[-2:]]
        assert weights == [None if arm == "random" else configs[0].model_dir] * 2
        assert configs[-1].label_fraction == (0.01,)
        if arm != "random":
            assert configs[0].train_steps == 2 and configs[1].train_steps == 0
            options = json.loads(configs[0].to_json())
            shared.append({k: v for k, v in options.items() if k not in own})
    assert all(options == shared[0] for options in shared)


def test_tuning_never_sees_what_it_is_judged_by(study, tmp_path):
    data = ["--train_split=train[:80%]", "--eval_split=train[80%:]"]
    flags = [*study.RECIPES["vicreg"], *study.SETTINGS["vicreg"][1]]
    for command in study.commands(tmp_path, flags, 100, ["linear_eval"], data):
        config = Config.from_argv(["", *command])
        assert (config.train_split, config.eval_split) == ("train[:80%]", "train[80%:]")
    with pytest.raises(ConfigError, match="seeds"):
        study.study(argparse.Namespace(jobs=1, seeds=[0, 100]))


def test_the_best_setting_is_kept_and_of_equal_ones_the_first(study):
    tuned = {
        (name, number): {"linear_eval": value}
        for name in study.SETTINGS
        for number, value in enumerate((0.5, 0.7, 0.7, 0.6))
    }
    tuned["tico", 3] = {"linear_eval": 0.9}
    kept = study.choose(tuned)
    assert kept.pop("tico") == 3 and set(kept.values()) == {1}


def made_up(study):
    rows = []
    for place, arm in enumerate(name for name in study.NAMES if name != "batch_256"):
        for seed in (0, 1, 2):
            row = {"arm": arm, "seed": seed, "linear_eval": 0.7 + 0.01 * place + 0.002 * seed}
            row |= {"fine_tuned": 0.6 + 0.01 * seed**2 * place}
            if arm != "random":
                row |= dict.fromkeys(study.HEALTH, 3.0 + seed) | {"seconds": 10, "alarms": 0}
            rows.append(row)
    return rows


def test_means_and_paired_differences(study):
    rows = made_up(study)
    mean = {row["arm"]: row for row in study.means(rows)}["vicreg"]
    values = [row["linear_eval"] for row in rows if row["arm"] == "vicreg"]
    assert mean["linear_eval"] == pytest.approx(sum(values) / 3)
    deviation = math.sqrt(sum((v - sum(values) / 3) ** 2 for v in values) / 2)
    assert mean["linear_eval_std"] == pytest.approx(deviation)
    assert mean["representation_rank"] == 4 and mean["seeds"] == [0, 1, 2]
    # One seed of one of the two is missing: the pair is left out there.
    rows = [row for row in rows if (row["arm"], row["seed"]) != ("vicreg", 1)]
    linear, tuned = study.differences(rows, [("tico", "vicreg")])
    assert linear["by_seed"] == pytest.approx([0.01, 0.01]) and linear["measure"] == "linear_eval"
    assert tuned["by_seed"] == pytest.approx([0, 0.04]) and tuned["top1"] == pytest.approx(0.02)
    assert study.differences(rows, [("tico", "nothing")]) == []


def test_what_is_written(study, tmp_path):
    tuned = {
        (name, number): {"linear_eval": 0.1 * number}
        for name, settings in study.SETTINGS.items()
        for number in range(len(settings))
    }
    rows = made_up(study)
    found = study.results(arguments(tmp_path), tuned, study.choose(tuned), rows)
    study.write_results(found, tmp_path)
    assert json.loads((tmp_path / "results.json").read_text())["per_seed"] == rows
    lines = (tmp_path / "results.md").read_text().splitlines()
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    (line,) = (cells for cells in lines if cells[:1] == ["VICReg"] and len(cells) > 4)
    assert "72.20 ± 0.20" in line
    assert sum(cells[-1:] == ["yes"] for cells in lines) == len(study.SETTINGS)
    # The memory's comparison has the shoot-out's own run for the batch of 256.
    assert [cells[1] for cells in lines if cells[:1] == ["NT-Xent, batch 256"]] == ["71.20 ± 0.20"]
    for name in ("objectives", "memory"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
