"""The HTML of the page."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jinja2

import simclrv2_tf
from simclrv2_tf.report.page import blocks, comparison, pictures, sections
from simclrv2_tf.report.page.runs import Run

_SPRITE_BYTES = 500_000  # for the thumbnails of all runs


@dataclasses.dataclass(frozen=True)
class _Part:
    """One run on the page."""

    run: Run
    name: str
    prefix: str
    sections: Sequence[blocks.Section]
    sprite: pictures.Sprite | None


def html(runs: Sequence[Run], written: str) -> str:
    """Returns the page, a self-contained file that makes no request.

    Args:
        runs: One or more runs; several are compared first.
        written: The time of writing, as text.

    Raises:
        ValueError: there are no runs.
    """
    if not runs:
        raise ValueError(f"`runs` must hold at least one run. Received: runs={runs!r}")
    parts = []
    for place, (run, name) in enumerate(zip(runs, comparison.names(runs), strict=True), start=1):
        prefix = f"run{place}-" if len(runs) > 1 else ""
        sprite = None
        if run.samples is not None and len(run.samples.ids):
            sprite = pictures.sprite(run.samples.thumbnails, _SPRITE_BYTES // len(runs))
        parts.append(_Part(run, name, prefix, sections.of_run(run, prefix), sprite))
    compared = []
    if len(runs) > 1:
        paths = ", ".join(run.path for run in runs)
        compared = sections.answered_or_said(
            "Side by side", paths, lambda: comparison.compared(runs)
        )
    return rendered("page.html", parts=parts, compared=compared, written=written)


def rendered(template: str, **values: Any) -> str:
    """Returns the HTML of one of the `templates/` with its values."""
    return (
        _environment()
        .get_template(template)
        .render(
            **values,
            version=simclrv2_tf.__version__,
            is_number=lambda value: isinstance(value, blocks.Number),
        )
    )


@functools.cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader(__package__),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
