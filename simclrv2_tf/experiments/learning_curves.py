"""The learning curves of stages: which columns of `history.csv` to draw, and their names.

A panel shows one quantity, on held-out images (see `eval_epochs`) alongside training images.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from etils import epy

from simclrv2_tf.experiments import validation

with epy.lazy_imports():
    from simclrv2_tf import report
    from simclrv2_tf.training import history

if TYPE_CHECKING:
    from etils import epath

Curve = tuple[list[float], list[float]]

_DONE = "training done (%)"
_PRETRAINING, _NETWORK = "pretraining", "network"
_AGREEMENT = "agreement with the teacher (%)"


def of_stage(path: epath.Path) -> list[report.Panel]:
    """Returns the panels of one stage, against its epochs.

    Args:
        path: Its `history.csv`.
    """
    rows = history.read_history(path)
    if "contrast_loss" in (rows[0] if rows else ()):
        return _pretraining(rows)
    loss, held_out_loss = (
        {_NETWORK: _epochs(rows, column)} for column in ("loss", validation.LOSS)
    )
    agreement, accuracy, held_out = (
        {_NETWORK: _epochs(rows, column, 100)}
        for column in ("teacher_agreement", "top_1_accuracy", validation.ACCURACY)
    )
    if agreement[_NETWORK][0]:
        # A student trains on its teacher's answers, but is validated on labels.
        held_out_loss = {}
    return [
        *_together("", "loss", loss, held_out_loss),
        *_together("", _accuracy_label(held_out), accuracy, held_out),
        *_together("", _AGREEMENT, agreement, {}),
    ]


def of_stages(
    pretraining: epath.Path, few_label: Mapping[str, Mapping[str, epath.Path]]
) -> list[report.Panel]:
    """Returns the panels of a run of several stages.

    Stages of different length share a panel, so the x axis is the share of the training done.

    Args:
        pretraining: The `history.csv` of pretraining.
        few_label: Maps the share of the labels in words to {method: its `history.csv`}, with
            methods of `report.METHODS`.
    """
    panels = _pretraining(history.read_history(pretraining))
    for share, paths in few_label.items():
        rows = {method: history.read_history(path) for method, path in paths.items()}
        accuracy, held_out, agreement = (
            {method: _done(own, column) for method, own in rows.items()}
            for column in ("top_1_accuracy", validation.ACCURACY, "teacher_agreement")
        )
        title = f"{share} of the labels"
        panels += _together(title, _accuracy_label(held_out), accuracy, held_out, _DONE)
        panels += _together(title, _AGREEMENT, agreement, {}, _DONE)
    return panels


def _pretraining(rows: list[dict[str, str]]) -> list[report.Panel]:
    loss = {_PRETRAINING: _epochs(rows, "contrast_loss")}
    probe = {"online classifier": _epochs(rows, "probe_accuracy", 100)}
    neighbours = {"nearest neighbours": _epochs(rows, validation.NEIGHBOURS, 100)}
    return [
        *_together(_PRETRAINING, "contrastive loss", loss, {}),
        *_together(_PRETRAINING, _accuracy_label(neighbours), probe, neighbours),
    ]


def _accuracy_label(held_out: Mapping[str, Curve]) -> str:
    measured = any(values for _, values in held_out.values())
    return "top-1 accuracy (%)" if measured else "training accuracy (%)"


def _together(
    title: str,
    y_label: str,
    curves: Mapping[str, Curve],
    held_out: Mapping[str, Curve],
    x_label: str | None = None,
) -> list[report.Panel]:
    """Returns a panel of the curves with points, or None."""
    curves, held_out = (
        {name: points for name, points in found.items() if points[0]}
        for found in (curves, held_out)
    )
    if not curves and not held_out:
        return []
    return [report.Panel(title, y_label, curves, x_label or report.EPOCH, held_out)]


def _epochs(rows: list[dict[str, str]], column: str, scale: float = 1.0) -> Curve:
    """Returns the epochs that have the column, and its values."""
    found = [(float(row["epoch"]), scale * float(row[column])) for row in rows if row.get(column)]
    return [epoch for epoch, _ in found], [value for _, value in found]


def _done(rows: list[dict[str, str]], column: str) -> Curve:
    """Returns the share of the training done, and the values of a share, both in percent."""
    epochs, values = _epochs(rows, column, 100)
    return [100 * epoch / float(rows[-1]["epoch"]) for epoch in epochs], values
