"""Runs: which stages a run has, one run of a stage in its folder, and the results of them all.

A stage is described once, by a subclass of `stage.StageRun` with its train mode, its published
settings, what it builds and how it is evaluated: `pretrain`, `classification`, `distill`.
"""

from etils import epy

with epy.lazy_api_imports(globals()):
    from simclrv2_tf.experiments.directory import RunError
    from simclrv2_tf.experiments.runner import run
