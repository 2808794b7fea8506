"""The lines about a stage while it trains; `history.csv` has all metrics."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING

from simclrv2_tf.console.time_left import duration

if TYPE_CHECKING:
    from simclrv2_tf.stages.base import Stage

# The first of these that a stage has, then the first accuracy, or two if it is validated.
_LOSSES = {
    "contrast_loss": "contrastive loss",
    "distill_loss": "loss",
    "loss": "loss",
}
_ACCURACIES = {
    "val_top_1_accuracy": "val top-1",
    "knn_top_1_accuracy": "kNN top-1",
    "top_1_accuracy": "top-1",
    "teacher_agreement": "agreement",
    "probe_accuracy": "online classifier",
    "contrast_accuracy": "contrastive top-1",
}


def broken(line: str) -> str:
    """Breaks a line between words if standard output is a narrower terminal.

    Indents the following lines by two more spaces. Does not break lines in a file or a pipe.
    """
    if not sys.stdout.isatty():
        return line
    width = shutil.get_terminal_size().columns
    own = line[: len(line) - len(line.lstrip(" "))]
    return textwrap.fill(
        line,
        width,
        subsequent_indent=f"{own}  ",
        break_long_words=False,  # paths
        break_on_hyphens=False,
    )


def metrics_in_words(logs: Mapping[str, float]) -> str:
    """Returns a loss and one or two accuracies, such as "loss 0.412, top-1 86.3%", or ""."""
    losses = [f"{text} {logs[name]:.3f}" for name, text in _LOSSES.items() if name in logs][:1]
    shares = [
        f"{text} {100 * logs[name]:.1f}%" for name, text in _ACCURACIES.items() if name in logs
    ]
    validated = any(name in logs for name in list(_ACCURACIES)[:2])
    return ", ".join([*losses, *shares[: 2 if validated else 1]])


def progress_in_words(
    stage: Stage, step: int, total_steps: int, seconds: float, logs: Mapping[str, float]
) -> str:
    """Returns a line on the training: its step, seconds in this session, and metrics."""
    took = duration(seconds)
    if step < total_steps:
        return f"  step {step:,} of {total_steps:,} in {took}: {metrics_in_words(logs)}"
    waited = stage.waits.share if stage.waits else None
    waiting = "" if waited is None else f", {waited:.0%} waiting for data"
    return f"  {step:,} steps in {took}{waiting}: {metrics_in_words(logs)}"
