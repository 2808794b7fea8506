"""`Config`: defaults, types, bounds, combinations, JSON and absl."""

import dataclasses
import json

import numpy as np
import pytest
from absl import flags

from helpers.config import errors_of, parse
from simclrv2_tf import config as config_lib
from simclrv2_tf import options
from simclrv2_tf.config import Config, ConfigError
from simclrv2_tf.datasets import PACKAGED


def test_defaults_are_the_references():
    """Names and values read off the reference's flag definitions, and those that differ."""
    reference = dict(
        learning_rate=0.3, learning_rate_scaling="linear", warmup_epochs=10, batch_norm_decay=0.9,
        train_batch_size=512, train_split="train", train_epochs=100, train_steps=0, eval_steps=0,
        eval_batch_size=256, checkpoint_epochs=1, checkpoint_steps=0, cache_dataset=False,
        mode="train", train_mode="pretrain", lineareval_while_pretraining=True, checkpoint=None,
        zero_init_logits_layer=False, fine_tune_after_block=-1, master=None, data_dir=None,
        tpu_name=None, tpu_zone=None, gcp_project=None, optimizer="lars", momentum=0.9,
        eval_name=None, keep_hub_module_max=1, temperature=0.1,
        hidden_norm=True, proj_head_mode="nonlinear", proj_out_dim=128, num_proj_layers=3,
        ft_proj_selector=0, global_bn=True, width_multiplier=1, resnet_depth=50, sk_ratio=0.0,
        se_ratio=0.0, image_size=224, color_jitter_strength=1.0, use_blur=True,
        variable_schema=None, train_summary_steps=100,
    )  # fmt: skip
    ours = dict(use_tpu=False, eval_split=None, weight_decay=1e-4, keep_checkpoint_max=None)
    config = parse("--dataset=imagenet2012")
    values = dataclasses.asdict(config)
    assert {name: values[name] for name in reference} == reference
    assert {name: values[name] for name in ours} == ours
    assert config.model_dir == "runs/imagenet2012-pretrain"
    assert config == Config(dataset="imagenet2012")


def test_a_config_built_in_python_is_complete():
    config = Config()
    assert config.dataset == PACKAGED
    assert config.model_dir == f"runs/{PACKAGED}-pretrain"
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.seed = 1


def test_values_take_the_type_of_their_option(tmp_path):
    config = Config(
        width_multiplier=2, seed=np.int64(3), temperature=np.float32(0.5), model_dir=tmp_path
    )
    assert (type(config.width_multiplier), type(config.seed)) == (float, int)
    assert config.temperature == 0.5 and config.model_dir == str(tmp_path)
    text = parse("--dataset=x", "--warmup_epochs=10", "--width_multiplier=1")
    assert (text.warmup_epochs, text.width_multiplier) == (10.0, 1.0)


def test_a_folder_has_one_name_by_whatever_path_it_is_given(tmp_path, monkeypatch, caplog):
    (tmp_path / "photos").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "none"))
    names = ("photos", "./photos/", "folder:photos", "folder:./photos")
    configs = [Config(dataset=name, unlabelled_dataset=name) for name in names]
    assert len(set(map(str, configs))) == 1
    assert configs[0].dataset == configs[0].unlabelled_dataset == "folder:photos"
    assert configs[0].model_dir == "runs/folder-photos-pretrain"
    assert not caplog.records
    config = Config.from_argv(["run", "--dataset=photos"])
    assert config == Config(dataset="photos")
    (record,) = caplog.records  # where a name might have meant another data set
    assert record.message.startswith("photos is read as folder:photos: no data set of that name")
    assert Config.from_argv(["run", "--dataset=./photos"]) == config
    assert len(caplog.records) == 1


def test_json_round_trip():
    config = parse("--flagfile=cifar10/linear", "--seed=7")
    assert Config.from_json(config.to_json()) == config
    assert list(json.loads(config.to_json())) == [f.name for f in dataclasses.fields(Config)]


def test_json_of_a_version_without_antialiasing_means_none():
    held = json.loads(Config(dataset="folder:photos").to_json())
    assert held.pop("antialias") is None
    assert Config.from_json(json.dumps(held)).antialias is False
    for value in (True, False, None):
        assert Config.from_json(json.dumps(held | {"antialias": value})).antialias is value


def test_json_problems_are_reported_together():
    with pytest.raises(ConfigError) as caught:
        Config.from_json('{"temprature": 1, "temperature": NaN, "seed": "1"}')
    assert len(caught.value.errors) == 3
    assert "Did you mean `temperature`?" in caught.value.errors[0]
    for text in ("[]", "{", ""):
        with pytest.raises(ConfigError, match="`text` must be"):
            Config.from_json(text)


SINGLE = {n: o for n, o in options.of(Config).items() if not (o.many or o.optional)}
FLOATS = [name for name, option in SINGLE.items() if option.kind is float]


INTEGERS = [name for name, option in SINGLE.items() if option.kind is int]


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e39", "-1e39", "-2", "", "1,5", "None"])
def test_no_number_accepts_nonsense(value):
    names = FLOATS + INTEGERS
    assert len(FLOATS) > 10 and len(INTEGERS) > 15
    errors = errors_of("--dataset=x", *(f"--{name}={value}" for name in names))
    assert [error.split("`")[1] for error in errors if " must be " in error] == [
        f.name for f in dataclasses.fields(Config) if f.name in names
    ]


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("temperature", [1e-6, 100], [0, -0.1, 1e-46, True, "0.1", None, [0.1]]),
        ("momentum", [0, 0.999], [1, -0.1]),
        ("batch_norm_decay", [0, 0.999], [1, 1.1]),
        ("sk_ratio", [0, 0.0625, 1], [1.01]),
        ("se_ratio", [0, 1], [-0.01]),
        ("min_crop_area", [0.001, 1], [0, 1.01]),
        ("color_jitter_strength", [0, 2.5], [2.51]),
        ("grayscale_probability", [0, 0.2, 1], [-0.1, 1.01]),
        ("flip", ["horizontal", "vertical", "both", "none"], ["up", "", None, True]),
        ("antialias", [None, True, False], [0, "true"]),
        ("width_multiplier", [1 / 32, 0.25, 1, 3], [0, 1 / 33]),
        ("image_size", [8, 224], [7, 32.0, 2**31]),
        ("train_batch_size", [1], [0, -1, 2.5, True]),
        ("train_epochs", [1], [0, 1.5]),
        ("warmup_epochs", [0, 0.5, 1000], [-1]),
        ("seed", [0, 2**31 - 1], [-1, 2**31, 10**400, False]),
        ("keep_checkpoint_max", [1, None], [0]),
        ("keep_hub_module_max", [0, 1], [-1]),
        ("use_blur", [True, False], [0, 1, "true", None]),
        ("mode", ["eval"], ["", "Train", 1, None, ["train"]]),
        ("train_split", ["train[:80%]"], ["", " ", None, 3]),
        ("checkpoint", [None, "a"], ["", b"a", 1]),
        ("eval_name", [None, "ema", "a.b-c_2", "-", "7"], ["", "test/a", "../a", ".a", "a b", "é"]),
        ("eval_name", ["A"], ["a\n", "a\\b", "a:b", "*", "/", ".", "..", "a" + chr(0)]),
        ("resnet_depth", [10, 18, 34, 50, 101, 152, 200], [51, 50.0, "50"]),
    ],
)
def test_bounds(name, good, bad):
    for value in good:
        assert getattr(Config(**{name: value}), name) == value
    for value in bad:
        with pytest.raises(ConfigError) as caught:
            Config(**{name: value})
        (error,) = caught.value.errors
        assert error.startswith(f"`{name}` must be ") and f"Received: {name}=" in error


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        (dict(proj_head_mode="none", ft_proj_selector=0), dict(ft_proj_selector=1)),
        (dict(proj_head_mode="linear", ft_proj_selector=1), dict(ft_proj_selector=2)),
        (dict(num_proj_layers=4, ft_proj_selector=4), dict(num_proj_layers=3)),
        (dict(proj_head_mode="none", ft_proj_selector=-1), dict(ft_proj_selector=1)),
        (dict(train_mode="finetune", fine_tune_after_block=2), dict(train_mode="pretrain")),
        (dict(train_mode="finetune", fine_tune_after_block=0), dict(train_mode="linear_eval")),
        (dict(train_mode="linear_eval", fine_tune_after_block=4), dict(fine_tune_after_block=3)),
        (dict(use_tpu=True), dict(strategy="default")),
        (dict(use_tpu=True), dict(num_replicas=2)),
        (dict(use_tpu=True, strategy="tpu"), dict(strategy="multi_worker")),
        (dict(strategy="multi_worker"), dict(num_replicas=2)),
        (dict(micro_batch_size=64), dict(micro_batch_size=65)),
        (dict(memory_size=64), dict(objective="tico")),
        (dict(chunk_size=64), dict(objective="vicreg")),
        (dict(objective="tico", tico_momentum_views=True), dict(objective="nt_xent")),
        (dict(memory_size=64, eval_ema=True), dict(memory_size=0)),
        (dict(objective="byol", eval_ema=True), dict(objective="simsiam")),
        (dict(objective="simsiam", predictor_hidden_dim=8), dict(objective="nt_xent")),
        (dict(objective="vicreg"), dict(train_batch_size=1)),
        (dict(micro_batch_size=256, num_replicas=2), dict(num_replicas=4)),
        (dict(num_replicas=2, strategy="mirrored"), dict(strategy="default")),
        (dict(num_replicas=4), dict(train_batch_size=510)),
        (dict(num_replicas=4, labelled_batch_size=8), dict(labelled_batch_size=6)),
        (dict(train_mode="finetune", label_fraction=0.1), dict(labels_per_class=10)),
        (dict(train_mode="finetune", label_fraction=0.1), dict(label_fraction=(0.01, 0.1))),
        (dict(train_mode="supervised", label_fraction=0.1), dict(train_mode="pretrain")),
        (dict(train_mode="linear_eval", labels_per_class=1), dict(train_mode="pretrain")),
        (
            dict(mode="eval", train_mode="semi_supervised", embedding_projector=True),
            dict(train_mode="supervised"),
        ),
        (
            dict(mode="train_then_eval", train_mode="pretrain", embedding_projector=True),
            dict(mode="train"),
        ),
        (dict(train_mode="finetune", balanced_sampling=True), dict(train_mode="pretrain")),
        (dict(train_mode="finetune", balanced_sampling=True), dict(class_weights="balanced")),
        (
            dict(train_mode="distill", teacher="a", balanced_sampling=True, distill_alpha=0.5),
            dict(distill_alpha=1),
        ),
        (dict(train_mode="supervised", eval_epochs=1, patience=3), dict(eval_epochs=0)),
        (dict(train_mode="supervised", eval_epochs=1, patience=3), dict(train_mode="pretrain")),
        (
            dict(
                train_mode="distill", teacher="a", eval_epochs=1, validation_split="b", patience=3
            ),
            dict(validation_split=None),
        ),
        (dict(train_mode="distill", teacher="there"), dict(teacher=None)),
        (dict(train_mode="finetune"), dict(teacher="there")),
        (dict(train_mode="finetune", checkpoint="there"), dict(train_mode="supervised")),
        (dict(train_mode="finetune", fine_tune_after_block=2), dict(train_mode="supervised")),
    ],
)
def test_combinations(good, bad):
    Config(**good)
    with pytest.raises(ConfigError, match="Received:") as caught:
        Config(**{**good, **bad})
    assert len(caught.value.errors) == 1


@pytest.mark.parametrize("value", ["0", "1.5", "0.1,0", "0.1,0.1", "", "a", "nan", "0.1,"])
def test_label_fractions_are_shares_and_each_once(value):
    given = f"--label_fraction={value}"
    if value == "":  # unset
        assert parse("--train_mode=semi_supervised", given).label_fraction is None
        return
    (error,) = errors_of("--train_mode=semi_supervised", given)
    assert error.startswith("`label_fraction` must be ") and "of at most 1" in error
    assert f"Received: label_fraction={value}" in error


def test_label_fractions_have_folders_of_their_own():
    """Their names have six digits."""
    good = "--label_fraction=0.123456,0.123457"
    assert len(parse("--dataset=x", "--train_mode=semi_supervised", good).label_fraction) == 2
    (error,) = errors_of(
        "--dataset=x", "--train_mode=semi_supervised", "--label_fraction=0.1234561,0.1234562"
    )
    assert error.startswith(
        "`label_fraction` must have values that differ in their first six digits"
    )


def test_label_fraction_is_one_number_or_several():
    assert parse("--train_mode=finetune", "--label_fraction=0.01").label_fraction == (0.01,)
    several = parse("--train_mode=semi_supervised", "--label_fraction=0.01,.1,1")
    assert several.label_fraction == (0.01, 0.1, 1.0)
    assert Config(train_mode="finetune", label_fraction=0.5).label_fraction == (0.5,)
    assert Config.from_json(several.to_json()) == several


def test_every_option_is_an_absl_flag():
    flag_values = flags.FlagValues()
    config_lib.define_flags(flag_values)
    assert set(flag_values) == {f.name for f in dataclasses.fields(Config)} - {"stage_options"}
    flag_values(["run", "--dataset=cifar10", "--nouse_blur", "--temperature=0.5"])
    expected = parse("--dataset=cifar10", "--nouse_blur", "--temperature=0.5")
    assert Config.from_flags(flag_values) == expected
    flag_values.temperature = float("nan")
    flag_values(["run", "--seed=x"])
    with pytest.raises(ConfigError) as caught:
        Config.from_flags(flag_values)
    assert len(caught.value.errors) == 2
