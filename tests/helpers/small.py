"""Runs of networks of two blocks: more blocks show no more, and tracing them takes the time.

Everything that makes a run small is here: tests of whole runs use `run` or the program
`helpers.small_run`, which calls it.
"""

import contextlib
import pathlib

import pytest

from simclrv2_tf import run as command


def run(flags, exports=True):
    """Runs a command line in this process; returns its exit status.

    Args:
        flags: The options, without the program's name.
        exports: Whether to write SavedModels and pictures of views. Both take a third of a small
            run's time. Without them their files are empty.
    """
    with pytest.MonkeyPatch.context() as patch:
        shorten(patch)
        if not exports:
            lessen(patch)
        return command.main(["run", *flags])


@contextlib.contextmanager
def networks():
    """Inside, networks are built as in a small run."""
    with pytest.MonkeyPatch.context() as patch:
        shorten(patch)
        yield


def everywhere(exports=True):
    """Makes all runs of this process small, for programs that start them by themselves."""
    patch = pytest.MonkeyPatch()
    shorten(patch)
    if not exports:
        lessen(patch)


def lessen(patch):
    """Makes runs leave an empty SavedModel and an empty picture of views."""
    from simclrv2_tf import artifacts, stage_runs

    def export(path, *networks, **options):
        pathlib.Path(path).mkdir(parents=True)
        pathlib.Path(path, "saved_model.pb").touch()

    patch.setattr(artifacts, "export", export)
    patch.setattr(
        stage_runs.Pretraining, "_draw_views", lambda run: (run.directory / "views.png").touch()
    )


def shorten(patch):
    """Makes ResNet-10 and -50 of two blocks."""
    from simclrv2_tf import resnet

    patch.setattr(resnet, "BLOCKS", {**resnet.BLOCKS, 10: (1, 1, 0, 0), 50: (1, 1, 0, 0)})
    endpoints = ("stem", "block_group1", "block_group2", "representation")
    patch.setattr(resnet, "ENDPOINTS", endpoints)
