"""Runs on gray images and on images of five bands, up to their predictions."""

import csv
import json

import keras
import numpy as np
import pytest
import tifffile

from helpers import small
from helpers.colored import save
from helpers.command_line import SMALL, fails, files, result
from simclrv2_tf import predict

STEPS = ["--mode=train_then_eval", "--train_steps=2", *SMALL]
OWN = ("--resnet_depth", "--width_multiplier", "--proj_out_dim", "--image_size")
WITHOUT_NETWORK = [flag for flag in STEPS if not flag.startswith(OWN)]


@pytest.fixture(scope="module")
def five_bands(tmp_path_factory):
    """Images of five bands of 16 bits, two classes that differ in the fifth; one is RGB."""
    root = tmp_path_factory.mktemp("bands") / "fields"
    rng = np.random.default_rng(0)
    for split, count in (("train", 10), ("test", 4)):
        for label, name in enumerate(("dry", "wet")):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 2000, (20, 18, 5), np.uint16)
                pixels[..., 4] += np.uint16(2000 * label)
                tifffile.imwrite(
                    root / split / name / f"{number}.tif",
                    pixels,
                    photometric="minisblack",
                    planarconfig="contig",
                )
    save(root / "train" / "dry" / "photo.png", 0, 0, (16, 16))
    return root


def predicted_share(folder, images, target):
    """The share of images whose folder is the class that `predict` finds for them."""
    model = folder / "image_classifier.keras"
    command = [f"--model={model}", f"--images={images}", f"--output={target}", "--top_k=1"]
    assert predict.main(command) == 0
    with target.open() as file:
        rows = list(csv.DictReader(file))
    return len(rows), np.mean([row["file"].split("/")[0] == row["class"] for row in rows])


def test_five_bands_from_pretraining_to_predictions(five_bands, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    data = [f"--dataset=folder:{five_bands}", "--value_range=0,4095"]
    first, tuned = tmp_path / "first", tmp_path / "tuned"
    command = [*STEPS, *data, "--train_mode=pretrain", "--channels=5", "--hold_labels_back"]
    assert small.run([*command, f"--model_dir={first}"], exports=False) == 0
    out = capsys.readouterr().out
    assert "5 bands of 16 bits, values up to " in out and "; read as 5 bands." in out
    assert "color jitter only changes brightness and contrast" in out
    skipped = (first / "skipped_images.csv").read_text().splitlines()
    assert skipped[1].startswith('train/dry/photo.png,"it has 3 bands, but 5 are read')
    assert keras.saving.load_model(first / "encoder.keras").input_shape[-1] == 5
    assert json.loads((first / "inputs.json").read_text())["channels"] == 5

    # The channels come with the network.
    command = [*WITHOUT_NETWORK, *data, "--train_mode=finetune", f"--checkpoint={first}"]
    assert small.run([*command, f"--model_dir={tuned}"], exports=False) == 0
    capsys.readouterr()
    count, share = predicted_share(tuned, five_bands / "test", tmp_path / "classes.csv")
    assert count == 8 and result(tuned)["label_top_1_accuracy"] == share
    assert "5 bands, (batch, height, width, 5)" in (tuned / "README.md").read_text()

    before = files(tmp_path)
    line = fails([*command, "--channels=4", f"--model_dir={tmp_path / 'other'}"], capsys)
    assert line.endswith("Received: channels=4 (5 in the checkpoint)")
    rgb = [*STEPS, f"--dataset=folder:{five_bands / 'test'}", f"--model_dir={tmp_path / 'rgb'}"]
    line = fails(rgb, capsys)
    assert "it has 5 bands" in line and "use --channels=5 to read them" in line
    assert files(tmp_path) == before


def test_gray_from_colors(images, tmp_path, capsys):
    gray = tmp_path / "gray"
    command = [*STEPS, f"--dataset=folder:{images}", "--train_mode=supervised"]
    assert small.run([*command, "--channels=1", f"--model_dir={gray}"], exports=False) == 0
    assert "Images: RGB of 8 bits (16 of 24 files checked); read as gray." in (
        capsys.readouterr().out
    )
    assert keras.saving.load_model(gray / "encoder.keras").input_shape[-1] == 1
    count, share = predicted_share(gray, images / "test", tmp_path / "classes.csv")
    assert count == 10 and result(gray)["label_top_1_accuracy"] == share
    line = fails([*command, f"--model_dir={gray}"], capsys)
    assert "(channels=1 in the folder, 3 here)" in line
