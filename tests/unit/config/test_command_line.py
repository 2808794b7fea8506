"""Command lines: forms of flags, and all bad flags at once."""

import pytest

from helpers.config import errors_of, parse
from simclrv2_tf.config import Config
from simclrv2_tf.config.other_names import OTHER_NAMES


@pytest.mark.parametrize(
    ("arg", "value"),
    [
        ("--use_blur", True),
        ("--nouse_blur", False),
        ("--use_blur=False", False),
        ("--use_blur=true", True),
        ("--use_blur=0", False),
    ],
)
def test_boolean_flags(arg, value):
    opposite = f"--use_blur={not value}"
    assert parse("--dataset=x", opposite, arg).use_blur is value


def test_empty_value_unsets_an_optional_flag():
    config = parse("--flagfile=cifar10/linear", "--checkpoint=", "--model_dir=")
    assert config.checkpoint is None
    assert config.model_dir == "runs/cifar10-linear"


def test_values_after_a_space():
    config = parse(
        *("--dataset", "cifar10", "--width_multiplier", "2", "--resnet_depth", "152"),
        *("--fine_tune_after_block", "-1", "--nouse_blur", "--cache_dataset", "--seed", "3"),
    )
    assert config == Config(
        dataset="cifar10",
        width_multiplier=2,
        resnet_depth=152,
        use_blur=False,
        cache_dataset=True,
        seed=3,
    )


def test_last_value_wins_and_flags_after_the_recipe_override_it():
    args = ["--flagfile=cifar10/pretrain", "--train_epochs=3"]
    assert parse(*args).train_epochs == 3
    assert parse(*reversed(args)).train_epochs == 1000
    assert parse(*args, "--train_epochs=4").train_epochs == 4
    assert parse(*args).model_dir == "runs/cifar10-pretrain"


def test_a_changed_train_mode_gets_its_own_folder():
    args = ["--train_mode=linear_eval", "--checkpoint=runs/demo/pretrain"]
    assert parse(*args).model_dir == "runs/demo-linear_eval"
    assert parse("--flagfile=demo", *args).model_dir == "runs/demo-linear_eval"
    assert parse("--train_mode=semi_supervised").model_dir == "runs/demo"


def test_model_dir_of_any_data_set_is_one_safe_folder():
    config = parse("--dataset=folder:../my birds//ü", "--train_mode=finetune")
    assert config.model_dir == "runs/folder-..-my-birds-ü-finetune"


def test_all_bad_flags_are_reported_together():
    errors = errors_of(
        "--dataset=folder:/no/such/folder",
        "--temperature=nan",
        "--learning_rate=inf",
        "--weight_decay=-1",
        "--train_batch_size=0",
        "--train_epochs=ten",
        "--resnet_depth=51",
        "--optimizer=sgd",
        "--use_blur=maybe",
        "--nohidden_norm=1",
        "--temprature=1",
        "--nouse_blurr",
        "--use_tpu",
        "--strategy=mirrored",
        "--fine_tune_after_block=2",
        "--ft_proj_selector=4",
        "stray",
        "--seed",
    )
    text = "\n".join(errors)
    for line in (
        "`temperature` must be a positive finite number. Received: temperature=nan",
        "`learning_rate` must be a positive finite number. Received: learning_rate=inf",
        "`weight_decay` must be a finite number of at least 0. Received: weight_decay=-1.0",
        "`train_batch_size` must be a whole number of at least 1. Received: train_batch_size=0",
        "`train_epochs` must be a whole number of at least 1. Received: train_epochs='ten'",
        "`resnet_depth` must be one of 10, 18, 34, 50, 101, 152, 200. Received: resnet_depth=51",
        "`optimizer` must be one of momentum, adam, lars. Received: optimizer='sgd'",
        "`use_blur` must be true or false. Received: use_blur='maybe'",
        "`--nohidden_norm` takes no value. Received: --nohidden_norm=1",
        "Unknown flag `--temprature`. Did you mean `temperature`? Received: --temprature=1",
        "Unknown flag `--nouse_blurr`. Did you mean `nouse_blur`? Received: --nouse_blurr",
        "`use_tpu` needs strategy='auto' or 'tpu'. Received: use_tpu=True, strategy='mirrored'",
        "`fine_tune_after_block` must be -1 except in finetune and linear_eval: elsewhere all of "
        "the network trains. "
        "Received: fine_tune_after_block=2, train_mode='pretrain'",
        "`ft_proj_selector` must not exceed the number of projection head layers. "
        "Received: ft_proj_selector=4, proj_head_mode='nonlinear', num_proj_layers=3",
        "Flags are written --name=value. Received: stray",
        "Missing value for flag --seed. Received: --seed",
    ):
        assert line in errors, text
    assert len(errors) == 16, text


def test_a_warmup_longer_than_the_run_is_valid():
    assert parse("--dataset=x", "--train_epochs=1", "--warmup_epochs=10").warmup_epochs == 10


@pytest.mark.parametrize(("typed", "flag"), OTHER_NAMES.items())
def test_names_of_other_programs_suggest_the_flag(typed, flag):
    (error,) = errors_of("--dataset=x", f"--{typed}=1")
    assert error == f"Unknown flag `--{typed}`. Did you mean `{flag}`? Received: --{typed}=1"
