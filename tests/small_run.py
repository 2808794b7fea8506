"""A program: `python -m simclrv2_tf.run` as the fixtures of `conftest` make it, smaller.

`small_run.py [--no_saved_model] FLAGS`. Networks have two blocks.
"""

import sys

import pytest

import conftest
from simclrv2_tf import artifacts, run

if __name__ == "__main__":
    flags = sys.argv[1:]
    conftest.shorten(pytest.MonkeyPatch())
    if flags[:1] == ["--no_saved_model"]:
        artifacts.export = conftest.empty_saved_model
        flags = flags[1:]
    sys.exit(run.main(["run", *flags]))
