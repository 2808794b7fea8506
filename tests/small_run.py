"""A program: `python -m simclrv2_tf.run` as the fixtures of `conftest` make it, smaller.

`small_run.py [--less_output] FLAGS`. Networks have two blocks.
"""

import sys

import pytest

import conftest
from simclrv2_tf import run

if __name__ == "__main__":
    flags = sys.argv[1:]
    patch = pytest.MonkeyPatch()
    conftest.shorten(patch)
    if flags[:1] == ["--less_output"]:
        conftest.lessen(patch)
        flags = flags[1:]
    sys.exit(run.main(["run", *flags]))
