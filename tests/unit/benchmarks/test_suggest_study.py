"""benchmarks/suggest: its README shows its record, and its settings are the demo's."""

import importlib.util
import json

import numpy as np
import pytest

from helpers.paths import ROOT
from simclrv2_tf.config import Config

FOLDER = ROOT / "benchmarks" / "suggest"


@pytest.fixture(scope="module")
def study():
    spec = importlib.util.spec_from_file_location("suggest_study", FOLDER / "run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def found():
    return json.loads((FOLDER / "results.json").read_text())


def test_readme_shows_what_is_recorded(study, found):
    text = (FOLDER / "README.md").read_text()
    assert study.table(found) in text and study.differences(found) in text
    assert f"took {study.cpu_minutes(found):.0f} minutes of CPU time" in text
    assert found["processor"] in text
    assert [seed["seed"] for seed in found["seeds"]] == [*study.SEEDS]
    for seed in found["seeds"]:
        for arm in study.ARMS:
            held = seed["arms"][arm]
            assert sum(held["images_of_each_class"]) == study.LABELS
            for measure in study.MEASURES:  # of 2,000 images
                assert 2000 * held[measure] == pytest.approx(round(2000 * held[measure]), abs=1e-3)
        assert seed["arms"][study.BALANCED]["images_of_each_class"] == [10] * 10


def test_differences_are_those_of_the_seeds(study, found):
    """Against the interval written out: mean and 2.776 standard errors, of five seeds."""
    for measure in study.MEASURES:
        for arm in (study.BALANCED, study.UNIFORM):
            gains = 100 * np.array(
                [
                    s["arms"][study.SUGGESTED][measure] - s["arms"][arm][measure]
                    for s in found["seeds"]
                ]
            )
            mean, low, high, better = study.gain(found, measure, arm)
            reach = 2.776445 * gains.std(ddof=1) / np.sqrt(5)
            assert (mean, low, high) == pytest.approx(
                (gains.mean(), gains.mean() - reach, gains.mean() + reach), rel=1e-5
            )
            assert better == np.sum(gains > 0)


def test_settings_are_those_that_were_recorded(study):
    """The demo's recipe of 2026-11-26, in numbers: a later recipe does not change the study."""
    data = ["--dataset=fashion_mnist_small", "--model_dir=b", "--checkpoint=a"]
    network = ["--resnet_depth=18", "--width_multiplier=0.25", "--stem=imagenet"]
    tuned = Config.from_argv(["", *study.FINETUNE, *data, *network])
    pretrained = Config.from_argv(["", *study.PRETRAIN, "--model_dir=b"])
    names = ("learning_rate", "train_batch_size", "train_epochs", "min_crop_area", "warmup_epochs")
    assert [getattr(pretrained, name) for name in names] == [0.002, 256, 12, 0.25, 1]
    assert [getattr(tuned, name) for name in names] == [0.008, 64, 100, 0.7, 0]
    same = ("resnet_depth", "width_multiplier", "stem", "optimizer", "learning_rate_scaling")
    for name in (*same, "use_blur", "color_jitter_strength", "image_size"):
        assert getattr(pretrained, name) == getattr(tuned, name), name
    assert pretrained.temperature == 0.2 and not pretrained.eval_epochs
