"""The notebooks of `colab/`: what is saved in them is whole, and they run.

They run in folders of their own, with a network and as many steps as take a moment.
"""

import ast
import re

import nbformat
import pytest

from helpers.notebooks import (
    NOTEBOOKS,
    assert_ran,
    code_cells,
    execute,
    inject,
    parameters_cell,
    pictures,
    printed,
    read,
)
from helpers.paths import ROOT

NAMES = {"pretrain_tpu", "finetune_and_distill", "use_a_pretrained_model"}
FAILING = """
try:
    simclrv2("pretrain fashion_mnist_small --train_epochs=-1 --model_dir=failing")
except RuntimeError as error:
    print("stopped:", error)
"""


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
def pretrained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pretrain_tpu")
    return execute("pretrain_tpu", folder, FAILING, BATCH_SIZE=32), folder


def test_pretraining_runs(pretrained):
    assert_ran("pretrain_tpu", *pretrained, ["small", "small-linear"])


def test_the_device_is_found_and_named(pretrained):
    notebook, _ = pretrained
    assert "Found: CPU, 1 replica(s), 32 images per step." in printed(notebook)


def test_a_run_that_fails_stops_the_notebook(pretrained):
    notebook, _ = pretrained
    said = {output.name: output.text for output in notebook.cells[-1].outputs}
    assert "stopped: The command failed with status 2" in said["stdout"]
    assert "`train_epochs` must be" in said["stderr"]


def test_few_labels_run_from_that_pretraining(pretrained, tmp_path):
    name, weights = "finetune_and_distill", str(pretrained[1] / "small")
    notebook = execute(name, tmp_path, PRETRAINED=weights)
    methods = ("supervised", "fine_tuned", "self_distilled", "small_student")
    assert_ran(name, notebook, tmp_path, [f"small/{method}" for method in methods])


def test_unknown_parameters_are_an_error():
    with pytest.raises(ValueError, match="EPOCH_COUNT"):
        inject(read(ROOT / "colab" / "pretrain_tpu.ipynb"), EPOCH_COUNT=1)
