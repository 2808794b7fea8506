"""Reads the notebooks of `colab/`, and runs them in folders of their own, made small."""

import ast
import json
import math

import nbclient
import nbformat

from helpers.paths import ROOT

NOTEBOOKS = sorted((ROOT / "colab").glob("*.ipynb"))
SMALL = {"DEPTH": 10, "WIDTH": 0.0625, "STEPS": 2}
# The first cell: on the CPU.
SETUP = f"""
import os, sys
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
sys.path.append({str(ROOT / "tests")!r})
from helpers import small

small.everywhere()
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


def execute(name, folder, *cells, **parameters):
    """Runs a notebook, and more cells at its end, in `folder`; returns it with its outputs."""
    notebook = read(ROOT / "colab" / f"{name}.ipynb")
    for cell in code_cells(notebook):
        cell.outputs, cell.execution_count = [], None
    inject(notebook, **SMALL, MODEL_DIR="small", **parameters)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(SETUP))
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


def assert_ran(name, notebook, folder, runs, times=1):
    """Checks the `runs` that a notebook made below `folder`, and that its pictures are all there.

    Args:
        times: How often its cells were run.
    """
    for run in runs:
        result = json.loads((folder / run / "result.json").read_text())
        assert result["global_step"] == SMALL["STEPS"]
        assert 0 < result["label_top_1_accuracy"] < 1 and math.isfinite(result["loss"])
        config = json.loads((folder / run / "config.json").read_text())
        assert config["resnet_depth"] == SMALL["DEPTH"]
        assert (folder / run / "report.html").exists()
    saved = read(ROOT / "colab" / f"{name}.ipynb")
    assert len(pictures(notebook)) == times * len(pictures(saved))
