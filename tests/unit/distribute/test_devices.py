"""Devices that cannot be had as asked: what is wrong, and what to do."""

import importlib.metadata

import pytest
import tensorflow as tf

from simclrv2_tf import distribute

CLUSTER = '{"cluster": {"worker": ["a:1", "b:2"]}, "task": %s}'


@pytest.mark.parametrize(
    ("tf_config", "says"),
    [
        (None, "it is not set"),
        ("{", "not JSON"),
        ("[]", "must have a `cluster`"),
        ('{"cluster": {"worker": ["a:1"]}}', "must have a `cluster`"),
        ('{"cluster": {"worker": "a:1"}, "task": {"type": "worker", "index": 0}}', "`cluster`"),
        (CLUSTER % '{"type": "worker", "index": 2}', "no worker of index 2"),
        (CLUSTER % '{"type": "chief", "index": 0}', "of type 'chief'"),
        (
            '{"cluster": {"worker": ["a:1"], "ps": ["b:2"]}, "task": {"type": "ps", "index": 0}}',
            "all tasks must be of type worker",
        ),
    ],
)
def test_a_wrong_tf_config_is_explained(tf_config, says, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if tf_config is not None:
        monkeypatch.setenv("TF_CONFIG", tf_config)
    with pytest.raises(distribute.DeviceError, match="TF_CONFIG") as error:
        distribute.make_strategy("multi_worker")
    assert says in str(error.value)


def test_workers_take_every_device(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", CLUSTER % '{"type": "worker", "index": 0}')
    with pytest.raises(distribute.DeviceError, match="`num_replicas` must be 0.*=2.* names 2"):
        distribute.make_strategy("auto", 2)


def test_a_cluster_of_one_is_no_reason_for_several_workers(monkeypatch):
    alone = '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 0}}'
    monkeypatch.setenv("TF_CONFIG", alone)
    strategy = distribute.make_strategy("auto")
    assert strategy.num_replicas_in_sync == 1 and distribute.is_chief(strategy)


def test_without_tpu_kernels_no_server_is_asked(monkeypatch):
    def ask(*args, **kwargs):
        raise AssertionError("a resolver asks a metadata server")

    monkeypatch.setattr(tf.distribute.cluster_resolver, "TPUClusterResolver", ask)
    with pytest.raises(distribute.DeviceError, match="tensorflow-tpu==.* libtpu=="):
        distribute.make_strategy("tpu")


def test_why_no_tpu_answers_is_said(monkeypatch):
    def ask(*args, **kwargs):
        raise RuntimeError("Graph execution error:\n\nNo OpKernel was registered")

    monkeypatch.setattr(importlib.metadata, "version", lambda name: "2.20.0")
    monkeypatch.setattr(tf.distribute.cluster_resolver, "TPUClusterResolver", ask)
    with pytest.raises(distribute.DeviceError, match="error: No OpKernel was registered.*Colab"):
        distribute.make_strategy("tpu")
