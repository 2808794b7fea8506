"""Whose a run's folder is."""

import dataclasses

import pytest

from simclrv2_tf.config import Config
from simclrv2_tf.experiments.directory import RunDirectory, RunError


def test_a_folder_takes_another_number_of_replicas(tmp_path):
    """And another batch size it does not, lest all were taken."""
    config = Config(train_mode="pretrain", num_replicas=2, model_dir=str(tmp_path))
    RunDirectory(config).claim()
    one = dataclasses.replace(config, num_replicas=1, strategy="default")
    RunDirectory(one).claim()
    other = dataclasses.replace(one, train_batch_size=config.train_batch_size * 2)
    with pytest.raises(RunError, match="train_batch_size"):
        RunDirectory(other).claim()


def test_the_other_network_of_a_run_of_several_stages_is_refused_by_name(tmp_path):
    """Its later stages were trained on the one that was chosen then."""
    config = Config(train_mode="pretrain_linear_eval", memory_size=64, model_dir=str(tmp_path))
    RunDirectory(config).claim()
    other = dataclasses.replace(config, mode="eval", eval_ema=True, eval_name="ema")
    with pytest.raises(RunError, match="eval_ema=False there, True here"):
        RunDirectory(other).check()
    stage = {"train_mode": "pretrain", "model_dir": str(tmp_path / "pretrain")}
    RunDirectory(dataclasses.replace(config, **stage)).claim()
    RunDirectory(dataclasses.replace(other, **stage)).check()
