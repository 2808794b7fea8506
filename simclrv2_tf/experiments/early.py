"""Checks before TensorFlow is imported, which takes seconds: answers that need nothing else."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from simclrv2_tf.datasets import sources
from simclrv2_tf.experiments import plan
from simclrv2_tf.experiments.directory import RunDirectory

if TYPE_CHECKING:
    from simclrv2_tf.config import Config


def check(config: Config) -> None:
    """Checks the options of each stage, the folder of the run and the folders of images.

    Paths with a scheme, such as `gs://...`, are left for later: TensorFlow reads them.

    Raises:
        ConfigError: the options of a stage do not fit together.
        RunError: `model_dir` holds another run.
        DatasetError: a folder of images is missing.
    """
    plan.plan_stages(config)
    if "://" not in config.model_dir:
        precision = earlier_precision(config) if config.precision == "auto" else None
        RunDirectory(dataclasses.replace(config, precision=precision or config.precision)).check()
    for name in filter(None, (config.dataset, config.unlabelled_dataset)):
        sources.check_folder(name)


def earlier_precision(config: Config) -> str | None:
    """The precision of the run that `config` resumes; None where it resumes none.

    Raises:
        RunError: as `RunDirectory.earlier`.
    """
    # A run of several stages has options of its own once its first stage has ended.
    for own in (config, plan.plan_stages(config)[0].config):
        earlier = RunDirectory(own).earlier()
        if earlier is not None:
            return earlier.precision
    return None
