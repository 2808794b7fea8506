"""Runs on two processes: the same weights as on one, also after a kill."""

import json

import numpy as np
import pytest

from helpers import small
from helpers.command_line import files, keras_weights
from helpers.processes import kill_after_the_first_checkpoint, start
from helpers.shared_runs import command_line
from simclrv2_tf import distribute
from simclrv2_tf.config import Config
from simclrv2_tf.distribute import devices
from simclrv2_tf.networks import build_networks  # its layers are needed to load a .keras file


def end(processes, logs, status=0):
    """Waits for processes to end with `status`; returns their logs."""
    statuses = [process.wait(timeout=600) for process in processes]
    texts = [(logs / f"worker_{index}.log").read_text() for index in range(len(processes))]
    assert statuses == [status] * len(processes), [text[-3000:] for text in texts]
    return texts


def weights(folder):
    return [w for name in ("encoder", "head", "classifier") for w in keras_weights(folder, name)]


def initial_weights(folder):
    config = Config.from_json((folder / "config.json").read_text())
    networks = build_networks(
        config, 2, image_size=config.image_size, seed=config.seed, resnet=small.resnet
    )
    return [v.numpy() for v in networks.weights]


def test_two_workers_one_killed_and_both_started_again_are_one_process(
    shared_runs, tmp_path, monkeypatch
):
    alone, together = shared_runs("pretrain"), tmp_path / "run"
    monkeypatch.chdir(shared_runs.root)
    command = [*command_line("pretrain"), f"--model_dir={together}"]  # strategy=auto: TF_CONFIG
    started = start(command, tmp_path, workers=2)
    kill_after_the_first_checkpoint(started, together, tmp_path)
    chief, other = end(start(command, tmp_path, workers=2), tmp_path)
    assert "Resuming at step" in chief and "SavedModel in" in chief
    assert "trains along" in other and "SavedModel" not in other and "/step" not in other
    moved = 0
    for a, b, first in zip(weights(together), weights(alone), initial_weights(alone), strict=True):
        change = np.linalg.norm(b - first)
        moved += change
        # Batch norm over 16 views magnifies the last digits.
        assert np.linalg.norm(a - b) <= 0.02 * change + 1e-6
    assert moved > 0.1
    tops = [{p.relative_to(root).parts[0] for p in files(root)} for root in (alone, together)]
    assert tops[0] == tops[1], "what is written does not depend on the devices"
    results = [json.loads((root / "result.json").read_text()) for root in (alone, together)]
    assert results[1] == pytest.approx(results[0], abs=1e-2)


def test_workers_that_share_no_disk_are_told(copied_run, tmp_path):
    """One finds the run finished, the other a new folder."""
    finished, new = copied_run("pretrain"), tmp_path / "new"
    before = files(finished)
    own = [[f"--model_dir={folder}"] for folder in (finished.name, new.name)]
    started = start(command_line("pretrain"), tmp_path, workers=2, own=own)
    for log in end(started, tmp_path, status=2):
        assert "`model_dir` must be on a disk that all workers share" in log and "[1, 0]" in log
    assert files(finished) == before and not new.exists()


CLUSTER = '{"cluster": {"worker": ["a:1", "b:2"]}, "task": %s}'


@pytest.mark.parametrize(
    ("tf_config", "says"),
    [
        (None, "there is none"),
        ("{", "no JSON"),
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

    monkeypatch.setattr(devices.tf.distribute.cluster_resolver, "TPUClusterResolver", ask)
    with pytest.raises(distribute.DeviceError, match="tensorflow-tpu==.* libtpu=="):
        distribute.make_strategy("tpu")


def test_why_no_tpu_answers_is_said(monkeypatch):
    def ask(*args, **kwargs):
        raise RuntimeError("Graph execution error:\n\nNo OpKernel was registered")

    monkeypatch.setattr(devices.importlib.metadata, "version", lambda name: "2.20.0")
    monkeypatch.setattr(devices.tf.distribute.cluster_resolver, "TPUClusterResolver", ask)
    with pytest.raises(distribute.DeviceError, match="error: No OpKernel was registered.*Colab"):
        distribute.make_strategy("tpu")
