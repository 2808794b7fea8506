"""Checks that need no TensorFlow, before its import, which takes seconds."""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING

from simclrv2_tf.datasets import sources
from simclrv2_tf.experiments import plan, record
from simclrv2_tf.experiments.directory import RunDirectory

if TYPE_CHECKING:
    from simclrv2_tf.config import Config

# Options with a value that leaves the choice to the run. The run records its choice.
_CHOICES = {"precision": "auto", "antialias": None}


def check(config: Config) -> None:
    """Checks the options of each stage, the folder of the run and the folders of images.

    Paths with a scheme, such as `gs://...`, are checked later, because TensorFlow reads them.

    Raises:
        ConfigError: the options of a stage do not fit together.
        RunError: `model_dir` holds another run.
        DatasetError: a folder of images is missing, or misspelt.
    """
    plan.plan_stages(config)
    if "://" not in config.model_dir:
        RunDirectory(as_begun(config)).check()
    for name in filter(None, (config.dataset, config.unlabelled_dataset)):
        sources.check_folder(name, config.data_dir)


def report_finished(config: Config) -> bool:
    """Prints the results of this run if it has finished before; else returns False."""
    summary = summary_of_finished(config)
    if summary is None:
        return False
    print(f"{RunDirectory(config)}: Finished before; nothing to do.\n{summary}")
    return True


def summary_of_finished(config: Config) -> str | None:
    """Returns the last output of this run; None if it has not finished or TensorFlow is needed."""
    if config.mode != "train_then_eval" or config.dry_run or "://" in config.model_dir:
        return None
    config = as_begun(config)
    directory = RunDirectory(config)
    if not directory.record.path.exists() or "TF_CONFIG" in os.environ:
        return None
    identity = record.identity(config)
    return directory.record.summary_of_finished(identity) if identity else None


def as_begun(config: Config) -> Config:
    """Returns `config` with the resumed run's choices for options that `config` leaves open.

    Raises:
        RunError: as for `RunDirectory.earlier`.
    """
    open_choices = [name for name, left in _CHOICES.items() if getattr(config, name) == left]
    # A run of several stages records its own options when its first stage has ended.
    for own in (config, plan.plan_stages(config)[0].config) if open_choices else ():
        if (earlier := RunDirectory(own).earlier()) is not None:
            chosen = {name: getattr(earlier, name) for name in open_choices}
            return dataclasses.replace(config, **chosen)
    return config
