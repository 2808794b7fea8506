"""The recipes of the studies: their cells are accepted, and differ in what the study is about."""

import dataclasses
import gzip
import importlib.util
import json
import struct
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from helpers.paths import ROOT
from simclrv2_tf.cli import sweep
from simclrv2_tf.config import Config
from simclrv2_tf.experiments import plan
from simclrv2_tf.sweep import cells, earlier

BENCHMARKS = ROOT / "benchmarks"


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def made(recipe, *args):
    return cells.make(sweep.definition([str(BENCHMARKS / recipe), *args]))


def finish(definition_cells):
    """Leaves what a sweep leaves that later ones start from."""
    folder = definition_cells[0].folder.split("/")[:3]
    held = []
    for cell in definition_cells:
        path = Path(cell.folder)
        path.mkdir(parents=True)
        (path / "result.json").write_text("{}")
        (path / "config.json").write_text(cell.config.to_json())
        if cell.config.train_mode == "semi_supervised":
            (path / "pretrain").mkdir()
            first = plan.plan_stages(cell.config)[0].config
            (path / "pretrain" / "config.json").write_text(first.to_json())
        below = "/".join(cell.folder.split("/")[3:])
        held.append({"setting": dict(cell.setting), "seed": cell.seed, "folder": below})
    Path(*folder, earlier.FILE).write_text(json.dumps({"cells": held}))


def differing(one, other):
    return {
        field.name
        for field in dataclasses.fields(Config)
        if getattr(one, field.name) != getattr(other, field.name)
    }


def test_the_head_layer_study_differs_from_the_stages_in_the_layer_alone():
    stages = made("semi_supervised/stages")
    assert [cell.seed for cell in stages] == [0, 1, 2]
    finish(stages)
    found = made("semi_supervised/head_layer")
    assert len(found) == 2 * 2 * 3
    for cell in found:
        (whole,) = [stage.config for stage in stages if stage.seed == cell.seed]
        own = next(
            stage.config
            for stage in plan.plan_stages(whole)
            if stage.name == "fine_tuned"
            and stage.config.label_fraction == cell.config.label_fraction
        )
        same = cell.setting["ft_proj_selector"] == "1"  # as in the stages
        # The temperature is pretraining's, and has no effect here.
        expected = {"model_dir", "checkpoint", "temperature"}
        expected |= set() if same else {"ft_proj_selector"}
        assert differing(cell.config, own) == expected
        assert cell.config.checkpoint == whole.model_dir  # which stands for its pretraining


def test_the_objectives_differ_only_in_their_objective_and_setting():
    found = made("objectives/pretrain")
    assert len(found) == 9 * 3
    first = {c.setting["variant"]: c.config for c in found if c.seed == 0}
    own = {"objective", "model_dir", "learning_rate", "temperature", "memory_size", "ema_decay"}
    own |= {"train_batch_size", "num_proj_layers", "proj_hidden_dim", "proj_out_dim"}
    own |= {"proj_output_bn", "vicreg_covariance", "tico_rho", "tico_momentum_views"}
    own |= {"hybrid_diagonal", "barlow_off_diagonal", "stage_options", "linear_evaluation"}
    for name, config in first.items():
        assert config.train_mode == "pretrain" and config.precision == "float32"
        assert differing(config, first["nt_xent"]) <= own, name
    assert first["no_diagonal"].hybrid_diagonal is False
    assert differing(first["batch_64_memory"], first["batch_64"]) == {
        "model_dir", "memory_size", "ema_decay",
    }  # fmt: skip


def test_the_settings_are_those_that_the_recorded_tuning_kept():
    recorded = json.loads((BENCHMARKS / "objectives" / "results.json").read_text())["tuning"]
    kept = {row["arm"]: row["setting"].split() for row in recorded if row["kept"]}
    found = {c.setting["variant"]: c.flags for c in made("objectives/pretrain") if c.seed == 0}
    names = {"vicreg_tico_no_diagonal": "no_diagonal"}
    for arm, setting in kept.items():
        assert {*setting} <= {*found[names.get(arm, arm)]}, arm
    tuned = made("objectives/tuning_pretrain")
    assert len(tuned) == len(recorded) == 24 and {cell.seed for cell in tuned} == {100}
    settings = {tuple(sorted(row["setting"].split())) for row in recorded}
    for cell in tuned:
        weights = [f for f in cell.flags if f.split("=")[0] in _WEIGHTS]
        assert tuple(sorted(weights)) in settings
        assert cell.config.eval_split == "train[80%:]"


_WEIGHTS = {
    "--learning_rate", "--temperature", "--vicreg_covariance", "--tico_rho",
    "--barlow_off_diagonal",
}  # fmt: skip


@pytest.mark.parametrize(
    ("first", "second", "mode"),
    [
        ("pretrain", "linear_eval", "linear_eval"),
        ("pretrain", "fine_tuned", "finetune"),
        ("tuning_pretrain", "tuning_linear_eval", "linear_eval"),
    ],
)
def test_evaluations_take_every_encoder(first, second, mode):
    encoders = made(f"objectives/{first}", "--train_steps=2")
    finish(encoders)
    found = made(f"objectives/{second}", "--train_steps=2")
    started = [cell.config.checkpoint for cell in found if cell.config.checkpoint]
    assert started == [cell.folder for cell in encoders]
    assert {cell.config.train_mode for cell in found} == {mode}
    random = [cell for cell in found if not cell.config.checkpoint]
    assert len(random) == (3 if first == "pretrain" else 0)
    held_out = {cell.config.eval_split for cell in found}
    assert held_out == ({None} if first == "pretrain" else {"train[80%:]"})


@pytest.fixture(scope="module")
def prepare_full():
    folder = BENCHMARKS / "packaged_images"
    sys.path.insert(0, str(folder))
    try:
        spec = importlib.util.spec_from_file_location("prepare_full", folder / "prepare_full.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(folder))
    return module


def test_idx_files_are_read(prepare_full, tmp_path):
    values = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    path = tmp_path / "images.gz"
    header = struct.pack(">BBBBIII", 0, 0, 8, 3, 2, 3, 4)
    path.write_bytes(gzip.compress(header + values.tobytes()))
    np.testing.assert_array_equal(prepare_full.read_idx(path), values)
    path.write_bytes(gzip.compress(b"\0\0\x0d" + header[3:] + values.tobytes()))
    with pytest.raises(ValueError, match="IDX file of bytes"):
        prepare_full.read_idx(path)


def test_missing_files_are_named(prepare_full, tmp_path):
    (tmp_path / "train-images-idx3-ubyte.gz").touch()
    with pytest.raises(FileNotFoundError, match="without train-labels.*t10k-images.*t10k-labels"):
        prepare_full.prepare(tmp_path, tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_the_demos_search_reads_no_test_image_and_the_study_reads_them_once():
    pretrained = made("demo/search_pretraining")
    finish(pretrained)
    searched = [
        cell
        for percent in ("1pct", "10pct")
        for kind in ("supervised", "fine_tuned")
        for cell in made(f"demo/search_{kind}_{percent}")
    ]
    for cell in [*pretrained, *searched]:
        assert cell.config.train_split == "train[:80%]", cell.folder
        assert cell.config.eval_split == "train[80%:]", cell.folder
        assert not cell.config.validation_split
    for cell in [*made("demo/study"), *made("demo/study_baselines")]:
        assert cell.config.train_split == "train" and cell.config.eval_split is None
        assert cell.seed in range(5)


def test_the_demo_has_settings_that_its_search_tried():
    """Of the network, rate, crops, batch and steps of its baseline, and of fine-tuning."""
    finish(made("demo/search_pretraining"))
    (demo,) = [cell.config for cell in made("demo/study") if cell.seed == 0]
    stages = {(s.name, s.fraction): s.config for s in plan.plan_stages(demo)}
    names = ("stem", "resnet_depth", "width_multiplier", "learning_rate", "min_crop_area")
    names += ("train_batch_size", "train_epochs", "warmup_epochs", "weight_decay", "optimizer")
    names += ("ft_proj_selector", "zero_init_logits_layer")
    for stage, fraction, recipe in (
        ("supervised", 0.01, "supervised_1pct"), ("supervised", 0.1, "supervised_10pct"),
        ("fine_tuned", 0.01, "fine_tuned_1pct"), ("fine_tuned", 0.1, "fine_tuned_10pct"),
    ):  # fmt: skip
        own = [getattr(stages[stage, fraction], name) for name in names]
        tried = [[getattr(c.config, n) for n in names] for c in made(f"demo/search_{recipe}")]
        assert own in tried, (stage, fraction)


def test_the_papers_figures_search_the_memory_without_test_images():
    """They start from sweeps in neighbouring folders, of the same data."""
    first = ("size_pretraining", "size_supervised", "teacher_pretraining", "head_pretraining")
    for name in (*first, "memory", "memory_start", "memory_60000_start"):
        splits = {
            (c.config.train_split, c.config.eval_split) for c in made(f"paper_figures/{name}")
        }
        held_out = name in ("memory", "memory_start")
        assert splits == {("train[:80%]", "train[80%:]") if held_out else ("train", None)}, name
    assert len(made("paper_figures/size_supervised")) == 3 * 2 * 3 * 3
    finish(made("paper_figures/memory_start"))
    warmed = made("paper_figures/memory_warmed")
    assert {c.config.eval_split for c in warmed} == {"train[80%:]"}
    assert {c.config.memory_size for c in warmed} == {0, 4096}
    assert all(f"seed_{c.seed}" in c.config.checkpoint for c in warmed)


def test_the_comparison_of_methods_is_searched_without_test_images():
    """And runs the best setting of the recorded search, for as many minutes."""
    finish(made("few_labels/search_pretraining"))
    finish(made("paper_figures/teacher_pretraining"))
    finish(made("few_labels/byol_pretraining"))
    for labels in ("1pct", "10pct"):
        found = made(f"few_labels/byol_{labels}")
        assert [cell.seed for cell in found] == [0, 1, 2]
        assert all(f"byol_pretraining/seed_{c.seed}" in c.config.checkpoint for c in found)
    for kind in ("alone", "pretrained"):
        searched = made(f"few_labels/search_{kind}")
        assert {(c.config.train_split, c.config.eval_split) for c in searched} == {
            ("train[:80%]", "train[80%:]")
        }
        modes = [cell.config.train_mode for cell in searched]
        assert {modes.count(mode) for mode in plan.WITH_UNLABELLED} == {2 * 2 * 2}
        for labels in ("1pct", "10pct"):
            chosen = made(f"few_labels/{kind}_{labels}")
            assert sorted(cell.seed for cell in chosen) == [0] * 3 + [1] * 3 + [2] * 3
            assert {c.config.train_split for c in chosen} == {"train"}
            for mode in plan.WITH_UNLABELLED:
                assert settings(chosen, mode) == {best(kind, mode, labels, searched)}, mode
            finish(chosen)
            students = made(f"few_labels/distilled_{kind}_{labels}")
            teachers = {cell.config.model_dir for cell in chosen}
            assert {student.config.teacher for student in students} == teachers


def settings(found, mode):
    """What the search varied, of the cells of a method."""
    names = ("learning_rate", "unlabelled_weight", "confidence_threshold", "labelled_batch_size")
    return {
        tuple(getattr(cell.config, name) for name in names)
        for cell in found
        if cell.config.train_mode == mode
    }


def best(kind, mode, labels, searched):
    """The setting with the best recorded accuracy on held-out images."""
    fraction = {"1pct": "0.01", "10pct": "0.1"}[labels]
    path = BENCHMARKS / "few_labels" / "results" / f"search_{kind}.csv"
    rows = pd.read_csv(path, dtype=str)
    rows = rows[(rows.metric == "label_top_1_accuracy") & (rows.label_fraction == fraction)]
    accuracy = {(row.variant, row.learning_rate): float(row.value) for row in rows.itertuples()}
    own = [
        cell
        for cell in searched
        if cell.config.train_mode == mode and cell.setting["label_fraction"] == fraction
    ]
    top = max(own, key=lambda c: accuracy[c.setting["variant"], c.setting["learning_rate"]])
    (setting,) = settings([top], mode)
    return setting


def test_objectives_are_fine_tuned_as_the_demo_does():
    finish(made("objectives/recipes"))
    found = made("objectives/recipes_fine_tuned")
    assert len(found) == 8 * 2 * 3
    demo = Config.from_argv(["run", "--flagfile=demo/default"])
    planned = [s.config for s in plan.plan_stages(demo) if s.name == "fine_tuned"]
    names = ("learning_rate", "train_epochs", "train_batch_size", "min_crop_area", "optimizer")
    names += ("learning_rate_scaling", "weight_decay", "warmup_epochs", "image_size")
    for cell in found:
        (own,) = [c for c in planned if c.label_fraction == cell.config.label_fraction]
        assert {n: getattr(cell.config, n) for n in names} == {n: getattr(own, n) for n in names}
