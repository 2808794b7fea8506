"""Fixtures that several test files use."""

import gc
import os
import sys

import pytest

from helpers.paths import ROOT
from helpers.shared_runs import SharedRuns
from simclrv2_tf import environment

# As the commands do, before a test imports TensorFlow.
environment.prepare()
# Programs of the tests import the same package, and `helpers`.
os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "tests")])

# Workers share the cores: more threads for an operation slow the others down. One thread also sums
# in one order: runs of several processes are compared bit for bit.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")

# XLA compiles views and steps in half the time; what they compute is the same to within rounding.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

# The files that take the longest, below `tests`, the longest first. Of those that need the same
# shared runs only one is near the top: the others would wait for it.
LONG = [
    "processes/test_notebooks.py",
    "processes/test_notebook_of_a_model.py",
    "runs/test_semi_supervised.py",
    "processes/test_multi_worker.py",
    "processes/test_replicas.py",
    "runs/test_pretrain.py",
    "processes/test_kills.py",
    "processes/test_exports.py",
    "runs/test_distill.py",
]
KINDS = ["processes", "runs", "unit"]


def pytest_xdist_auto_num_workers(config):
    """As many as cores: with one more, two cores take 14 min 34 s for what takes 11 min 44 s."""
    return os.cpu_count() or 1


def pytest_collection_modifyitems(items):
    """Marks tests by their folder, and begins with the long files: none is left for the end."""

    def place(item):
        path = item.path.relative_to(ROOT / "tests").as_posix()
        kind = path.partition("/")[0]
        item.add_marker(kind)
        return LONG.index(path) if path in LONG else len(LONG) + KINDS.index(kind)

    items.sort(key=place)


def pytest_collection_finish():
    """Makes graphs as the commands do: rewriting them takes a fifth of the tests' time.

    Collects garbage less often, and not in what is imported: this takes 6 to 9% of the time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    if "tensorflow" in sys.modules:
        environment.skip_graph_rewrites()


@pytest.fixture(scope="session")
def shared_runs(tmp_path_factory):
    """The small runs that all workers share, to be read only."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent  # the session's folder holds each worker's
    return SharedRuns(root / "shared")


@pytest.fixture
def copied_run(shared_runs, tmp_path, monkeypatch):
    """Copies a shared run to below `tmp_path`, the current folder from then on; returns its folder.

    There `shared_runs.command_line` resumes it.
    """

    def copy(name):
        monkeypatch.chdir(tmp_path)
        return shared_runs.copy(name, tmp_path)

    return copy


@pytest.fixture(scope="session")
def images(shared_runs):
    """A folder of 2 classes, 12 training and 5 test images each, of differing sizes."""
    return shared_runs.made("images")


@pytest.fixture(scope="session")
def flat(shared_runs):
    """A folder of the same training images, without classes."""
    return shared_runs.made("flat")
