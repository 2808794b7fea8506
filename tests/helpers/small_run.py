"""A program: `python -m simclrv2_tf.run` with networks of two blocks.

`python -m helpers.small_run [--no_exports] FLAGS`, as `small.run`.
"""

import sys

from helpers import small

if __name__ == "__main__":
    flags = sys.argv[1:]
    exports = flags[:1] != ["--no_exports"]
    sys.exit(small.run(flags if exports else flags[1:], exports))
