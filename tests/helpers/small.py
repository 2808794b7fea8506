"""Makes runs that tests look at smaller."""

import pathlib


def lessen(patch):
    """Makes runs leave an empty SavedModel and an empty picture of views.

    Both take a third of a small run's time.
    """
    from simclrv2_tf import stage_runs
    from simclrv2_tf.export import artifacts

    def export(path, *networks, **options):
        pathlib.Path(path).mkdir(parents=True)
        pathlib.Path(path, "saved_model.pb").touch()

    patch.setattr(artifacts, "export", export)
    patch.setattr(
        stage_runs.Pretraining, "_draw_views", lambda run: (run.directory / "views.png").touch()
    )


def shorten(patch):
    """Makes ResNet-10 and -50 of two blocks, where more say no more: tracing takes the time."""
    from simclrv2_tf import resnet

    patch.setattr(resnet, "BLOCKS", {**resnet.BLOCKS, 10: (1, 1, 0, 0), 50: (1, 1, 0, 0)})
    endpoints = ("stem", "block_group1", "block_group2", "representation")
    patch.setattr(resnet, "ENDPOINTS", endpoints)
