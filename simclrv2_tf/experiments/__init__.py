"""Runs: the stages of a run, the run of a stage in its folder, and the results.

Each stage is a subclass of `stage.StageRun`, with its train mode, its published settings, how to
build it and how to evaluate it: `pretrain`, `classification`, `distill`.
"""

from etils import epy

with epy.lazy_api_imports(globals()):
    from simclrv2_tf.experiments.directory import RunError
    from simclrv2_tf.experiments.runner import run
