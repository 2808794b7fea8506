"""The blocks of a section of the page. The template draws each block by its kind."""

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
    """A number in a table or in the verdict: its text, and its exact value for programs."""

    text: str
    value: float

    def __str__(self) -> str:
        return self.text


def share(value: float | None) -> Number | None:
    """Formats a share in [0, 1] in percent, such as "81.4%"; None if it is not finite."""
    return (
        None if value is None or not math.isfinite(value) else Number(f"{100 * value:.1f}%", value)
    )


def count(value: float | None) -> Number | None:
    """Formats a count, or a number of seconds, without decimals: "10,000"."""
    return None if value is None else Number(f"{value:,.0f}", value)


def between(interval: Interval | None) -> str | None:
    """Formats the bounds of an interval in percent, such as "79.6 to 83.0%"."""
    if interval is None:
        return None
    return f"{100 * interval.low:.1f} to {100 * interval.high:.1f}%"


def time(seconds: float) -> Number:
    """Formats seconds: "50 s", "4 min 10 s", "2 h 5 min"."""
    return Number(duration(seconds), seconds)


class Block:
    """A part of a section; the template's macro with the name `kind` draws it."""

    kind: ClassVar[str]


@dataclasses.dataclass(frozen=True)
class Text(Block):
    """A paragraph."""

    kind = "text"
    text: str


@dataclasses.dataclass(frozen=True)
class Fact:
    """A headline number, with its name, unit and a remark."""

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
        caption: Description of the table; "" if `folded` describes it.
        header: Names of the columns.
        rows: Cells: str, `Number`, or None for a dash.
        marked: Index of the row that is emphasized.
        folded: A title that the reader opens to show the table.
    """

    kind = "table"
    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[Any]]
    marked: int | None = None
    folded: str = ""

    @property
    def numeric(self) -> list[bool]:
        """Whether each column only holds numbers, which are aligned to the right."""
        return [
            any(cells) and all(cell is None or isinstance(cell, Number) for cell in cells)
            for cells in zip(*self.rows, strict=True)
        ] or [False] * len(self.header)


@dataclasses.dataclass(frozen=True)
class Figure:
    """A figure.

    Attributes:
        svg: The SVG element.
        alt: Description for readers who do not see the figure.
        title, caption: Above and below it.
        least: The width in rem below which its text is too small; 0 if it fits a phone.
    """

    svg: Markup
    alt: str
    title: str = ""
    caption: str = ""
    least: int = 0


@dataclasses.dataclass(frozen=True)
class Figures(Block):
    """Figures side by side as far as they fit; one per row if `wide`."""

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
        index: Its index among the samples.
        alt: Description of the image.
        lines: Text below it.
        wrong: Whether it is marked as another class.
    """

    index: int
    alt: str
    lines: Sequence[str] = ()
    wrong: bool = False


@dataclasses.dataclass(frozen=True)
class Thumbnails(Block):
    """Thumbnails with text below them; `judged` emphasizes the second line."""

    kind = "thumbnails"
    title: str
    caption: str
    items: Sequence[Thumbnail]
    judged: bool = False


@dataclasses.dataclass(frozen=True)
class Neighbours(Block):
    """Rows of a thumbnail and its nearest neighbours."""

    kind = "neighbours"
    title: str
    caption: str
    rows: Sequence[tuple[Thumbnail, Sequence[Thumbnail]]]


@dataclasses.dataclass(frozen=True)
class Point:
    """A point of a map: its index among the samples, its position, and its description."""

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
    """A question and its answer."""

    name: str
    question: str
    blocks: Sequence[Block]
