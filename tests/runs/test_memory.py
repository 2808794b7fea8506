"""Pretraining runs with a memory: resumed, evaluated and exported with all that they remember."""

import json
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl import logging

from helpers import small
from helpers.command_line import SMALL, fails, result
from simclrv2_tf import weights
from simclrv2_tf.training import callbacks, loop

MEMORY = [*SMALL, "--mode=train_then_eval", "--train_mode=pretrain", "--train_steps=6"]
MEMORY += ["--checkpoint_steps=2", "--memory_size=44", "--ema_decay=0.9", "--eval_ema"]


class Stopped(Exception):
    pass


@pytest.mark.parametrize(
    "flags",
    [
        ["--objective=tico", "--tico_momentum_views"],
        ["--objective=byol", "--ema_schedule=cosine"],
        ["--objective=simsiam"],
    ],
)
def test_what_an_objective_remembers_is_resumed_bit_for_bit(images, tmp_path, monkeypatch, flags):
    command = [*SMALL, "--train_mode=pretrain", f"--dataset=folder:{images}", *flags]
    command += ["--train_steps=6", "--checkpoint_steps=2", f"--model_dir={tmp_path / 'run'}"]
    save, stopped = callbacks.SaveCheckpoints.save, []

    def save_and_stop(self):
        save(self)
        if self._saved == 4:
            stopped.append(self.model)
            raise Stopped

    def resumed(stage, *args, start_step, **kwargs):
        assert start_step == 4
        stopped.append(stage)
        raise Stopped

    for owner, name, stop in (
        (callbacks.SaveCheckpoints, "save", save_and_stop),
        (loop, "train", resumed),
    ):
        monkeypatch.setattr(owner, name, stop)
        with pytest.raises(Stopped):
            small.run(command, exports=False)
    before, after = map(remembered, stopped)
    assert stopped[0] is not stopped[1] and before.keys() == after.keys() and before
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value, err_msg=name)
    fresh = [name for name, value in before.items() if not np.any(value)]
    assert not [name for name in fresh if "beta" not in name and "bias" not in name], fresh


def remembered(stage):
    """What of a stage is neither in its networks for later stages nor in their optimizer."""
    found = {f"objective/{name}": v for name, v in stage.objective.variables.items()}
    if stage.momentum is not None:
        found |= {f"momentum/{name}": v for name, v in stage.momentum.variables.items()}
    if stage.predictor is not None:
        found |= {v.path: v for v in stage.predictor.weights}
    if stage.predictor_optimizer is not None:
        found |= {f"optimizer/{v.path}": v for v in stage.predictor_optimizer.variables}
    return {name: v.numpy() for name, v in found.items()}


def test_a_resumed_run_ends_as_if_never_stopped(images, tmp_path, monkeypatch, capsys):
    """Queue, its position, and the momentum network; which is also what is exported."""
    straight, resumed = tmp_path / "straight", tmp_path / "resumed"
    command = [*MEMORY, f"--dataset=folder:{images}", "--keep_checkpoint_max=5"]
    warned = []
    monkeypatch.setattr(logging, "warning", lambda text, *_: warned.append(text))
    assert small.run([*command, f"--model_dir={straight}"], exports=False) == 0
    assert any("larger than the data set" in text for text in warned)  # of 24 images

    rewind(shutil.copytree(straight, resumed), 4)
    assert small.run([*command, f"--model_dir={resumed}"], exports=False) == 0
    assert "Resuming at step 4" in capsys.readouterr().out

    readers = [
        tf.train.load_checkpoint(weights.latest(str(folder))) for folder in (straight, resumed)
    ]
    names = {name for name in readers[0].get_variable_to_shape_map() if "variables" in name}
    assert sum("queue" in name for name in names) == 3 and any("ema" in name for name in names)
    for name in names:
        ours, theirs = (reader.get_tensor(name) for reader in readers)
        np.testing.assert_allclose(theirs, ours, rtol=1e-4, atol=1e-5, err_msg=name)
    # 6 steps of 8 images, two views of each, in 44 rows.
    position = [name for name in names if "position" in name]
    assert [readers[0].get_tensor(name) for name in position] == [6 * 16 % 44]
    exported = keras.saving.load_model(straight / "encoder.keras")
    [kernel] = [n for n in names if "ema" in n and "stem_conv" in n and "kernel" in n]
    np.testing.assert_array_equal(
        exported.get_layer("stem_conv").kernel, readers[0].get_tensor(kernel)
    )
    assert {"embedding_rank", "uniformity"} <= result(straight).keys()

    # The network itself can be evaluated in the same folder.
    online = [*command, f"--model_dir={straight}", "--mode=eval", "--noeval_ema"]
    assert small.run([*online, "--eval_name=online"]) == 0
    of_the_network = json.loads((straight / "result_online.json").read_text())
    assert of_the_network["uniformity"] != result(straight)["uniformity"]
    assert "eval_ema" in fails([*online, "--mode=train_then_eval"], capsys)


def rewind(folder, step):
    """Removes what a run has written after `step`, a checkpoint of which it has kept."""
    checkpoints = folder / "checkpoints"
    latest = tf.train.latest_checkpoint(str(checkpoints))
    for path in [*checkpoints.glob(f"{latest.rpartition('/')[2]}.*"), *folder.glob("*.keras")]:
        path.unlink()
    (checkpoints / "checkpoint").write_text(f'model_checkpoint_path: "ckpt-{step}"\n')
    shutil.rmtree(folder / "hub", ignore_errors=True)
    (folder / "result.json").unlink()
