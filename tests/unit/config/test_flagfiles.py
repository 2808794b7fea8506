"""Flag files: recipes by name, own files, and the reference's own command lines."""

import dataclasses
import pathlib
import shlex

import pytest

from helpers.config import errors_of, parse
from helpers.paths import RECIPES, ROOT
from helpers.reference_commands import REFERENCE_COMMANDS
from simclrv2_tf import config as config_lib
from simclrv2_tf.config import Config
from simclrv2_tf.datasets import PACKAGED


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


def test_a_folder_of_recipes_means_its_default(tmp_path, monkeypatch):
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


def test_without_a_data_set_the_demo_fills_in_what_is_not_given():
    demo = parse("--flagfile=demo")
    assert demo.dataset == PACKAGED
    assert parse() == demo
    assert demo.model_dir == "runs/demo"
    changed = parse("--train_epochs=1", "--temperature=0.7")
    assert changed == dataclasses.replace(demo, train_epochs=1, temperature=0.7)
    # With a data set the demo's values stay out.
    assert parse("--dataset=cifar10") == Config(dataset="cifar10")


def test_own_flagfiles(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # A file here comes before the packaged recipe of that name.
    pathlib.Path("demo").write_text("# mine\n\n  # too\n--dataset=mine\n")
    assert parse("--flagfile=demo").dataset == "mine"
    assert parse("--seed=1").dataset == PACKAGED
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
