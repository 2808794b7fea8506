"""Two processes on this machine that train together: the same weights as one, also after a kill."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

from command_line import SMALL, files
from simclrv2_tf import distribute

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


def start(command, logs, workers=1):
    """Processes of one run; each one's output is in a file of its own."""
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
                    [sys.executable, "-m", "simclrv2_tf.run", *command],
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


def test_two_workers_one_killed_and_both_started_again_are_one_process(images, tmp_path):
    command = [*PRETRAIN, f"--dataset=folder:{images}"]
    alone, together, logs = tmp_path / "alone", tmp_path / "together", tmp_path / "logs"
    logs.mkdir()
    end(start([*command, f"--model_dir={alone}"], logs), logs)

    command += [f"--model_dir={together}"]  # strategy=auto finds TF_CONFIG
    processes = start(command, logs, workers=2)
    try:
        while not (together / "checkpoints" / "checkpoint").exists():
            assert all(process.poll() is None for process in processes), [
                (logs / f"worker_{i}.log").read_text()[-3000:] for i in (0, 1)
            ]
            time.sleep(0.01)
        processes[1].send_signal(signal.SIGKILL)
        # Without its peer the other cannot go on; whether it notices soon is the network's affair.
        time.sleep(1)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert not (together / "result.json").exists(), "it ended before it could be killed"

    end(start(command, logs, workers=2), logs)
    chief, other = ((logs / f"worker_{i}.log").read_text() for i in (0, 1))
    assert "Resuming at step" in chief and "SavedModel in" in chief
    assert "trains along" in other and "SavedModel" not in other and "step" not in other

    before = [v.numpy() for v in _initial_models(together)]
    ours, theirs = weights(together), weights(alone)
    for a, b, start_value in zip(ours, theirs, before, strict=True):
        change = np.linalg.norm(b - start_value)
        # Batch norm over 16 views magnifies the last digits.
        assert np.linalg.norm(a - b) <= 0.02 * change + 1e-6
    assert sum(np.linalg.norm(b - a) for a, b in zip(before, theirs, strict=True)) > 0.1
    names = [{p.relative_to(root).parts[0] for p in files(root)} for root in (alone, together)]
    assert names[0] == names[1], "one worker writes, and as much as a process alone"
    results = [json.loads((root / "result.json").read_text()) for root in (alone, together)]
    assert results[0] == pytest.approx(results[1], abs=1e-2)


def _initial_models(folder):
    from simclrv2_tf.config import Config
    from simclrv2_tf.networks import build_networks

    return build_networks(Config.from_json((folder / "config.json").read_text()), 2).weights


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
