"""`python -m simclrv2_tf`: the program `simclrv2-tf`."""

import sys

from simclrv2_tf.cli import main

if __name__ == "__main__":
    sys.exit(main())
