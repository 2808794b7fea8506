"""`simclrv2-tf sweep [RECIPE] [--grid.FLAG=V1,V2 ...]`: a run for each cell of a grid."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from simclrv2_tf.cli.arguments import split
from simclrv2_tf.cli.help import PROGRAM
from simclrv2_tf.config import flag_options
from simclrv2_tf.config.recipes import read_recipe
from simclrv2_tf.errors import exit_status
from simclrv2_tf.options import ConfigError
from simclrv2_tf.sweep import command
from simclrv2_tf.sweep.definition import FAMILIES, OWN, Definition, make


def main(args: Sequence[str]) -> int:
    """Runs one command line; returns the exit status: 0, 1 for failed cells, 2 for bad input.

    Does not import TensorFlow: only the cells' processes do.
    """

    def run():
        command.run(definition(args), shlex.join([PROGRAM, "sweep", *args]))

    return exit_status(run)


def definition(args: Sequence[str]) -> Definition:
    """Returns the sweep that a command line describes, after reading RECIPE; flags win over it.

    Raises:
        ConfigError: RECIPE is missing, there are several, or flags cannot be read.
    """
    recipes, values, flags = _split(args)
    if len(recipes) > 1:
        raise ConfigError(
            [f"sweep takes one RECIPE, and flags as --name=value. Received: {', '.join(recipes)}"]
        )
    name = ""
    if recipes:
        errors: list[str] = []
        lines, name = read_recipe(recipes[0], errors)
        arguments, own, common = _split(lines)
        errors += [f"Flags are written --name=value. Received: {text}" for text in arguments]
        if errors:
            raise ConfigError(errors)
        values, flags = {**own, **values}, [*common, *flags]
    return make(values, flags, name)


def _split(args: Sequence[str]) -> tuple[list[str], dict[str, str], list[str]]:
    return split(args, OWN, flag_options(), FAMILIES)
