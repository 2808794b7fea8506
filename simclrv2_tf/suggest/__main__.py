"""`python -m simclrv2_tf.suggest`."""

import sys

from simclrv2_tf.suggest.command import main

if __name__ == "__main__":
    sys.exit(main())
