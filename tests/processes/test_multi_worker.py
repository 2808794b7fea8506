"""Runs on two processes: the same weights as on one, also after a kill."""

import json
import os
import signal
import socket
import subprocess
import time

import keras
import numpy as np
import pytest

from helpers import small
from helpers.command_line import SMALL, SMALL_RUN, files
from simclrv2_tf import distribute, run
from simclrv2_tf.config import Config
from simclrv2_tf.networks import build_networks  # its layers are needed to load a .keras file

pytestmark = pytest.mark.usefixtures("short_networks")

PRETRAIN = [*SMALL, "--mode=train_then_eval", "--train_mode=pretrain", "--train_steps=6"]
PRETRAIN += ["--checkpoint_steps=2", "--optimizer=momentum", "--learning_rate=0.02"]


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def start(command, logs, workers=1, own=((), ())):
    """Processes of one run; each one's output is in a file of its own, as are its flags `own`."""
    cluster = {"worker": [f"127.0.0.1:{port}" for port in free_ports(workers)]}
    processes = []
    for index in range(workers):
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
        if workers > 1:
            task = {"type": "worker", "index": index}
            environment["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": task})
        with (logs / f"worker_{index}.log").open("w") as log:
            processes.append(
                subprocess.Popen(
                    [*SMALL_RUN, *command, *own[index]],
                    env=environment,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
            )
    return processes


def end(processes, logs):
    for index, process in enumerate(processes):
        status = process.wait(timeout=600)
        assert status == 0, (logs / f"worker_{index}.log").read_text()[-3000:]


def weights(folder):
    models = [
        keras.saving.load_model(folder / f"{n}.keras") for n in ("encoder", "head", "classifier")
    ]
    return [v.numpy() for model in models for v in model.weights]


@pytest.fixture(scope="module")
def command(images):
    return [*PRETRAIN, f"--dataset=folder:{images}"]


@pytest.fixture(scope="module")
def alone(command, tmp_path_factory, short_networks):
    """The run of one process with one replica, never stopped."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    with pytest.MonkeyPatch.context() as patch:
        small.lessen(patch)
        assert run.main(["run", *command, f"--model_dir={folder}"]) == 0
    return folder


def kill_after_the_first_checkpoint(processes, folder, logs):
    """Kills the last of `processes`, then the others: without it they cannot go on."""
    try:
        while not (folder / "checkpoints" / "checkpoint").exists():
            assert all(process.poll() is None for process in processes), [
                path.read_text()[-3000:] for path in logs.glob("*.log")
            ]
            time.sleep(0.01)
        processes[-1].send_signal(signal.SIGKILL)
        time.sleep(0.2)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert not (folder / "result.json").exists(), "it ended before it could be killed"


def assert_same_training(folder, alone):
    ours, theirs = weights(folder), weights(alone)
    moved = 0
    for a, b, first in zip(ours, theirs, _initial_values(alone), strict=True):
        change = np.linalg.norm(b - first)
        moved += change
        # Batch norm over 16 views magnifies the last digits.
        assert np.linalg.norm(a - b) <= 0.02 * change + 1e-6
    assert moved > 0.1
    tops = [{p.relative_to(root).parts[0] for p in files(root)} for root in (alone, folder)]
    assert tops[0] == tops[1], "what is written does not depend on the devices"
    results = [json.loads((root / "result.json").read_text()) for root in (alone, folder)]
    assert results[1] == pytest.approx(results[0], abs=1e-2)


def test_two_workers_one_killed_and_both_started_again_are_one_process(command, alone, tmp_path):
    together = tmp_path / "together"
    command = [*command, f"--model_dir={together}"]  # strategy=auto finds TF_CONFIG
    kill_after_the_first_checkpoint(start(command, tmp_path, workers=2), together, tmp_path)
    end(start(command, tmp_path, workers=2), tmp_path)
    chief, other = ((tmp_path / f"worker_{i}.log").read_text() for i in (0, 1))
    assert "Resuming at step" in chief and "SavedModel in" in chief
    assert "trains along" in other and "SavedModel" not in other and "/step" not in other
    assert_same_training(together, alone)


def test_workers_that_share_no_disk_are_told(command, alone, tmp_path):
    """One finds the run finished, the other a new folder."""
    before = files(alone)
    own = [[f"--model_dir={folder}"] for folder in (alone, tmp_path / "new")]
    for index, process in enumerate(start(command, tmp_path, workers=2, own=own)):
        assert process.wait(timeout=600) == 2
        log = (tmp_path / f"worker_{index}.log").read_text()
        assert "`model_dir` must be on a disk that all workers share" in log and "[1, 0]" in log
    assert files(alone) == before and not (tmp_path / "new").exists()


def _initial_values(folder):
    config = Config.from_json((folder / "config.json").read_text())
    networks = build_networks(config, 2, image_size=config.image_size, seed=config.seed)
    return [v.numpy() for v in networks.weights]


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

    monkeypatch.setattr(distribute.tf.distribute.cluster_resolver, "TPUClusterResolver", ask)
    with pytest.raises(distribute.DeviceError, match="tensorflow-tpu==.* libtpu=="):
        distribute.make_strategy("tpu")


def test_why_no_tpu_answers_is_said(monkeypatch):
    def ask(*args, **kwargs):
        raise RuntimeError("Graph execution error:\n\nNo OpKernel was registered")

    monkeypatch.setattr(distribute.importlib.metadata, "version", lambda name: "2.20.0")
    monkeypatch.setattr(distribute.tf.distribute.cluster_resolver, "TPUClusterResolver", ask)
    with pytest.raises(distribute.DeviceError, match="error: No OpKernel was registered.*Colab"):
        distribute.make_strategy("tpu")
