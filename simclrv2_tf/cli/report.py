"""`simclrv2-tf report RUN [RUN ...] [--output=FILE or FOLDER]`: one page that shows runs."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

from simclrv2_tf.errors import exit_status


def main(argv: Sequence[str]) -> int:
    """Runs one command line; returns the exit status: 0, or 2 for bad input.

    Only reads files; does not import TensorFlow.
    """
    args = _parser().parse_args(argv)

    def command():
        from simclrv2_tf.experiments import report_page

        runs = list(dict.fromkeys(args.run))
        output = args.output or (report_page.FILE if len(runs) > 1 else None)
        print(report_page.write(runs, output), flush=True)

    return exit_status(command, os_error=2)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="simclrv2-tf report", allow_abbrev=False)
    parser.add_argument("run", nargs="+", type=os.path.expanduser, metavar="RUN")
    parser.add_argument("--output", type=os.path.expanduser, metavar="FILE")
    return parser
