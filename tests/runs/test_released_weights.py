"""A stage that starts from the reference's weights."""

import shutil

import keras
import numpy as np

from helpers import oracle, small
from helpers.command_line import SMALL
from simclrv2_tf import official

TF1 = oracle.ORACLE / "tf1_checkpoint"


def test_a_stage_starts_from_a_recorded_checkpoint(images, tmp_path):
    """Copied without the file that names it, as single files are downloaded."""
    shutil.copytree(TF1 / "r18_cifar", tmp_path / "copy")
    (tmp_path / "copy").chmod(0o755)
    (tmp_path / "copy" / "checkpoint").unlink()
    found = official.infer(official.Variables(str(tmp_path / "copy")).shapes)
    flags = ["resnet_depth", "width_multiplier", "num_proj_layers", "proj_out_dim", "stem"]
    command = ["--mode=train", "--train_mode=linear_eval", *SMALL, "--train_steps=1"]
    command += [f"--{name}={getattr(found, name)}" for name in flags]
    command += [f"--dataset=folder:{images}", f"--checkpoint={tmp_path / 'copy'}"]
    assert small.run([*command, f"--model_dir={tmp_path / 'run'}"], exports=False) == 0
    trained = keras.saving.load_model(tmp_path / "run" / "encoder.keras")
    models = found.build()
    official.load_checkpoint(str(TF1 / "r18_cifar"), **models)
    for ours, theirs in zip(trained.weights, models["encoder"].weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)  # frozen
