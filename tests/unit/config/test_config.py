"""`Config`: flags, recipes, validation; and that what is packaged and run in CI is what is told."""

import dataclasses
import json
import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from absl import flags

from helpers.paths import ROOT
from helpers.reference_commands import REFERENCE_COMMANDS
from simclrv2_tf import config as config_lib
from simclrv2_tf.config import Config, ConfigError

RECIPES = sorted(
    path.relative_to(ROOT / "flags").as_posix()
    for path in (ROOT / "flags").rglob("*")
    if path.is_file()
)


def parse(*args: str) -> Config:
    return Config.from_argv(["run", *args])


def errors_of(*args: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(*args)
    assert str(caught.value).splitlines() == list(caught.value.errors)
    return list(caught.value.errors)


def run_python(code: str, cwd, **env) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=cwd,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# Defaults and types


def test_defaults_are_the_references():
    """Names and values read off the reference's flag definitions, and the four that differ."""
    reference = dict(
        learning_rate=0.3, learning_rate_scaling="linear", warmup_epochs=10, batch_norm_decay=0.9,
        train_batch_size=512, train_split="train", train_epochs=100, train_steps=0, eval_steps=0,
        eval_batch_size=256, checkpoint_epochs=1, checkpoint_steps=0, cache_dataset=False,
        mode="train", train_mode="pretrain", lineareval_while_pretraining=True, checkpoint=None,
        zero_init_logits_layer=False, fine_tune_after_block=-1, master=None, data_dir=None,
        tpu_name=None, tpu_zone=None, gcp_project=None, optimizer="lars", momentum=0.9,
        eval_name=None, keep_checkpoint_max=5, keep_hub_module_max=1, temperature=0.1,
        hidden_norm=True, proj_head_mode="nonlinear", proj_out_dim=128, num_proj_layers=3,
        ft_proj_selector=0, global_bn=True, width_multiplier=1, resnet_depth=50, sk_ratio=0.0,
        se_ratio=0.0, image_size=224, color_jitter_strength=1.0, use_blur=True,
        variable_schema=None, train_summary_steps=100,
    )  # fmt: skip
    ours = dict(use_tpu=False, eval_split=None, weight_decay=1e-4)
    config = parse("--dataset=imagenet2012")
    values = dataclasses.asdict(config)
    assert {name: values[name] for name in reference} == reference
    assert {name: values[name] for name in ours} == ours
    assert config.model_dir == "runs/imagenet2012-pretrain"
    assert config == Config(dataset="imagenet2012")


def test_a_config_built_in_python_is_complete():
    config = Config()
    assert config.dataset == config_lib.PACKAGED_DATASET
    assert config.model_dir == f"runs/{config_lib.PACKAGED_DATASET}-pretrain"
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


def test_json_round_trip():
    config = parse("--flagfile=cifar10/linear", "--seed=7")
    assert Config.from_json(config.to_json()) == config
    assert list(json.loads(config.to_json())) == [f.name for f in dataclasses.fields(Config)]


def test_json_problems_are_reported_together():
    with pytest.raises(ConfigError) as caught:
        Config.from_json('{"temprature": 1, "temperature": NaN, "seed": "1"}')
    assert len(caught.value.errors) == 3
    assert "Did you mean `temperature`?" in caught.value.errors[0]
    for text in ("[]", "{", ""):
        with pytest.raises(ConfigError, match="`text` must be"):
            Config.from_json(text)


# Recipes


def test_the_recipes_are_all_found():
    assert {"demo/default", "cifar10/pretrain", "cifar10/linear", "imagenet/pretrain"} <= set(
        RECIPES
    )
    assert config_lib.recipe_names() == RECIPES


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipe_parses_and_documents_itself(recipe, tmp_path, monkeypatch):
    expected = parse(f"--flagfile={ROOT / 'flags' / recipe}")
    monkeypatch.chdir(tmp_path)
    for name in (recipe, f"flags/{recipe}", f"./flags/{recipe}"):
        assert parse(f"--flagfile={name}") == parse("--flagfile", name) == expected
    assert expected.model_dir == "runs/" + recipe.removesuffix("/default").replace("/", "-")
    text = (ROOT / "flags" / recipe).read_text()
    comments = text[: text.index("\n--")]
    assert "Command: python -m simclrv2_tf.run" in comments
    assert "Source:" in comments and "Published accuracy:" in comments
    # Each line is a flag or a comment, and counts: none is repeated.
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    names = [line.partition("=")[0] for line in lines]
    assert len(set(names)) == len(names) and all(name.startswith("--") for name in names)


def test_a_folder_of_recipes_stands_for_its_default(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("demo", "flags/demo", "demo/default", str(ROOT / "flags" / "demo")):
        assert parse(f"--flagfile={name}") == parse()
    [error] = errors_of("--flagfile=cifar10")  # has none
    assert "cifar10/pretrain" in error


@pytest.mark.parametrize("stage", ["pretrain", "linear"])
def test_cifar10_recipes_are_the_references_commands(stage):
    command = shlex.split(REFERENCE_COMMANDS[f"cifar10_{stage}"])
    own = ["--model_dir=x", "--checkpoint=y", "--variable_schema="]
    assert parse(*command, *own) == parse(f"--flagfile=cifar10/{stage}", *own)


def test_imagenet_recipe_is_the_references_command():
    command = shlex.split(REFERENCE_COMMANDS["imagenet_pretrain"])
    own = ["--model_dir=x", "--data_dir=", "--nouse_tpu", "--tpu_name=", "--train_summary_steps=1"]
    assert parse(*command, *own) == parse("--flagfile=imagenet/pretrain", *own)


@pytest.mark.parametrize("command", REFERENCE_COMMANDS.values(), ids=REFERENCE_COMMANDS)
def test_reference_commands_set_what_they_say(command):
    args = shlex.split(command)
    config = parse(*args)
    for arg in args:
        name, _, text = arg.removeprefix("--").partition("=")
        value = getattr(config, name)
        if isinstance(value, bool):
            assert value is {"True": True, "False": False}[text]
        elif isinstance(value, str):
            assert value == text
        else:
            assert value == float(text)


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


def test_without_a_data_set_the_demo_fills_in_what_is_not_given():
    demo = parse("--flagfile=demo")
    assert demo.dataset == config_lib.PACKAGED_DATASET
    assert parse() == demo
    assert demo.model_dir == "runs/demo"
    changed = parse("--train_epochs=1", "--temperature=0.7")
    assert changed == dataclasses.replace(demo, train_epochs=1, temperature=0.7)
    # With a data set the demo's values stay out.
    assert parse("--dataset=cifar10") == Config(dataset="cifar10")


def test_a_changed_train_mode_gets_its_own_folder():
    args = ["--train_mode=linear_eval", "--checkpoint=runs/demo/pretrain"]
    assert parse(*args).model_dir == "runs/demo-linear_eval"
    assert parse("--flagfile=demo", *args).model_dir == "runs/demo-linear_eval"
    assert parse("--train_mode=semi_supervised").model_dir == "runs/demo"


def test_own_flagfiles(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # A file here comes before the packaged recipe of that name.
    pathlib.Path("demo").write_text("# mine\n\n  # too\n--dataset=mine\n")
    assert parse("--flagfile=demo").dataset == "mine"
    assert parse("--seed=1").dataset == config_lib.PACKAGED_DATASET
    pathlib.Path("nested.txt").write_text("--flagfile=cifar10/pretrain\n--train_epochs=2\n")
    nested = parse("--flagfile=nested.txt")
    assert (nested.dataset, nested.train_epochs) == ("cifar10", 2)
    assert nested.model_dir == "runs/nested.txt"
    both = parse("--flagfile=cifar10/pretrain", "--flagfile=nested.txt")
    assert both.model_dir == "runs/cifar10-pretrain-nested.txt"


def test_flagfile_problems_are_reported_with_the_others(tmp_path):
    circle, binary = tmp_path / "circle", tmp_path / "binary"
    circle.write_text(f"--flagfile={circle}\n--temperature=0\nseed=3\n")
    binary.write_bytes(b"\xff\xfe")
    errors = errors_of(
        "--flagfile=cifar10/pretrian", f"--flagfile={circle}", f"--flagfile={binary}", "--flagfile"
    )
    assert len(errors) == 6
    for missing in (errors[0], errors[3]):
        assert all(recipe in missing for recipe in RECIPES)
    assert "cifar10/pretrian" in errors[0]
    assert "must not include itself" in errors[1]
    assert "must be readable text" in errors[2]
    assert errors[4] == "Flags are written --name=value. Received: seed=3"
    assert errors[5].startswith("`temperature` must be")


def test_model_dir_of_any_data_set_is_one_safe_folder():
    config = parse("--dataset=folder:../my birds//ü", "--train_mode=finetune")
    assert config.model_dir == "runs/folder-..-my-birds-ü-finetune"


# Bad values


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
        "`fine_tune_after_block` must be -1 but in finetune and linear_eval: elsewhere all of the "
        "network trains. "
        "Received: fine_tune_after_block=2, train_mode='pretrain'",
        "`ft_proj_selector` must not exceed the number of projection head layers. "
        "Received: ft_proj_selector=4, proj_head_mode='nonlinear', num_proj_layers=3",
        "Flags are written --name=value. Received: stray",
        "Missing value for flag --seed. Received: --seed",
    ):
        assert line in errors, text
    assert len(errors) == 16, text


FLOATS = [f.name for f in dataclasses.fields(Config) if f.type is float]
INTEGERS = [f.name for f in dataclasses.fields(Config) if f.type is int]


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
        ("width_multiplier", [1 / 32, 0.25, 1, 3], [0, 1 / 33]),
        ("image_size", [8, 224], [7, 32.0, 2**31]),
        ("train_batch_size", [1], [0, -1, 2.5, True]),
        ("train_epochs", [1], [0, 1.5]),
        ("warmup_epochs", [0, 0.5, 1000], [-1]),
        ("seed", [0, 2**31 - 1], [-1, 2**31, 10**400, False]),
        ("keep_checkpoint_max", [1], [0]),
        ("keep_hub_module_max", [0, 1], [-1]),
        ("use_blur", [True, False], [0, 1, "true", None]),
        ("mode", ["eval"], ["", "Train", 1, None, ["train"]]),
        ("train_split", ["train[:80%]"], ["", " ", None, 3]),
        ("checkpoint", [None, "a"], ["", b"a", 1]),
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
        (dict(objective="vicreg"), dict(train_batch_size=1)),
        (dict(micro_batch_size=256, num_replicas=2), dict(num_replicas=4)),
        (dict(num_replicas=2, strategy="mirrored"), dict(strategy="default")),
        (dict(num_replicas=4), dict(train_batch_size=510)),
        (dict(num_replicas=4, labelled_batch_size=8), dict(labelled_batch_size=6)),
        (dict(train_mode="finetune", label_fraction=0.1), dict(labels_per_class=10)),
        (dict(train_mode="finetune", label_fraction=0.1), dict(label_fraction=(0.01, 0.1))),
        (dict(train_mode="supervised", label_fraction=0.1), dict(train_mode="pretrain")),
        (dict(train_mode="linear_eval", labels_per_class=1), dict(train_mode="pretrain")),
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


def test_label_fraction_is_one_number_or_several():
    assert parse("--train_mode=finetune", "--label_fraction=0.01").label_fraction == (0.01,)
    several = parse("--train_mode=semi_supervised", "--label_fraction=0.01,.1,1")
    assert several.label_fraction == (0.01, 0.1, 1.0)
    assert Config(train_mode="finetune", label_fraction=0.5).label_fraction == (0.5,)
    assert Config.from_json(several.to_json()) == several


# Options of one stage


def test_stage_options_are_read_from_recipes_and_flags(tmp_path):
    recipe = tmp_path / "recipe"
    recipe.write_text(
        "--dataset=x\n--train_mode=semi_supervised\n--fine_tuned.learning_rate=0.5\n"
        "--fine_tuned.optimizer=adam\n--supervised@0.10.train_epochs=7\n"
    )
    config = parse(
        f"--flagfile={recipe}",
        "--fine_tuned.learning_rate=0.25",
        "--fine_tuned.nouse_blur",
        "--small_student.width_multiplier",
        "0.5",
        "--supervised@0.1.global_bn=false",
    )
    assert config.stage_options == {
        "fine_tuned": {"learning_rate": 0.25, "optimizer": "adam", "use_blur": False},
        "supervised@0.1": {"train_epochs": 7, "global_bn": False},
        "small_student": {"width_multiplier": 0.5},
    }
    assert Config.from_json(config.to_json()) == config


def test_stage_options_given_win_over_those_of_the_demo():
    demo = parse().stage_options
    stage = "small_student"
    changed = parse(f"--{stage}.width_multiplier=0.5").stage_options
    assert changed == {**demo, stage: {**demo[stage], "width_multiplier": 0.5}}


@pytest.mark.parametrize(
    ("flag", "says"),
    [
        ("--fine_tune.learning_rate=1", "Did you mean `fine_tuned`?"),
        ("--fine_tuned@2.learning_rate=1", "fine_tuned@2"),
        ("--fine_tuned@x.learning_rate=1", "fine_tuned@x"),
        ("--fine_tuned.learning_rat=1", "Did you mean `learning_rate`?"),
        ("--fine_tuned.learning_rate=fast", "fine_tuned: `learning_rate` must be"),
        ("--fine_tuned.dataset=y", "`dataset` must be the same in all stages"),
        ("--fine_tuned.model_dir=y", "`model_dir` must be the same in all stages"),
    ],
)
def test_bad_stage_options_are_one_line(flag, says):
    (error,) = errors_of("--dataset=x", "--train_mode=semi_supervised", flag)
    assert says in error and ("Received:" in error)


def test_a_warmup_longer_than_the_run_is_valid():
    assert parse("--dataset=x", "--train_epochs=1", "--warmup_epochs=10").warmup_epochs == 10


# absl


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
    assert "--temperature" in run_python(code, tmp_path, PYTHONPATH=str(ROOT))


# Packaging


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> pathlib.Path:
    """The wheel, built from a copy: a build leaves files beside the sources."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("simclrv2_tf", "flags"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--no-build-isolation", "-w", out, source], check=True)
    (path,) = out.glob("simclrv2_tf-*.whl")
    return path


def test_the_wheel_holds_recipes_and_data(wheel):
    held = set(zipfile.ZipFile(wheel).namelist())
    assert {f"simclrv2_tf/flags/{recipe}" for recipe in RECIPES} <= held
    files = (p for p in (ROOT / "simclrv2_tf").rglob("*") if p.is_file())
    files = {p.relative_to(ROOT).as_posix() for p in files if p.suffix != ".pyc"}
    assert files <= held
    assert any(name.endswith("LICENSE") for name in held)
    # Nothing lands beside the package, where it could meet another project's files.
    assert {name.split("/")[0].removesuffix(".dist-info")[:11] for name in held} == {"simclrv2_tf"}


def test_recipes_are_found_after_a_wheel_install(wheel, tmp_path):
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", site, wheel], check=True)
    code = """
from simclrv2_tf import config
from simclrv2_tf.config import Config
print(config.__file__)
for recipe in config.recipe_names():
    print(recipe)
    args = [f"--flagfile={prefix}{recipe}" for prefix in ("", "flags/")]
    assert len({Config.from_argv(["run", arg]) for arg in args}) == 1
print(Config.from_argv(["run"]).to_json())
"""
    file, *rest = run_python(code, elsewhere, PYTHONPATH=str(site)).splitlines()
    assert pathlib.Path(file).is_relative_to(site)
    assert rest[: len(RECIPES)] == RECIPES
    assert Config.from_json("\n".join(rest[len(RECIPES) :])) == parse()


def test_ci_runs_the_readmes_test_command():
    (command,) = (
        line
        for line in (ROOT / ".ci" / "run").read_text().splitlines()
        if line.startswith("python3 ")
    )
    assert "pytest" in command
    assert command in (ROOT / "README.md").read_text().splitlines()


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]], ids=["lint", "format"])
def test_ruff(command):
    ruff = [sys.executable, "-m", "ruff", *command, "--no-cache", str(ROOT)]
    done = subprocess.run(ruff, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
