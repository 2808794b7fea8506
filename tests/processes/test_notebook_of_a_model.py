"""The notebook that uses a pretrained model: one that it trains, and then a released one."""

import csv
import json

import numpy as np
import pytest

from helpers.notebooks import assert_ran, code_cells, execute, printed, read
from helpers.oracle import ORACLE
from helpers.paths import ROOT

NAME = "use_a_pretrained_model"
# A recorded checkpoint takes the place of a released model, which would be downloaded. Its classes
# are others than the images', and have no names; of these there are few, and none set aside.
RELEASED = f"""
import dataclasses
official.released()["tiny"] = dataclasses.replace(
    official.released()["r50_1x_sk0"],
    resnet_depth=18,
    width_multiplier=0.125,
    saved_model={str(ORACLE / "tf1_checkpoint" / "r18_cifar")!r},
)
for label, name in enumerate(("dark", "light")):
    pathlib.Path("my photos", name).mkdir(parents=True)
    for i in range(9):
        image = np.full((20, 24 + i, 3), 180 * label + 5 * i, np.uint8)
        plt.imsave(pathlib.Path("my photos", name, f"{{i}}.png"), image)
MODEL_DIR, SOURCE, IMPORT_FLAGS = "other", "tiny", "--image_size=16"
IMAGES = PHOTOS = "my photos"
"""


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """Runs it twice, the second time from what follows parameters, installation and imports."""
    folder = tmp_path_factory.mktemp(NAME)
    again = [cell.source for cell in code_cells(read(ROOT / "colab" / f"{NAME}.ipynb"))[3:]]
    return execute(NAME, folder, RELEASED, *again), folder


def test_runs(executed):
    runs = ["small/pretrain", "small/fine_tuned", "small/photos"]
    assert_ran(NAME, *executed, runs, times=2)


def test_a_released_model_and_photos_of_ones_own(executed):
    notebook, folder = executed
    (start,) = [i for i, cell in enumerate(notebook.cells) if cell.source == RELEASED]
    text = printed(notebook, start)
    assert "Network as in other/tiny/import.json: ResNet-18 0.125x, 16 px." in text
    assert "classes: no names" in text
    config = json.loads((folder / "other" / "photos" / "config.json").read_text())
    assert (config["resnet_depth"], config["stem"], config["image_size"]) == (18, "cifar", 16)


def test_the_command_answers_for_every_image(executed):
    _, folder = executed
    images = folder / "my photos"  # the last ones
    expected = sorted(str(path.relative_to(images)) for path in images.rglob("*.png"))
    with open(folder / "answers.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["file"] for row in rows if row["rank"] == "1") == expected
    assert all(row["class"].isdigit() for row in rows)  # the released files have no class names
    assert sorted((folder / "embeddings.txt").read_text().splitlines()) == expected
    assert np.load(folder / "embeddings.npy").shape == (len(expected), 64)
