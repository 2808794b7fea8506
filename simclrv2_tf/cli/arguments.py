"""Reads the arguments of a command: its own, and flags that are passed on."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from simclrv2_tf.config.other_names import OTHER_NAMES
from simclrv2_tf.options import Option


def named(args: Sequence[str], names: Sequence[str]) -> list[str]:
    """Returns `args` with the arguments before the first flag turned into flags called `names`.

    Further arguments stay unchanged; the program reports them.
    """
    count = next((i for i, arg in enumerate(args) if arg.startswith("-")), len(args))
    count = min(count, len(names))
    flags = [f"--{name}={value}" for name, value in zip(names, args[:count], strict=False)]
    return [*flags, *args[count:]]


def split(
    args: Sequence[str],
    own: Collection[str],
    known: Mapping[str, Option],
    families: Collection[str] = (),
) -> tuple[list[str], dict[str, str], list[str]]:
    """Separates the arguments of a command that trains.

    Args:
        args: Arguments, and flags as `--name=value`, `--name value`, `--name` or `--noname`.
        own: The command's own flags, which take a value.
        known: The flags of training.
        families: The command's own flags that are written `--FAMILY.name=value`.

    Returns:
        The arguments; the values of the command's own flags, "" if a value is missing; the other
        flags, each as one string with its name in `known`.
    """
    arguments: list[str] = []
    values: dict[str, str] = {}
    flags: list[str] = []
    rest = iter(args)
    for arg in rest:
        if not arg.startswith("-"):
            arguments.append(arg)
            continue
        name, equals, value = arg.lstrip("-").partition("=")
        name = OTHER_NAMES.get(name, name)
        option = known.get(name.rpartition(".")[2])
        is_own = name in own or name.partition(".")[0] in families
        takes_value = is_own or name == "flagfile" or (option and option.kind is not bool)
        if takes_value and not equals:
            following = next(rest, None)
            equals, value = ("", "") if following is None else ("=", following)
        if is_own:
            values[name] = value
        else:
            flags.append(f"--{name}{equals}{value}")
    return arguments, values, flags
