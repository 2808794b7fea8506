"""Command lines: turns `--flag=value` into values by option and reports all errors together.

absl stops at the first bad flag, and supports neither options of one stage nor recipes. So flags
are read here; `define_flags` defines the same flags in absl, for programs with their own flags.
"""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from absl import flags

from simclrv2_tf.config.other_names import OTHER_NAMES
from simclrv2_tf.options import Option

Values = dict[str, Any]

_HELP_FLAGS = ("help", "helpshort", "helpfull", "h", "?")
_FLAG = re.compile(
    r"--?(?:(?P<stage>\w+(?:@[^=]*?)?)\.(?=\w+(?:=|$)))?(?P<name>[^=]*)(?P<value>=.*)?", re.DOTALL
)


def asks_for_help(args: Sequence[str]) -> bool:
    """Whether one of the flags is `--help` or one of its forms."""
    before_end = args[: args.index("--")] if "--" in args else args
    return any(arg.startswith("-") and arg.lstrip("-") in _HELP_FLAGS for arg in before_end)


def read(
    args: Sequence[str], options: Mapping[str, Option], errors: list[str]
) -> tuple[Values, dict[str, Values]]:
    """Reads flags: `--flag=value`, `--flag value`, `--flag` and `--noflag` for a boolean.

    The last value of a flag wins. A value that cannot be read is returned unchanged; the option's
    own check reports it.

    Args:
        args: Arguments without the program's name and without flag files.
        options: By flag.
        errors: Unknown flags, and flags without their value, are appended here.

    Returns:
        Values by flag; and values of `--STAGE.flag`, by stage and flag.
    """
    given: Values = {}
    by_stage: dict[str, Values] = {}
    rest = iter(args)
    for arg in rest:
        if arg == "--":
            errors += [f"Flags are written --name=value. Received: {value}" for value in rest]
            break
        match = _FLAG.fullmatch(arg) if arg.startswith("-") else None
        if match is None:
            errors.append(f"Flags are written --name=value. Received: {arg}")
            continue
        stage = match["stage"]
        values = by_stage.setdefault(stage, {}) if stage else given
        try:
            values.update(_value(match["name"], match["value"], rest, options, arg))
        except ValueError as error:
            errors.append(f"{stage}: {error}" if stage else str(error))
    return given, by_stage


def _value(name, value, rest, options, arg) -> Values:
    """Returns one flag and its value, taken from `rest` if it follows after a space.

    Raises:
        ValueError: the flag is unknown or has no value; the message is complete.
    """
    negated = name.removeprefix("no")
    if name not in options and negated in options and options[negated].kind is bool:
        if value:
            raise ValueError(f"`--{name}` takes no value. Received: {arg}")
        return {negated: False}
    if name not in options:
        booleans = [f"no{flag}" for flag, option in options.items() if option.kind is bool]
        meant = OTHER_NAMES.get(name)
        known = [meant] if meant in options else [*options, *booleans, "flagfile", "help"]
        hint = suggestion(meant or name, known)
        raise ValueError(f"Unknown flag `--{name}`.{hint} Received: {arg}")
    option = options[name]
    if value:
        return {name: option.parse(value[1:])}
    if option.kind is bool:
        return {name: True}
    following = next(rest, None)
    if following is None:
        raise ValueError(f"Missing value for flag --{name}. Received: {arg}")
    return {name: option.parse(following)}


def without(args: Sequence[str], names: Iterable[str]) -> list[str]:
    """Returns `args` without the flags of these names, which take a value, and their aliases."""
    names, kept, rest = {*names}, [], iter(args)
    for arg in rest:
        name, equals, _ = arg.lstrip("-").partition("=")
        if not arg.startswith("-") or OTHER_NAMES.get(name, name) not in names:
            kept.append(arg)
        elif not equals:
            next(rest, None)
    return kept


def suggestion(name: str, known: Iterable[str]) -> str:
    """Returns a sentence that suggests the known name most similar to `name`, or ""."""
    close = difflib.get_close_matches(name, known, n=1)
    return f" Did you mean `{close[0]}`?" if close else ""


class _DeferringParser(flags.ArgumentParser):
    """Lets absl read a value with the option's own parser, which never fails."""

    def __init__(self, option: Option):
        self._option = option
        self.syntactic_help = option.rule

    def parse(self, argument: Any) -> Any:
        return self._option.parse(argument) if isinstance(argument, str) else argument

    def flag_type(self) -> str:
        return self._option.kind.__name__


def define_absl_flags(options: Mapping[str, Option], flag_values: flags.FlagValues) -> None:
    """Defines an absl flag for each option."""
    for option in options.values():
        flag = flags.Flag(
            _DeferringParser(option),
            flags.ArgumentSerializer(),
            option.name,
            option.default,
            option.help,
            boolean=option.kind is bool,
        )
        flags.DEFINE_flag(flag, flag_values, module_name=__name__)


def read_absl_flags(options: Mapping[str, Option], flag_values: flags.FlagValues) -> Values:
    """Returns the values of the absl flags that were given."""
    given = (flag_values[name] for name in options)
    return {flag.name: flag.value for flag in given if not flag.using_default_value}
