"""Runs on two processes: the same weights as on one, also after a kill."""

import json
import re
import signal
import time

import numpy as np
import pytest

from helpers import small
from helpers.command_line import SMALL, files, keras_weights
from helpers.processes import kill_after_the_first_checkpoint, start
from simclrv2_tf.config import Config
from simclrv2_tf.networks import build_networks  # its layers are needed to load a .keras file

PRETRAIN = [*SMALL, "--mode=train_then_eval", "--train_mode=pretrain", "--train_steps=6"]
PRETRAIN += ["--checkpoint_steps=2", "--optimizer=momentum", "--learning_rate=0.02"]


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


def test_two_workers_one_killed_and_both_started_again_are_one_process(images, tmp_path):
    alone, together = tmp_path / "alone", tmp_path / "together"
    command = [*PRETRAIN, f"--dataset=folder:{images}"]
    assert small.run([*command, f"--model_dir={alone}"], exports=False) == 0
    command.append(f"--model_dir={together}")  # strategy=auto finds TF_CONFIG
    started = start(command, tmp_path, workers=2)
    kill_after_the_first_checkpoint(started, together, tmp_path)
    chief, other = end(start(command, tmp_path, workers=2), tmp_path)
    assert "Resuming at step" in chief and "networks in" in chief
    assert "This worker trains;" in other and "networks" not in other and "step 1" not in other
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
    predicted = [(root / "predictions.csv").read_text().split() for root in (alone, together)]
    order = [[line.rsplit(",", 2)[0] for line in lines] for lines in predicted]
    assert order[0] == order[1] and len(order[0]) == 11, "files and classes, on every worker"


def test_two_workers_stop_after_the_same_step(images, tmp_path):
    """Where one of them, not the chief, gets SIGTERM."""
    run = tmp_path / "run"
    command = [*PRETRAIN, f"--dataset=folder:{images}", f"--model_dir={run}", "--train_steps=2000"]
    started = start(command, tmp_path, workers=2)
    while not (run / "checkpoints" / "checkpoint").exists():
        assert all(process.poll() is None for process in started)
        time.sleep(0.05)
    started[1].send_signal(signal.SIGTERM)
    logs = end(started, tmp_path, status=143)
    steps = [re.search(r"Stopped by SIGTERM. Saved step ([\d,]+) of 2,000", log) for log in logs]
    assert steps[0] and steps[1] and steps[0][1] == steps[1][1], [log[-500:] for log in logs]
    assert (run / "checkpoints" / f"ckpt-{steps[0][1].replace(',', '')}.index").exists()
    assert not (run / "owner.json").exists()
