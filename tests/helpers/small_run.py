"""A program: `python -m simclrv2_tf.run` made smaller.

`python -m helpers.small_run [--less_output] FLAGS`. Networks have two blocks.
"""

import sys

import pytest

from helpers import small
from simclrv2_tf import run

if __name__ == "__main__":
    flags = sys.argv[1:]
    patch = pytest.MonkeyPatch()
    small.shorten(patch)
    if flags[:1] == ["--less_output"]:
        small.lessen(patch)
        flags = flags[1:]
    sys.exit(run.main(["run", *flags]))
