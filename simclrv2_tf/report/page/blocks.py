"""What a section of the page is made of. The template draws each block by its kind."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, ClassVar

from markupsafe import Markup

from simclrv2_tf.console.time_left import duration
from simclrv2_tf.metrics.classification import Interval


@dataclasses.dataclass(frozen=True)
class Number:
    """A number of a table or of the verdict: its text, and its exact value for programs."""

    text: str
    value: float

    def __str__(self) -> str:
        return self.text


def share(value: float | None) -> Number | None:
    """A share in [0, 1] in percent, such as "81.4%"; None where it is not finite."""
    return (
        None if value is None or not math.isfinite(value) else Number(f"{100 * value:.1f}%", value)
    )


def count(value: float | None) -> Number | None:
    """A count, or a number of seconds, without decimals: "10,000"."""
    return None if value is None else Number(f"{value:,.0f}", value)


def between(interval: Interval | None) -> str | None:
    """The bounds of an interval in percent, such as "79.6 to 83.0%"."""
    if interval is None:
        return None
    return f"{100 * interval.low:.1f} to {100 * interval.high:.1f}%"


def time(seconds: float) -> Number:
    """Seconds in words: "50 s", "4 min 10 s", "2 h 5 min"."""
    return Number(duration(seconds), seconds)


class Block:
    """A part of a section; the macro of the template called by its `kind` draws it."""

    kind: ClassVar[str]


@dataclasses.dataclass(frozen=True)
class Text(Block):
    """A paragraph."""

    kind = "text"
    text: str


@dataclasses.dataclass(frozen=True)
class Fact:
    """A number that a reader looks for first, with its name, unit and a remark."""

    name: str
    value: Any
    note: str = ""
    unit: str = ""


@dataclasses.dataclass(frozen=True)
class Facts(Block):
    """Numbers in large type, side by side."""

    kind = "facts"
    facts: Sequence[Fact]


@dataclasses.dataclass(frozen=True)
class Table(Block):
    """A table.

    Attributes:
        caption: What it shows, "" where `folded` says so.
        header: Names of the columns.
        rows: Cells: str, `Number`, or None for a dash.
        marked: Index of the row that is emphasized.
        folded: A title; the table is shown once that is opened.
    """

    kind = "table"
    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[Any]]
    marked: int | None = None
    folded: str = ""

    @property
    def numeric(self) -> list[bool]:
        """Whether each column holds numbers alone, which are aligned to the right."""
        return [
            any(cells) and all(cell is None or isinstance(cell, Number) for cell in cells)
            for cells in zip(*self.rows, strict=True)
        ] or [False] * len(self.header)


@dataclasses.dataclass(frozen=True)
class Figure:
    """A figure.

    Attributes:
        svg: The SVG element.
        alt: What it shows, for readers who do not see it.
        title, caption: Above and below it.
        least: The width in rem below which its text cannot be read; 0: it fits a phone.
    """

    svg: Markup
    alt: str
    title: str = ""
    caption: str = ""
    least: int = 0


@dataclasses.dataclass(frozen=True)
class Figures(Block):
    """Figures side by side as far as they fit; alone where `wide`."""

    kind = "figures"
    figures: Sequence[Figure]
    wide: bool = False


@dataclasses.dataclass(frozen=True)
class Picture(Block):
    """A picture of pixels as a data URI."""

    kind = "picture"
    source: str
    alt: str
    caption: str = ""


@dataclasses.dataclass(frozen=True)
class Thumbnail:
    """A thumbnail of the run's sprite.

    Attributes:
        index: Its place among the samples.
        alt: What it shows.
        lines: Text below it.
        wrong: Whether it is marked as of another class.
    """

    index: int
    alt: str
    lines: Sequence[str] = ()
    wrong: bool = False


@dataclasses.dataclass(frozen=True)
class Thumbnails(Block):
    """Thumbnails with text below them; the second line stands out where they are `judged`."""

    kind = "thumbnails"
    title: str
    caption: str
    items: Sequence[Thumbnail]
    judged: bool = False


@dataclasses.dataclass(frozen=True)
class Neighbours(Block):
    """Rows of a thumbnail and those that are nearest to it."""

    kind = "neighbours"
    title: str
    caption: str
    rows: Sequence[tuple[Thumbnail, Sequence[Thumbnail]]]


@dataclasses.dataclass(frozen=True)
class Point:
    """A point of a map: its place among the samples, its place on the map, and what it is."""

    index: int
    x: float
    y: float
    text: str


@dataclasses.dataclass(frozen=True)
class Group:
    """The points of one class, in one color."""

    name: str
    color: str
    points: Sequence[Point]


@dataclasses.dataclass(frozen=True)
class Map(Block):
    """Points in the plane, one for each sample: x in [0, 100], y in [0, `height`]."""

    kind = "map"
    alt: str
    caption: str
    groups: Sequence[Group]
    height: float


@dataclasses.dataclass(frozen=True)
class Code(Block):
    """Text to copy."""

    kind = "code"
    title: str
    text: str
    folded: bool = False


@dataclasses.dataclass(frozen=True)
class Section:
    """A question and what answers it."""

    name: str
    question: str
    blocks: Sequence[Block]
