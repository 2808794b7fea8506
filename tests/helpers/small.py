"""Runs of networks of two blocks: more blocks test nothing more, and take long to trace.

Everything that makes a run small is here: tests of whole runs use `run` or the program
`helpers.small_run`, which calls it.
"""

import functools

from simclrv2_tf import resnet as resnets
from simclrv2_tf import run as command
from simclrv2_tf.experiments.stage import Seams

_SHORT = (10, 50)


def resnet(depth=50, **options):
    """`resnet.resnet`, of two blocks for the depths that small runs have."""
    blocks = (1, 1) if depth in _SHORT else None
    return resnets.resnet(depth, blocks=blocks, **options)


def run(flags, exports=True):
    """Runs a command line in this process; returns its exit status.

    Args:
        flags: The options, without the program's name.
        exports: Whether to write SavedModels and pictures of views. Both take a third of a small
            run's time.
    """
    return command.main(["run", *flags], Seams(resnet=resnet, exports=exports))


def everywhere(exports=True):
    """Makes all runs of this process small, for programs that start them by themselves."""
    seams = Seams(resnet=resnet, exports=exports)
    command.main = functools.partial(command.main, seams=seams)
