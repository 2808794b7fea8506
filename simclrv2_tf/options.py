"""Options: fields of frozen dataclasses with a rule, a help text and a flag.

Each part of the package declares its options next to the code that they configure, as one group:

```python
@dataclasses.dataclass(frozen=True, kw_only=True)
class DeviceOptions(options.Group, title="Devices"):
    num_replicas: int = option(0, "Number of replicas; 0: every GPU, or one CPU.", minimum=0)
```

`config.Config` is composed of these groups: flags, `--help`, checks and `config.json` follow from
the fields. Files that declare options import TensorFlow and Keras lazily
(`etils.epy.lazy_imports`), so that `--help` and errors in flags appear immediately.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import numbers
import os
import types
import typing
from typing import Any, ClassVar

from simclrv2_tf.errors import UserErrors

_INT_MAX = 2**31 - 1
_FLOAT32_TINY, _FLOAT32_MAX = 2.0**-126, (2 - 2.0**-23) * 2.0**127


class ConfigError(UserErrors):
    """All problems of some options, one line each."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Option:
    """The rule of a value: reads, checks and describes it.

    Attributes:
        help: What the option does, for `--help`.
        name: Name of the flag; by default the name of the field.
        choices: The allowed values.
        positive: Whether the value must be greater than zero.
        minimum: The smallest allowed value.
        maximum: The largest allowed value.
        below: An exclusive upper bound.
        once: Whether all stages of a run share one value; by default as in the group.
        incidental: Whether the value does not affect the trained weights, so that a run may resume
            with another value; by default as in the group.
        unrecorded: The value if a recorded `config.json`, such as of an earlier version, lacks the
            option; None: the default.
        default: The default value.
        kind: `bool`, `int`, `float` or `str`.
        many: Whether the value is a tuple, written with commas.
        optional: Whether the value may be None.
    """

    help: str
    name: str = ""
    choices: tuple | None = None
    positive: bool = False
    minimum: float | None = None
    maximum: float | None = None
    below: float | None = None
    once: bool | None = None
    incidental: bool | None = None
    unrecorded: Any = None
    default: Any = None
    kind: type = str
    many: bool = False
    optional: bool = False

    @property
    def rule(self) -> str:
        """The rule as text that completes "`name` must be ..."."""
        if self.choices:
            return "one of " + ", ".join(map(str, self.choices))
        noun = {bool: "true or false", int: "whole number", float: "finite number", str: "text"}
        words = noun[self.kind]
        if self.kind is bool:
            return words
        if self.kind is str:
            return "non-empty " + words
        if self.many:
            words = ("positive " if self.positive else "") + f"{words}s separated by commas, each"
        else:
            words = ("a positive " if self.positive else "a ") + words
        if self.minimum is not None and self.maximum is not None:
            return f"{words} from {self.minimum} to {self.maximum}"
        bounds = [
            f"{phrase} {bound}"
            for phrase, bound in (
                ("of at least", self.minimum),
                ("of at most", self.maximum),
                ("below", self.below),
            )
            if bound is not None
        ]
        return " ".join([words, " and ".join(bounds)]).strip()

    def parse(self, text: str) -> Any:
        """Reads a flag's text; returns text that cannot be read unchanged, for `check`."""
        if self.optional and not text:
            return None
        if self.many:
            return tuple(dataclasses.replace(self, many=False).parse(t) for t in text.split(","))
        booleans = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}
        try:
            return booleans[text.lower()] if self.kind is bool else self.kind(text)
        except (ValueError, KeyError):
            return text

    def check(self, value: Any, name: str | None = None) -> Any:
        """Returns `value` with the option's type.

        Args:
            name: The name in the error; by default the flag.

        Raises:
            ValueError: the value breaks the option's rule; the message is complete.
        """
        name = name or self.name
        if value is None and self.optional:
            return None
        if self.many:
            values = tuple(value) if isinstance(value, list | tuple) else (value,)
            if not values or not all(map(self._allows, values)) or len({*values}) < len(values):
                shown = ",".join(map(str, values))
                raise ValueError(
                    f"`{name}` must be {self.rule}, without duplicates. Received: {name}={shown}"
                )
            return tuple(map(self.kind, values))
        if self.kind is str and isinstance(value, os.PathLike):
            value = os.fspath(value)
        if not self._allows(value):
            raise ValueError(f"`{name}` must be {self.rule}. Received: {name}={value!r}")
        value = self.kind(value)
        if self.kind is int and abs(value) > _INT_MAX:
            raise ValueError(f"`{name}` must be at most {_INT_MAX}. Received: {name}={value}")
        return value

    def _allows(self, value: Any) -> bool:
        # In Python a bool is an int, but `--seed=True` is a mistake.
        number = not isinstance(value, bool)
        if self.kind is bool:
            return not number
        if self.kind is str:
            if not isinstance(value, str) or not value.strip():
                return False
        elif self.kind is int:
            if not number or not isinstance(value, numbers.Integral):
                return False
        elif not number or not isinstance(value, numbers.Real):
            return False
        elif not abs(value) <= _FLOAT32_MAX:  # NaN fails too
            return False
        if self.choices and value not in self.choices:
            return False
        # Training computes in float32: a number that underflows is not positive.
        smallest = _FLOAT32_TINY if self.kind is float else 1
        return (
            (not self.positive or value >= smallest)
            and (self.minimum is None or value >= self.minimum)
            and (self.maximum is None or value <= self.maximum)
            and (self.below is None or value < self.below)
        )


def option(default: Any, help: str, *, flag: str = "", **rule: Any) -> Any:
    """Declares a field of a group of options.

    The field's annotation is `bool`, `int`, `float` or `str`, or `tuple[T, ...]` for several values
    separated by commas; each with `| None` if the option may be left out.

    Args:
        default: The default value.
        help: What the option does, for `--help`.
        flag: Name of the flag, if the field has another name.
        **rule: `choices`, `positive`, `minimum`, `maximum`, `below`, `once`, `incidental` and
            `unrecorded` of `Option`.
    """
    return _field(Option(help=help, name=flag, default=default, **rule))


def shared(group: type, name: str) -> Any:
    """Declares the option `name` of another group again: one flag, one rule, one help text."""
    return _field(of(group)[name])


def _field(declared: Option) -> Any:
    return dataclasses.field(default=declared.default, metadata={"option": declared})


@functools.cache
def of(group: type) -> dict[str, Option]:
    """Returns the options that a dataclass declares, by field name."""
    found = {}
    for field in dataclasses.fields(group):
        if "option" in field.metadata:
            # Options have built-in types; no other name of the file needs to be imported.
            hint = eval(field.type) if isinstance(field.type, str) else field.type
            optional = isinstance(hint, types.UnionType)
            kind = typing.get_args(hint)[0] if optional else hint
            many = typing.get_origin(kind) is tuple
            declared = field.metadata["option"]
            found[field.name] = dataclasses.replace(
                declared,
                name=declared.name or field.name,
                kind=typing.get_args(kind)[0] if many else kind,
                many=many,
                optional=optional,
            )
    return found


class Checked:
    """Checks the options of a new dataclass, and converts them to their types.

    Raises:
        ConfigError: names every field that breaks its rule.
    """

    def __post_init__(self):
        _, errors = checked_fields(self)
        if errors:
            raise ConfigError(errors)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Group(Checked):
    """A group of options, the flags of one part of the package.

    Args of a subclass, after its bases:
        title: The group's heading in `--help`.
        once, incidental: Defaults for the group's options.
    """

    title: ClassVar[str] = ""

    def __init_subclass__(cls, title: str = "", once: bool = False, incidental: bool = False):
        cls.title = title or cls.title
        for name, field in vars(cls).copy().items():
            if isinstance(field, dataclasses.Field) and "option" in field.metadata:
                own = field.metadata["option"]
                flags = {"once": once, "incidental": incidental}
                unset = {k: v for k, v in flags.items() if getattr(own, k) is None}
                setattr(cls, name, _field(dataclasses.replace(own, **unset)))


def checked_fields(instance: Any) -> tuple[set[str], list[str]]:
    """Converts the options of a dataclass to their types; returns wrong fields and their errors."""
    invalid, errors = set(), []
    for name, declared in of(type(instance)).items():
        try:
            object.__setattr__(instance, name, declared.check(getattr(instance, name), name))
        except ValueError as error:
            invalid.add(name)
            errors.append(str(error))
    return invalid, errors


def check_numbers(group: type, **values: Any) -> None:
    """Checks arguments of a function by the rules of the options with the same names.

    Raises:
        ValueError: a number breaks its option's rule. Tensors are not checked.
    """
    for name, value in values.items():
        if isinstance(value, numbers.Number | str | None):
            of(group)[name].check(value, name)


def check_sizes(**sizes: int) -> None:
    """Raises a ValueError that names the argument, unless all `sizes` are at least 1."""
    for name, value in sizes.items():
        if value < 1:
            raise ValueError(f"`{name}` must be at least 1. Received: {name}={value}")


def merged(name: str, title: str, groups: tuple[type, ...], **fields: tuple[str, Any]) -> type:
    """Makes a group with every flag of several dataclasses; fields have the names of the flags.

    Args:
        name: Name of the class.
        title: The group's heading.
        groups: Dataclasses with options. If two have the same flag, one declares it by `shared`.
        **fields: More fields, by name: annotation and `option(...)`; these come first.
    """
    for group in groups:
        hints = {field.name: field.type for field in dataclasses.fields(group)}
        for field, declared in of(group).items():
            hint, earlier = fields.setdefault(
                declared.name, (hints[field], _field(dataclasses.replace(declared, name="")))
            )
            if earlier.metadata["option"] != dataclasses.replace(declared, name=""):
                raise TypeError(
                    f"{group.__name__} declares the flag `{declared.name}` differently."
                )
    return dataclasses.make_dataclass(
        name,
        [(field, *member) for field, member in fields.items()],
        bases=(Group,),
        namespace={"title": title},
        frozen=True,
        kw_only=True,
    )


def values(options: Any, group: type) -> dict[str, Any]:
    """Returns the arguments of a dataclass with options, from an object with their flags."""
    return {name: getattr(options, declared.name) for name, declared in of(group).items()}


def at_least_1(text: str) -> int:
    """Reads a positive whole number, for argparse.

    Raises:
        argparse.ArgumentTypeError: the number is below 1.
        ValueError: the text is not a whole number.
    """
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1. Received: {text}")
    return number
