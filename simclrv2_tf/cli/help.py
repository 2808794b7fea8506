"""The texts of `simclrv2-tf --help` and of its commands."""

from __future__ import annotations

from simclrv2_tf.cli.commands import COMMANDS, TRAININGS
from simclrv2_tf.config.other_names import OTHER_NAMES
from simclrv2_tf.config.preset_names import DEFAULT, SUMMARIES

PROGRAM = "simclrv2-tf"
_EXAMPLES = ("pretrain", "finetune", "predict")


def of_program() -> str:
    """The commands, with their summaries and three examples."""
    width = max(map(len, COMMANDS)) + 2
    return "\n".join(
        [
            "SimCLRv2 in Keras 3 and TensorFlow: pretrain, fine-tune, distill.",
            "",
            f"Usage: {PROGRAM} COMMAND [arguments] [--flag=value ...]",
            "",
            "Commands:",
            *(f"  {name:<{width}}{command.summary}" for name, command in COMMANDS.items()),
            "",
            "Examples:",
            *(f"  {PROGRAM} {COMMANDS[name].example}" for name in _EXAMPLES),
            "",
            f"{PROGRAM} COMMAND --help explains a command, {PROGRAM} --version prints the version.",
            "python -m simclrv2_tf.run --help lists every flag of training.",
        ]
    )


def of_command(name: str) -> str:
    """The usage of a command, its arguments and its own flags."""
    command = COMMANDS[name]
    lines = [command.summary, "", f"Usage: {PROGRAM} {name} {command.usage}"]
    if command.details:
        lines += ["", *command.details]
    if name in TRAININGS:
        lines += _of_training(name)
    lines += ["", "Example:", f"  {PROGRAM} {command.example}"]
    return "\n".join(lines)


def _of_training(name: str) -> list[str]:
    width = max(map(len, SUMMARIES)) + 2
    others: dict[str, list[str]] = {}
    for other, flag in OTHER_NAMES.items():
        others.setdefault(flag, []).append(f"--{other}")
    return [
        "",
        "--output=DIR: folder of the run (default: runs/NAME-" + name + "). Rerun the same command",
        "to resume.",
        "--dry_run: check everything, take a few steps, print memory and time, write nothing.",
        "",
        f"--preset: settings chosen by the number and the size of the images (default: {DEFAULT}).",
        *(f"  {preset:<{width}}{summary}" for preset, summary in SUMMARIES.items()),
        "",
        "You can give every flag of training as --name=value; flags win over the preset;",
        f"{PROGRAM} {name} --helpfull lists them. Other names for some:",
        *(f"  {', '.join(names)}: --{flag}" for flag, names in others.items()),
        "--lr is scaled with the batch size, see --learning_rate_scaling.",
    ]
