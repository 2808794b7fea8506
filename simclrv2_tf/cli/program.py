"""The program: finds the command, and prints help and the version."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Sequence

import simclrv2_tf
from simclrv2_tf.cli import help as texts
from simclrv2_tf.cli.commands import COMMANDS

_HELP = {"--help", "-h", "-help", "help"}
_FULL_HELP = "--helpfull"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command line; returns the exit status: 0, 1 for a failed run, 2 for bad input.

    Without a command, prints the help and returns 2, so that a script that lost its arguments does
    not appear to succeed.

    Args:
        argv: The arguments; by default the process's own.
    """
    name, *args = list(sys.argv[1:] if argv is None else argv) or [""]
    if name in _HELP and args and args[0] in COMMANDS:
        name, args = args[0], ["--help"]
    if not name or name in _HELP:
        print(texts.of_program())
        return 0 if name else 2
    if name == "--version":
        print(f"{texts.PROGRAM} {simclrv2_tf.__version__}")
        return 0
    if name not in COMMANDS:
        return _unknown(name)
    asked = args[: args.index("--")] if "--" in args else args
    if _HELP - {"help"} & {*asked}:
        return _help(name)
    if _FULL_HELP in asked:
        from simclrv2_tf.config import Config

        Config.from_argv([texts.PROGRAM, _FULL_HELP])
    return COMMANDS[name].run(args)


def _help(name: str) -> int:
    print(texts.of_command(name))
    if COMMANDS[name].shows_flags:
        print(flush=True)
        return COMMANDS[name].run(["--help"])
    return 0


def _unknown(name: str) -> int:
    close = difflib.get_close_matches(name, COMMANDS, n=1)
    hint = f" Did you mean `{close[0]}`?" if close else ""
    print(
        f"Error: The command must be one of {', '.join(COMMANDS)}.{hint} Received: {name}",
        file=sys.stderr,
    )
    return 2
