"""Presets: what they pick for any number of images, and what a user may rely on."""

import dataclasses
import itertools

import pytest

from helpers.paths import ROOT
from simclrv2_tf.cli.commands import TRAININGS
from simclrv2_tf.config import Config, ConfigError, presets
from simclrv2_tf.config.preset_names import DEFAULT, SUMMARIES
from simclrv2_tf.datasets.survey import Survey

COUNTS = (1, 2, 3, 31, 108, 500, 501, 3_000, 50_000, 1_281_167, None)
# Those that have a short command.
STAGES = tuple(training.train_mode for training in TRAININGS.values())
NETWORK = dict(resnet_depth=34, width_multiplier=0.5, image_size=80)


def choose(preset, train_mode, count, network=None, side=None, classes=3, **given):
    images = Survey(count, side, classes)
    return presets.choose(preset, train_mode, images, network, given)


def test_the_names_are_those_of_the_table():
    assert list(SUMMARIES) == list(presets.PRESETS)
    assert DEFAULT in presets.PRESETS


@pytest.mark.parametrize("preset", presets.PRESETS)
def test_rows_rise_and_reach_any_number(preset):
    most = [row.most for row in presets.PRESETS[preset]]
    assert most == sorted(most) and most[-1] == float("inf")


@pytest.mark.parametrize("train_mode", STAGES)
@pytest.mark.parametrize("preset", presets.PRESETS)
def test_settings_fit_every_number_of_images(preset, train_mode):
    for count, network in itertools.product(COUNTS, (None, NETWORK)):
        picked, reasons = choose(preset, train_mode, count, network)
        more = {"teacher": "t"} if train_mode == "distill" else {}
        config = Config(**{**(network or {}), **picked}, train_mode=train_mode, dataset="x", **more)
        assert config.train_batch_size <= (count or 50_000)
        epochs = config.train_epochs
        if config.train_steps:
            epochs = config.train_steps * config.train_batch_size / count
        assert config.warmup_epochs < epochs
        assert not set(NETWORK) & set(picked) or network is None
        assert reasons[0].startswith(f"Preset {preset}, for {count or 50_000:,} training images")
        assert (count is None) == ("their number is not known" in reasons[0])


def test_the_line_says_that_files_are_counted_before_they_are_read():
    def line(unread):
        images = Survey(108, 300, 3, unread)
        return presets.choose("quick", "pretrain", images, None, {})[1][0]

    begin, end = (
        "Preset quick, for 108 training images",
        ", shorter sides of about 300 px (--preset",
    )
    assert line(unread=False).startswith(begin + end)
    assert line(unread=True).startswith(f"{begin} (counted by file names){end}")


def test_the_paper_is_the_paper():
    """arXiv 2006.10029, section 3.1."""
    picked, _ = choose("paper", "pretrain", 1_281_167, side=30)
    assert picked == dict(
        image_size=224, resnet_depth=50, width_multiplier=1.0, optimizer="lars", learning_rate=0.1,
        learning_rate_scaling="sqrt", weight_decay=1e-4, train_batch_size=4096, train_epochs=800,
        warmup_epochs=40.0, temperature=0.1, ft_proj_selector=0,
    )  # fmt: skip
    tuned, _ = choose("paper", "finetune", 1_281_167, NETWORK, label_fraction=(0.01,))
    assert tuned == dict(
        optimizer="lars", learning_rate=0.005, learning_rate_scaling="sqrt", momentum=0.9,
        weight_decay=0.0, warmup_epochs=0.0, zero_init_logits_layer=True, ft_proj_selector=1,
        train_epochs=60, train_batch_size=1024,
    )  # fmt: skip
    distilled, _ = choose("paper", "distill", 1_281_167, NETWORK)
    assert distilled == dict(
        optimizer="lars", learning_rate=0.1, learning_rate_scaling="sqrt", weight_decay=1e-4,
        train_batch_size=4096, train_epochs=400, warmup_epochs=20.0, ft_proj_selector=0,
    )  # fmt: skip


def test_quick_is_small_whatever_the_images():
    for count in COUNTS:
        picked, _ = choose("quick", "pretrain", count)
        config = Config(**picked, dataset="x")
        steps = config.train_steps or -(-(count or 50_000) // config.train_batch_size) * (
            config.train_epochs
        )
        assert steps <= 3_200
        assert config.image_size <= 64 and config.width_multiplier <= 0.5


def test_images_are_not_enlarged_but_in_the_paper():
    sides = {10: 32, 32: 32, 33: 64, 60: 64, 4_000: 96}
    for side, size in sides.items():
        assert choose("standard", "pretrain", 108, side=side)[0]["image_size"] == size
        assert choose("paper", "pretrain", 108, side=side)[0]["image_size"] == 224


def test_small_images_are_not_blurred():
    picked, _ = choose("quick", "pretrain", 50_000, side=32)
    assert picked["use_blur"] is False and picked["color_jitter_strength"] == 0.5
    assert "use_blur" not in choose("quick", "pretrain", 50_000, side=200)[0]
    assert "use_blur" not in choose("quick", "finetune", 50_000, NETWORK, side=32)[0]


@pytest.mark.parametrize(
    ("given", "most"),
    [
        (dict(label_fraction=(0.1,)), 100),
        (dict(labels_per_class=10), 30),
        (dict(eval_epochs=1), 800),
        (dict(labels_per_class=10, eval_epochs=1), 30),
    ],
)
def test_the_batch_fits_the_labels(given, most):
    for preset in presets.PRESETS:
        picked, _ = choose(preset, "finetune", 1_000, NETWORK, **given)
        assert picked["train_batch_size"] <= most
    # And no smaller than it must be.
    picked, _ = choose("paper", "finetune", 1_000, NETWORK, **given)
    assert picked["train_batch_size"] > most / 2


@pytest.mark.parametrize("optimizer", ["adam", "lars", "momentum"])
def test_a_given_optimizer_brings_its_rate(optimizer):
    expected = {**presets._RATES[optimizer]}
    for preset, count in (("quick", 108), ("standard", 50_000)):
        picked, _ = choose(preset, "pretrain", count, optimizer=optimizer)
        assert "optimizer" not in picked
        assert picked.items() >= expected.items()


def test_the_warm_up_follows_given_epochs():
    assert choose("standard", "pretrain", 108, train_epochs=10)[0]["warmup_epochs"] == 0.5
    picked, _ = choose("quick", "pretrain", 10**6, train_epochs=10)
    assert "train_steps" not in picked and picked["warmup_epochs"] == 0.5
    picked, _ = choose("standard", "pretrain", 1_000, train_steps=100, train_batch_size=50)
    assert picked["warmup_epochs"] == 0.25


def test_an_unknown_preset_is_named():
    with pytest.raises(ConfigError, match="must be one of quick, standard, paper. Received: pre"):
        choose("fast", "pretrain", 108)


def test_every_row_says_why():
    for row in itertools.chain.from_iterable(presets.PRESETS.values()):
        assert len(row.why) > 10
        assert set(row.batch) <= {"", *STAGES} and "" in row.batch
        assert set(row.epochs) <= set(STAGES)
        assert dataclasses.replace(row, steps=0).epochs["pretrain"] > 0


WEIGHTS = {"resnet_depth": 10, "width_multiplier": 0.25, "image_size": 28}


@pytest.mark.parametrize(
    ("preset", "train_mode", "count", "network", "given", "reason"),
    [
        ("quick", "pretrain", 108, None, {}, "minutes on a laptop"),
        ("quick", "pretrain", 10**6, None, {}, "minutes on a laptop"),
        ("quick", "pretrain", 108, None, {"learning_rate": 0.1}, "minutes on a laptop"),
        ("quick", "pretrain", 108, None, {"train_epochs": 900}, "flags or weights set train_ep"),
        ("quick", "pretrain", 108, None, {"train_steps": 9000}, "flags or weights set train_steps"),
        ("standard", "pretrain", 10**4, None, {}, "the paper's smallest network, below"),
        (
            "standard", "distill", 10**4, WEIGHTS, {},
            "flags or weights set resnet_depth, width_multiplier, image_size",
        ),
        ("standard", "finetune", 108, WEIGHTS, {}, "LARS needs more steps"),
        ("standard", "finetune", 108, WEIGHTS, {"optimizer": "adam"}, "LARS needs more steps"),
        ("standard", "finetune", 108, None, {"optimizer": "lars"}, "flags or weights set optim"),
        ("standard", "linear_eval", 108, None, {}, "the optimizer is published for this stage"),
        ("paper", "pretrain", 108, None, {}, "arXiv 2006.10029"),
    ],
)  # fmt: skip
def test_the_reason_is_about_the_values_that_are_used(
    preset, train_mode, count, network, given, reason
):
    (*_, line) = choose(preset, train_mode, count, network, **given)[1]
    assert line.rpartition(": ")[2].startswith(reason)


def test_the_documentation_shows_the_table():
    text = (ROOT / "docs" / "settings.md").read_text()
    for preset, rows in presets.PRESETS.items():
        for row in rows:
            most = "any" if row.most == float("inf") else f"{row.most:,}"
            length = f"{row.steps:,} steps" if row.steps else row.epochs["pretrain"]
            network = f"ResNet-{row.resnet_depth} {row.width_multiplier:g}x"
            cells = [f"`{preset}`", most, row.image_size, network, row.optimizer]
            line = " | ".join(map(str, [*cells, row.batch[""], length]))
            assert f"| {line} |" in text, line
