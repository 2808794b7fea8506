"""The snippets of the README and the documentation: Python is run, command lines are parsed."""

import ast
import functools
import json
import re
import shlex
import shutil

import numpy as np
import pytest
import tensorflow as tf

import simclrv2_tf.resnet
from helpers.paths import ROOT
from simclrv2_tf import cli, datasets, evaluate, hugging_face, predict, publish
from simclrv2_tf.cli import arguments, training
from simclrv2_tf.cli import sweep as sweeps
from simclrv2_tf.cli.commands import COMMANDS, TRAININGS
from simclrv2_tf.config import Config
from simclrv2_tf.official import __main__ as official
from simclrv2_tf.suggest import command as suggest

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def snippets(language):
    """Each block of code by its page and its number there."""
    found = {}
    for page in PAGES:
        blocks = re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.M | re.S)
        for number, block in enumerate(blocks, 1):
            found[f"{page.name}-{number}"] = block
    return found


PYTHON, BASH = snippets("python"), snippets("bash")
# Run elsewhere: on Keras's JAX backend, and with torchvision, in processes of their own.
ELSEWHERE = {"jax.md-1": "test_jax.py", "tf_hub.md-3": "test_torchvision.py"}


def test_snippets_that_run_elsewhere_are_these():
    assert "KERAS_BACKEND" in PYTHON["jax.md-1"]
    assert "torchvision" in PYTHON["tf_hub.md-3"]
    for name in ELSEWHERE.values():
        assert (ROOT / "tests/processes" / name).exists()


@pytest.fixture
def demo(shared_runs, tmp_path, monkeypatch):
    """The current folder, with a pretraining where the snippets have the demo's; its step."""
    monkeypatch.chdir(tmp_path)
    run = shared_runs("pretrain")
    shutil.copytree(run, tmp_path / "runs/demo/pretrain")
    (module,) = (run / "hub").iterdir()
    return module.name


@pytest.mark.parametrize("name", sorted({*PYTHON} - {*ELSEWHERE}))
def test_python_snippets_run(name, demo, images, monkeypatch):
    """With what they take as given: images, a file, a loss, batches of views."""
    source = re.sub(r"hub/(STEP|\d+)", f"hub/{demo}", PYTHON[name])
    path = str(next((images / "test").rglob("*.png")))
    split = datasets.open_dataset(f"folder:{images}").split("train")
    pixels = tf.random.stateless_uniform((2, 16, 16, 3), (1, 2))
    given = {"tf": tf, "datasets": datasets, "images": pixels, "path": path, "split": split}
    if "tensorflow_hub" not in source and "module" in source:
        given["module"] = tf.saved_model.load(f"runs/demo/pretrain/hub/{demo}")
    given |= {"num_classes": 3, "photos": tf.zeros((2, 96, 96, 3))}
    given["masks"] = tf.zeros((2, 96, 96), tf.int32)
    given["labels"] = tf.constant([0, 1])
    given["my_loss"] = lambda outputs, labels: tf.reduce_mean(outputs)
    views = datasets.pretraining_batches(split, batch_size=8, image_size=32, seed=0)
    given["dataset_of_views_and_labels"] = views.take(1)
    if "block_group4" in source:  # which the shared runs are too short for
        simclrv2_tf.resnet.resnet(10, 0.0625).save("runs/demo/pretrain/encoder.keras")
    # A network of two blocks instead of a ResNet-50.
    short = functools.partial(simclrv2_tf.resnet.resnet, blocks=(1, 1))
    monkeypatch.setattr(simclrv2_tf.resnet, "resnet", short)
    servers = []
    if "grpc://HOST:PORT" in source:
        service = tf.data.experimental.service
        servers.append(service.DispatchServer())
        address = servers[0].target.partition("://")[2]
        servers.append(service.WorkerServer(service.WorkerConfig(dispatcher_address=address)))
        source = source.replace("grpc://HOST:PORT", servers[0].target).replace("256", "8")
    exec(compile(ast.parse(source), name, "exec"), given)  # noqa: S102
    if servers:
        (one, two), _ = next(iter(given["batches"]))
        assert one.shape == two.shape == (8, 96, 96, 3)
    if "gradients" in given:
        assert any(float(tf.reduce_sum(tf.abs(g))) > 0 for g in given["gradients"])
    for output in ("representation", "found", "model", "encoder"):
        assert given.get(output, True) is not None
    if "stage" in given:
        assert np.isfinite(given["stage"].history.history["loss"]).all()


def command_lines(block):
    """The commands of a block of a shell, without comments; lines that end in \\ are joined."""
    for line in block.replace("\\\n", " ").splitlines():
        for part in line.split("&&"):
            words = shlex.split(part, comments=True)
            words = words[1:] if words[:1] == ["srun"] else words
            if words:
                yield words


@pytest.fixture
def folders(images, tmp_path, monkeypatch, shared_runs):
    """The current folder, with the folders of images and of runs that command lines name."""
    monkeypatch.chdir(tmp_path)
    for name in ("photos", "labelled", "new_photos", "other_photos", "held_out"):
        (tmp_path / name).symlink_to(images)
    for name in ("photos-pretrain", "labelled-finetune"):
        shutil.copytree(shared_runs("supervised"), tmp_path / "runs" / name)
    # As `simclrv2-tf pretrain photos` makes it, whose preset has this network.
    options = tmp_path / "runs/photos-pretrain/config.json"
    held = json.loads(options.read_text()) | {"resnet_depth": 18, "width_multiplier": 1.0}
    options.write_text(json.dumps(held))
    local = hugging_face.local
    monkeypatch.setattr(
        hugging_face,
        "local",
        lambda path: "runs/labelled-finetune" if path.startswith("hf://") else local(path),
    )


@pytest.mark.parametrize("name", BASH)
def test_command_lines_are_understood(name, folders, capsys):
    """By their own parsers: flags and values exist, and together are a configuration."""
    for words in command_lines(BASH[name]):
        program = " ".join(words[:3]).replace(".venv/bin/", "").replace("python3", "python")
        if program.startswith("python -m simclrv2_tf.run"):
            Config.from_argv(["run", *words[3:]])
        elif program.startswith("python -m simclrv2_tf."):
            module = {"predict": predict, "evaluate": evaluate, "official": official}
            module[words[2].rpartition(".")[2]]._parser().parse_args(words[3:])
        elif words[0] == "simclrv2-tf":
            understood(words[1], words[2:])
        elif words[0] == "pip" or "pip" in program:
            extras = re.findall(r"\[([\w,]+)\]", " ".join(words))
            declared = re.findall(r'^        "(\w+)": ', (ROOT / "setup.py").read_text(), re.M)
            assert {*",".join(extras).split(",")} - {""} <= {*declared}
        else:
            known = ("export TF_CONFIG", "hf auth login", "python -m pytest", "python -m venv")
            assert program.startswith(known), program


def understood(command, args):
    """Parses a short command line as the program does."""
    if command in TRAININGS:
        flags, _ = training.command(command, args)
        assert Config.from_argv(["run", *flags]).train_mode == TRAININGS[command].train_mode
    elif command == "sweep" and "..." not in args:
        assert sweeps.definition([arg for arg in args if "sweep:" not in arg]).seeds
    elif command in ("predict", "suggest", "evaluate"):
        names = ("model", "dataset" if command == "evaluate" else "images")
        module = {"predict": predict, "suggest": suggest, "evaluate": evaluate}[command]
        module._parser().parse_args(arguments.named(args, names))
    elif command == "publish":
        publish._parser().parse_args(args)
    else:
        assert command in COMMANDS


def test_help_of_every_command_has_an_example_that_is_understood(folders, capsys):
    for name, command in COMMANDS.items():
        if name in TRAININGS:
            understood(*shlex.split(command.example)[:1], shlex.split(command.example)[1:])
    assert cli.main(["--help"]) == 0
