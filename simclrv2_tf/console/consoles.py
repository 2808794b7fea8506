"""Chooses how to show a run: bars, lines, Keras's own output, or nothing."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras


class Console:
    """Shows nothing. A context manager, which removes its bars on exit.

    Attributes:
        verbose: `verbose` of Keras's own progress: 0 none, 1 a bar, 2 a line per epoch.
    """

    verbose = 0

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None

    def begin(self, place: int) -> None:
        """Begins the stage at `place`."""

    def end(self) -> None:
        """Ends the stage."""

    def training(self, total_steps: int) -> list[keras.callbacks.Callback]:
        """Callbacks that show the training of the stage, up to `total_steps`."""
        return []

    def evaluation(self) -> list[keras.callbacks.Callback]:
        """Callbacks that show an evaluation."""
        return []


class KerasConsole(Console):
    """Shows Keras's own progress, with all metrics."""

    def __init__(self, verbose: int):
        self.verbose = verbose


def make_console(works: Sequence[float], shown: bool, verbose: bool) -> Console:
    """Makes the console of a run.

    Args:
        works: The work of each stage, see `TimeLeft`.
        shown: Whether this process shows anything.
        verbose: Whether to show all metrics of every epoch, one line per epoch.
    """
    import keras

    from simclrv2_tf.console.lines import LineConsole
    from simclrv2_tf.console.terminal import TerminalConsole, is_drawable

    if not shown:
        return Console()
    if verbose:
        return KerasConsole(2)
    if not keras.utils.is_interactive_logging_enabled():
        return LineConsole()
    if _in_notebook():
        return KerasConsole(1)
    # A bar redraws its line, which would make a file or a pipe unreadable.
    return TerminalConsole(works) if is_drawable() else LineConsole()


def _in_notebook() -> bool:
    return "ipykernel" in sys.modules
