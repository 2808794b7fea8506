"""The commands that train: each builds a command line of `simclrv2_tf.run` and runs it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from simclrv2_tf import environment, errors, hugging_face, run, run_options
from simclrv2_tf.cli.arguments import split
from simclrv2_tf.cli.commands import COMMANDS, TRAININGS, Training
from simclrv2_tf.cli.help import PROGRAM
from simclrv2_tf.config import command_line, flag_options, presets, starting
from simclrv2_tf.config.config import run_folder
from simclrv2_tf.config.preset_names import DEFAULT
from simclrv2_tf.config.recipes import expand_flagfiles
from simclrv2_tf.datasets import sources, survey
from simclrv2_tf.experiments import plan
from simclrv2_tf.options import ConfigError, Option

# How a run's images are found and divided, apart from `dataset`.
_DATA = ("data_dir", "train_split", "eval_split", "split_seed", "value_range")


def main(name: str, args: Sequence[str]) -> int:
    """Runs a command; returns the exit status: 0, 1 for a failed run, 2 for bad input.

    Args:
        name: One of `TRAININGS`.
        args: Its arguments.
    """
    try:
        flags, notes = command(name, args)
    except (errors.UserError, OSError) as error:
        return errors.report(error)
    return run.main([f"{PROGRAM} {name}", *flags], notes=notes, typed=_typed(name, args))


def _typed(name: str, args: Sequence[str]) -> list[str]:
    """Returns the command as typed, with the run to start from, which may change, as a flag."""
    training = TRAININGS[name]
    if training.argument != "checkpoint":
        return [PROGRAM, name, *args]
    arguments, values, flags = split(args, _own_flags(training), flag_options())
    own = [f"--{flag}={value}" for flag, value in values.items()]
    return [PROGRAM, name, *(f"--checkpoint={run}" for run in arguments), *own, *flags]


def _own_flags(training: Training) -> set[str]:
    return {"preset", *filter(None, [training.flag])}


def command(name: str, args: Sequence[str]) -> tuple[list[str], list[str]]:
    """Returns the flags of `simclrv2_tf.run` for a command, and lines that say what was chosen.

    Args:
        name: One of `TRAININGS`.
        args: Its arguments.

    Raises:
        ConfigError: an argument is missing, superfluous, or does not exist.
    """
    training, known = TRAININGS[name], flag_options()
    arguments, values, flags = split(args, _own_flags(training), known)
    expanded, _, recipes = expand_flagfiles(flags, [])
    given, _ = command_line.read(expanded, known, [])
    notes: list[str] = []
    mode = given.get("train_mode", training.train_mode)
    if mode != training.train_mode:
        # A recipe of several stages has the settings of each.
        if mode not in plan.RUNS or "train_mode" in _outside_recipes(flags, known):
            raise ConfigError(
                [f"`train_mode` must be left out: {name} sets it. Received: train_mode={mode}"]
            )
        notes.append(f"Stage: only {training.train_mode}, of the recipe's {mode}.")
    # The command's own flags follow a recipe's, which may name other data.
    said = {"train_mode": training.train_mode}
    said |= _argument(name, training, arguments, _outside_recipes(flags, known), notes)
    if training.flag in values:
        said[training.option] = _dataset(
            values[training.flag], f"--{training.flag}", notes, given.get("data_dir")
        )
    given |= said
    picked: dict[str, Any] = {"mode": "train_then_eval"}
    if training.argument != "dataset":
        picked |= _data_of_the_run(name, given, training.argument, notes)
    wanted = {**picked, **given}
    if training.argument == "teacher":
        picked |= _student(wanted, notes)
    # A recipe already has settings.
    if "preset" in values or not recipes:
        picked |= _settings(values.get("preset"), training, {**picked, **given}, notes)
    if not given.get("model_dir"):
        dataset = {**picked, **given}["dataset"]
        picked["model_dir"] = run_folder(f"{_short(dataset)}-{name}")
    output = f"Output: {given.get('model_dir') or picked['model_dir']}"
    return [*_flags(picked), *flags, *_flags(said)], [output, *notes]


def _outside_recipes(flags: Sequence[str], known: Mapping[str, Option]) -> dict[str, Any]:
    typed = [flag for flag in flags if not flag.startswith("--flagfile")]
    return command_line.read(typed, known, [])[0]


def _flags(values: Mapping[str, Any]) -> list[str]:
    return [
        f"--{name}={','.join(map(str, value)) if isinstance(value, tuple | list) else value}"
        for name, value in values.items()
    ]


def _argument(
    name: str,
    training: Training,
    arguments: Sequence[str],
    given: Mapping[str, Any],
    notes: list[str],
) -> dict[str, str]:
    """Returns the option that receives the command's only argument."""
    option = training.argument
    received = [*arguments, *([f"--{option}={given[option]}"] if option in given else [])]
    if len(received) != 1:
        what = "FOLDER" if option == "dataset" else "RUN"
        usage = f"{PROGRAM} {name} {COMMANDS[name].usage}"
        raise ConfigError(
            [
                f"{name} takes one {what}: {usage}. "
                f"Received: {', '.join(received) if received else 'none'}"
            ]
        )
    if not arguments:
        return {}
    if option == "dataset":
        return {option: _dataset(arguments[0], "FOLDER", notes, given.get("data_dir"))}
    return {option: _run(arguments[0], option)}


def _dataset(text: str, what: str, notes: list[str], data_dir: str | None) -> str:
    """Returns the data set for a folder or for a data set's name."""
    if os.path.isdir(os.path.expanduser(text)):
        notes.append(f"Images: the folder {text}.")
        return sources.resolve(f"folder:{text}")[0]
    if os.path.isfile(os.path.expanduser(text)):
        rule = f"`{what}` must be a folder of images; unpack an archive first."
        raise ConfigError([f"{rule} Received: {text}, a file"])
    # The only separator in a name is in `name/config`.
    if not text or (text.count("/") > 1 and ":" not in text):
        raise ConfigError([f"`{what}` must be an existing folder. Received: {text or 'nothing'}"])
    name, _ = sources.resolve(text)
    if not name.startswith("folder:"):
        sources.check_folder(name, data_dir)
        notes.append(f"Images: the data set {text}; there is no such folder.")
    return name


def _run(text: str, option: str) -> str:
    """Returns the folder of a run, or other weights."""
    path = hugging_face.local(text)
    if option == "teacher" and (problem := run_options.whole_run(path, "teacher")):
        raise ConfigError([problem])
    if os.path.isdir(path) and not os.listdir(path):
        raise ConfigError([f"`RUN` must be the folder of a run. Received: {text}, an empty folder"])
    return path


def _data_of_the_run(
    name: str, wanted: Mapping[str, Any], option: str, notes: list[str]
) -> dict[str, Any]:
    """Returns the data set of the run at `option`, if none is given."""
    if "dataset" in wanted:
        return {}
    path = str(wanted[option])
    folder = None if "://" in path else run_options.run_folder(path)
    if folder is None and not os.path.exists(path):
        rule = "`RUN` must be the folder of a run; for other weights, give --dataset too."
        raise ConfigError([f"{rule} Received: {path}"])
    stages = folder and run_options.whole_run(path, option)
    held = run_options.read(folder / "pretrain" if stages else folder) if folder else {}
    if not held.get("dataset"):
        flag = "--dataset" if name == "distill" else "--labels"
        raise ConfigError([f"`{flag}` must be given: {path} has no config.json with a data set."])
    notes.append(f"Images: {held['dataset']}, as in {hugging_face.name_of(path) or path}.")
    taken = {option: held.get(option) for option in _DATA}
    return {
        "dataset": held["dataset"],
        **{option: value for option, value in taken.items() if value is not None},
    }


def _student(wanted: Mapping[str, Any], notes: list[str]) -> dict[str, Any]:
    """Returns the options of a student, by default its teacher's."""
    file, network = starting.network_of(str(wanted["teacher"]), "teacher")
    taken = {name: value for name, value in network.items() if name not in wanted}
    if taken:
        notes.append(f"Network as in {file}: {starting.in_words({**network, **wanted})}.")
    # Published: 0.1 for self-distillation, 1 for another student.
    same = network and all(wanted.get(name, value) == value for name, value in network.items())
    return taken if "temperature" in wanted else {**taken, "temperature": 0.1 if same else 1.0}


def _settings(
    preset: str | None, training: Training, wanted: Mapping[str, Any], notes: list[str]
) -> dict[str, Any]:
    """Returns what the preset picks; None stands for the default preset."""
    network: dict[str, Any] = {}
    if training.argument != "dataset":
        _, network = starting.network_of(str(wanted[training.argument]), training.argument)
    images = survey.survey(str(wanted.get("unlabelled_dataset") or wanted["dataset"]))
    name = DEFAULT if preset is None else preset
    picked, reasons = presets.choose(name, training.train_mode, images, network or None, wanted)
    notes += reasons
    if preset is None and environment.accelerator_nodes() is False:
        notes.append("  No GPU found: --preset=quick takes minutes, --dry_run estimates the time.")
    return picked


def _short(dataset: str) -> str:
    """Turns a data set's name into the name of a folder."""
    text = str(dataset).removeprefix("folder:").rstrip("/")
    return os.path.basename(os.path.abspath(os.path.expanduser(text))) if text else "images"
