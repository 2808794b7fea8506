"""A finished run that is asked to train for longer: refused, with a command that does it."""

import shlex

import pytest
from PIL import Image

from helpers.config import parse
from simclrv2_tf import cli, run
from simclrv2_tf.cli import training
from simclrv2_tf.config import Config
from simclrv2_tf.experiments.directory import LongerError, RunDirectory, RunError


@pytest.fixture(autouse=True)
def photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for label in "ab":
        for number in range(3):
            path = tmp_path / "my photos" / label / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (70, 64)).save(path)


def finish(config):
    """Leaves what a finished run leaves."""
    directory = RunDirectory(config)
    directory.claim()
    (directory.path / "encoder.keras").touch()


def refused(status, capsys):
    """The command at the end of the one line that a refusal is."""
    assert status == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "That folder was not changed. To train for longer" in error
    return shlex.split(error.rpartition("own: " if "own: " in error else ": ")[2])


SHORT = ["pretrain", "my photos", "--preset=quick", "--epochs"]


def test_a_short_command_names_the_command_of_the_other_epochs(capsys):
    flags, _ = training.command(SHORT[0], [*SHORT[1:], "100"])
    finish(Config.from_argv(["run", *flags]))
    command = refused(cli.main([*SHORT, "140"]), capsys)
    assert command == [
        *["simclrv2-tf", "pretrain", "my photos", "--preset=quick", "--train_epochs=40"],
        *["--checkpoint=runs/my-photos-pretrain", "--model_dir=runs/my-photos-pretrain-longer"],
    ]
    flags, _ = training.command(command[1], command[2:])
    longer = Config.from_argv(["run", *flags])
    RunDirectory(longer).check()
    assert longer.train_epochs == 40 and longer.warmup_epochs == 2
    assert longer.checkpoint == "runs/my-photos-pretrain"


def test_a_short_command_from_a_run_goes_on_from_its_own(capsys):
    finish(parse("--dataset=folder:my photos", "--model_dir=runs/pre", "--image_size=32"))
    tune = ["finetune", "runs/pre", "--labels=my photos", "--epochs=3", "--output=tuned"]
    flags, _ = training.command(tune[0], tune[1:])
    finish(Config.from_argv(["run", *flags]))
    command = refused(cli.main([*tune, "--epochs=5"]), capsys)
    flags = ["--labels=my photos", "--train_epochs=2", "--checkpoint=tuned"]
    assert command == ["simclrv2-tf", "finetune", *flags, "--model_dir=tuned-longer"]


RUN = ["--dataset=folder:my photos", "--train_epochs=2", "--model_dir=runs/a"]


def test_a_command_line_keeps_its_other_flags(capsys):
    finish(parse("--flagfile=cifar10/pretrain", *RUN))
    given = ["--flagfile=cifar10/pretrain", *RUN[:1], "--model_dir", "runs/a", "--train_epochs=5"]
    command = refused(run.main(["run", *given]), capsys)
    changes = ["--train_epochs=3", "--checkpoint=runs/a", "--model_dir=runs/a-longer"]
    program = ["python", "-m", "simclrv2_tf.run"]
    assert command == [*program, "--flagfile=cifar10/pretrain", RUN[0], *changes]


@pytest.mark.parametrize("mode", ["supervised", "linear_eval"])
def test_what_would_not_be_loaded_is_trained_from_the_beginning(mode, capsys):
    finish(parse(*RUN, f"--train_mode={mode}"))
    command = refused(run.main(["run", *RUN, f"--train_mode={mode}", "--train_epochs=5"]), capsys)
    assert command[-2:] == ["--train_epochs=5", "--model_dir=runs/a-longer"]
    assert not any(flag.startswith("--checkpoint") for flag in command)


def test_steps_count_as_epochs_do():
    finish(parse(*RUN, "--train_steps=30"))
    with pytest.raises(
        LongerError, match="^`train_steps` cannot .* of the other 20 steps"
    ) as caught:
        RunDirectory(parse(*RUN, "--train_steps=50")).check()
    assert caught.value.changes["train_steps"] == 20


@pytest.mark.parametrize(
    "flags", ["--train_epochs=1", "--train_epochs=3 --seed=1", "--train_steps=9"]
)
def test_other_changes_are_refused_as_ever(flags):
    finish(parse(*RUN))
    for _ in range(2):
        with pytest.raises(RunError, match="must be new or hold the same run"):
            RunDirectory(parse(*RUN, *flags.split())).check()
        flags = "--train_epochs=3"  # of a run that has not finished
        (RunDirectory(parse(*RUN)).path / "encoder.keras").unlink(missing_ok=True)
