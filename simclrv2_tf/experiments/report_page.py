"""`report.html` of a run: written after each stage, and by `simclrv2-tf report`."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

from absl import logging
from etils import epath, epy

from simclrv2_tf import files
from simclrv2_tf.experiments import run_files

with epy.lazy_imports():
    from simclrv2_tf.report import page

FILE = "report.html"


def write(runs: Sequence[str], output: str | None = None) -> epath.Path:
    """Writes one page that shows runs; returns its path.

    Args:
        runs: Folders of the runs; several are compared.
        output: The file, or a folder to write `report.html` into; by default the only run's folder.

    Raises:
        RunFilesError, OptionsError: a folder holds no run, or its run cannot be read.
        ValueError: several runs have no `output`.
    """
    if output is None and len(runs) != 1:
        raise ValueError(f"`output` must be given for several runs. Received: {len(runs)} runs")
    path = epath.Path(runs[0] if output is None else output)
    if output is None or path.is_dir():
        path = path / FILE
    now = datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    text = page.html([run_files.read(run) for run in runs], now)
    files.write_text(path, text)
    return path


def write_or_log(run: str) -> epath.Path | None:
    """Writes the report during a run; logs errors and never raises.

    A failed report must not end a run.

    Returns:
        The path of the report; None if it could not be written.
    """
    try:
        return write([run])
    except Exception as error:
        logging.warning(
            "The report of %s could not be written (%s: %s). The run continues; `simclrv2-tf "
            "report %s` writes it later.",
            run,
            type(error).__name__,
            str(error).splitlines()[0] if str(error) else "no message",
            run,
        )
        return None
