"""Checks before TensorFlow is imported, which takes seconds: answers that need nothing else."""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING

from simclrv2_tf.datasets import sources
from simclrv2_tf.experiments import plan, record
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
        RunDirectory(_with_precision(config)).check()
    for name in filter(None, (config.dataset, config.unlabelled_dataset)):
        sources.check_folder(name)


def report_finished(config: Config) -> bool:
    """Prints what this very run has left, where it has finished before; else returns False."""
    if config.mode != "train_then_eval" or config.dry_run or "://" in config.model_dir:
        return False
    config = _with_precision(config)
    directory = RunDirectory(config)
    if not directory.record.path.exists() or "TF_CONFIG" in os.environ:
        return False
    identity = record.identity(config)
    summary = directory.record.summary_of_finished(identity) if identity else None
    if summary is None:
        return False
    print(f"{directory}: Finished before; nothing to do.\n{summary}")
    return True


def _with_precision(config: Config) -> Config:
    """`config` with the precision of the run that it resumes, in place of `auto`."""
    found = earlier_precision(config) if config.precision == "auto" else None
    return dataclasses.replace(config, precision=found or config.precision)


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
