"""Who may import whom: one way, from the bottom layer up, and no configuration in the library."""

import ast
import subprocess
import sys

import pytest

from helpers.paths import ROOT

PACKAGE = ROOT / "simclrv2_tf"
# From the bottom up: a part imports its own layer and those below.
LAYERS = [
    {
        "errors",
        "signals",
        "files",
        "kept_results",
        "sums",
        "options",
        "environment",
        "predictions",
        "tables",
        "checkpoint_files",
        "contents",
        "network_options",
        "run_options",
        "precision",
        "channels",
        "hugging_face",
    },
    {"distribute", "augment", "optimizers", "metrics"},
    {"processors"},
    {"batch_norm", "convolution", "moving_average", "objectives", "datasets"},
    {"memory"},
    {"resnet", "heads", "stages"},
    {"networks"},
    {"export"},
    {"official"},
    {"weights", "predict"},
    {"console", "training"},
    {"report"},
    {"experiments"},
    {"config"},
    {"run", "evaluate", "publish", "suggest", "sweep"},
    {"cli"},
    {"__main__"},
]
RANKS = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}


def part_of(module: str) -> str:
    return module.removeprefix("simclrv2_tf").strip(".").split(".")[0]


def imports(tree, typing_only=False):
    """The modules of the package that a file imports when it runs, lazily or not."""
    for node in tree.body if isinstance(tree, ast.Module) else ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("simclrv2_tf"):
            if node.module == "simclrv2_tf":
                yield from (f"simclrv2_tf.{alias.name}" for alias in node.names)
            else:
                yield node.module
        elif isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.startswith("simclrv2_tf."))
        else:
            yield from imports(node)


FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_are_one_way(path):
    part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for module in imports(ast.parse(path.read_text())):
        imported = part_of(module)
        assert RANKS[imported] <= RANKS[part], f"{part} imports {module}"


def test_every_part_has_a_layer():
    parts = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in FILES}
    assert parts == set(RANKS)


def test_the_package_imports_lazily():
    """Names and options are known without TensorFlow; the first name that needs it imports it."""
    code = """
import sys
import simclrv2_tf as sc
from simclrv2_tf import objectives, datasets, stages, optimizers, augment, distribute, export
from simclrv2_tf import contents, memory, metrics, networks
from simclrv2_tf.config import Config
from simclrv2_tf.export import formats
Config()
heavy = {"tensorflow", "keras", "numpy", "matplotlib", "tensorflow_datasets"} & set(sys.modules)
assert not heavy, heavy
assert {"LARS", "nt_xent", "Pretrainer", "resnet", "open_dataset"} <= set(dir(sc))
assert sc.nt_xent is objectives.nt_xent
assert "tensorflow" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
