"""The notebooks of `colab/`: what is saved in them is whole, and they run.

They run in folders of their own, with a network and as many steps as take a moment.
"""

import ast
import csv
import json
import math
import re

import nbclient
import nbformat
import pytest

from helpers.oracle import ORACLE
from helpers.paths import ROOT

NOTEBOOKS = sorted((ROOT / "colab").glob("*.ipynb"))
NAMES = {"pretrain_tpu", "finetune_and_distill", "use_a_pretrained_model"}
SMALL = {"DEPTH": 10, "WIDTH": 0.0625, "STEPS": 2}
# The runs that a notebook makes, below its MODEL_DIR.
RUNS = {
    "pretrain_tpu": ["small", "small-linear"],
    "finetune_and_distill": [
        f"small/{name}" for name in ("supervised", "fine_tuned", "self_distilled", "small_student")
    ],
    "use_a_pretrained_model": ["small/pretrain", "small/fine_tuned", "small/photos"],
}
# On the CPU; only the third one looks at SavedModels.
SETUP = f"""
import os, sys
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
sys.path.append({str(ROOT / "tests")!r})
from helpers import small
small.everywhere(exports=EXPORTS)
"""
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
MODEL_DIR, SOURCE, IMPORT_FLAGS = "other", "tiny", ["--image_size=16"]
PHOTOS = os.path.abspath("my photos")
DATASET = f"folder:{{PHOTOS}}"
"""
FAILING = """
try:
    train("--train_epochs=-1", "--model_dir=failing")
except RuntimeError as error:
    print("stopped:", error)
"""


def read(path):
    return nbformat.read(path, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def parameters_cell(notebook):
    """The one cell tagged `parameters`, as papermill knows it, and its place."""
    (found,) = [
        (index, cell)
        for index, cell in enumerate(notebook.cells)
        if "parameters" in cell.metadata.get("tags", [])
    ]
    return found


def assigned(source):
    return {name.id for node in ast.parse(source).body for name in node.targets}


def inject(notebook, **parameters):
    """Overrides values of the `parameters` cell by a cell after it, as papermill does."""
    index, cell = parameters_cell(notebook)
    unknown = parameters.keys() - assigned(cell.source)
    if unknown:
        raise ValueError(f"The notebook has no parameters {sorted(unknown)}")
    lines = [f"{name} = {value!r}" for name, value in parameters.items()]
    notebook.cells.insert(index + 1, nbformat.v4.new_code_cell("\n".join(lines)))


def execute(path, folder, *cells, **parameters):
    """Runs a notebook, and more cells at its end, in `folder`; returns it with its outputs."""
    notebook = read(path)
    for cell in code_cells(notebook):
        cell.outputs, cell.execution_count = [], None
    inject(notebook, **SMALL, MODEL_DIR="small", **parameters)
    setup = SETUP.replace("EXPORTS", str(path.stem == "use_a_pretrained_model"))
    notebook.cells.insert(0, nbformat.v4.new_code_cell(setup))
    notebook.cells += map(nbformat.v4.new_code_cell, cells)
    nbclient.NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
    ).execute()
    return notebook


def pictures(notebook):
    return [
        output.data["image/png"]
        for cell in code_cells(notebook)
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    ]


def printed(notebook, start=0):
    """What its cells from `start` on print."""
    return "\n".join(
        output["text"]
        for cell in notebook.cells[start:]
        for output in cell.get("outputs", [])
        if output.get("name") == "stdout"
    )


def texts(notebook):
    """What the cells say, and what is saved of their outputs."""
    for cell in notebook.cells:
        yield cell.source
        for output in cell.get("outputs", []):
            yield output.get("text", "")
            yield from (v for k, v in output.get("data", {}).items() if not k.startswith("image/"))


def test_all_are_there():
    assert {path.stem for path in NOTEBOOKS} == NAMES


def test_owner_of_the_repository_is_the_same_everywhere():
    """In the badge and in the install cell of each."""
    text = "\n".join(cell.source for path in NOTEBOOKS for cell in read(path).cells)
    owners = re.findall(r"github(?:\.com)?/([\w-]+)/simclrv2_tf", text)
    assert len(owners) == 2 * len(NOTEBOOKS) and len({*owners}) == 1


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
class TestSaved:
    def test_is_a_notebook_for_colab(self, path):
        notebook = read(path)
        nbformat.validate(notebook)
        assert notebook.metadata.kernelspec.name == "python3"
        assert notebook.metadata.accelerator == ("TPU" if "tpu" in path.stem else "GPU")
        assert notebook.metadata.colab.name == path.name
        place = rf"https://colab\.research\.google\.com/github/[\w-]+/simclrv2_tf/blob/main/colab/{path.name}"
        assert re.search(rf"\[!\[Open In Colab\]\(\S+\)\]\({place}\)", notebook.cells[0].source)

    def test_was_run_from_top_to_bottom(self, path):
        cells = code_cells(read(path))
        assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
        outputs = [output for cell in cells for output in cell.outputs]
        assert not [output for output in outputs if output.output_type == "error"]
        assert not [output for output in outputs if output.get("name") == "stderr"]
        assert len(pictures(read(path))) >= 4

    def test_was_run_with_the_values_it_shows(self, path):
        notebook = read(path)
        index, cell = parameters_cell(notebook)
        assert index <= 2
        values = {
            node.targets[0].id: ast.literal_eval(node.value) for node in ast.parse(cell.source).body
        }
        words = printed(notebook).split()
        flags = {"IMAGE_SIZE": "image_size", "DEPTH": "resnet_depth", "WIDTH": "width_multiplier"}
        flags |= {name: "train_epochs" for name in values if name.endswith("EPOCHS")}
        flags |= {name: "train_batch_size" for name in values if name.endswith("BATCH_SIZE")}
        for name, flag in flags.items():
            assert f"--{flag}={values[name]}" in words, name

    def test_tells_nothing_of_the_machine(self, path):
        assert not re.search(
            r"/(tmp|home|root|work|usr)/|site-packages", "\n".join(texts(read(path)))
        )
        assert path.stat().st_size < 2**20

    def test_says_where_it_was_run(self, path):
        assert "not yet been" in read(path).cells[0].source


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """Runs each notebook once; the second one begins with the run of the first."""
    done = {}

    def of(name):
        if name not in done:
            folder = tmp_path_factory.mktemp(name)
            path, cells, parameters = ROOT / "colab" / f"{name}.ipynb", [], {}
            if name == "pretrain_tpu":
                cells, parameters = [FAILING], {"BATCH_SIZE": 32}
            elif name == "finetune_and_distill":
                parameters["PRETRAINED"] = str(of("pretrain_tpu")[1] / "small")
            else:
                # Once more, from what follows the parameters, the installation and the imports.
                again = [cell.source for cell in code_cells(read(path))[3:]]
                cells = [RELEASED, *again]
            done[name] = execute(path, folder, *cells, **parameters), folder
        return done[name]

    return of


@pytest.mark.parametrize("name", sorted(NAMES))
def test_runs(name, executed):
    notebook, folder = executed(name)
    for run in RUNS[name]:
        result = json.loads((folder / run / "result.json").read_text())
        assert result["global_step"] == SMALL["STEPS"]
        assert 0 < result["label_top_1_accuracy"] < 1 and math.isfinite(result["loss"])
        config = json.loads((folder / run / "config.json").read_text())
        assert config["resnet_depth"] == SMALL["DEPTH"]
    saved = read(ROOT / "colab" / f"{name}.ipynb")
    times = 2 if name == "use_a_pretrained_model" else 1
    assert len(pictures(notebook)) == times * len(pictures(saved))


def test_the_device_is_found_and_named(executed):
    notebook, _ = executed("pretrain_tpu")
    assert "Found: CPU, 1 replica(s), 32 images a step." in printed(notebook)


def test_a_run_that_fails_stops_the_notebook(executed):
    notebook, _ = executed("pretrain_tpu")
    said = {output.name: output.text for output in notebook.cells[-1].outputs}
    assert "stopped: The run failed with status 2" in said["stdout"]
    assert "`train_epochs` must be" in said["stderr"]


def test_a_released_model_and_photos_of_ones_own(executed):
    notebook, folder = executed("use_a_pretrained_model")
    (start,) = [i for i, cell in enumerate(notebook.cells) if cell.source == RELEASED]
    text = printed(notebook, start)
    assert "--resnet_depth=18 --width_multiplier=0.125 --sk_ratio=0.0 --se_ratio=0.0" in text
    assert "The model: other/tiny/hub/0" in text and "classes: no names" in text
    assert "images are right" not in text
    config = json.loads((folder / "other" / "photos" / "config.json").read_text())
    assert (config["resnet_depth"], config["stem"], config["image_size"]) == (18, "cifar", 16)


def test_the_command_answers_for_every_image(executed):
    _, folder = executed("use_a_pretrained_model")
    images = folder / "my photos"  # the last ones
    expected = sorted(str(path.relative_to(images)) for path in images.rglob("*.png"))
    with open(folder / "answers.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["file"] for row in rows if row["rank"] == "1") == expected
    assert {row["class"] for row in rows} == {"dark", "light"}
    with open(folder / "photo_embeddings.csv", newline="") as file:
        assert sorted(row["file"] for row in csv.DictReader(file)) == expected


def test_unknown_parameters_are_an_error():
    with pytest.raises(ValueError, match="EPOCH_COUNT"):
        inject(read(ROOT / "colab" / "pretrain_tpu.ipynb"), EPOCH_COUNT=1)
