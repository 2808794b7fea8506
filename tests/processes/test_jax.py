"""The library on Keras's JAX backend: recorded numbers, loops, and a step under `jax.jit`."""

import importlib.util
import json
import os

import pytest

from helpers import formulas
from helpers.processes import python

NETWORKS = ("network_r18_cifar.npz", "network_r50.npz", "network_r50_sk.npz")
NAMES = [
    "the_training_step_of_the_page_on_jax",
    "batch_norm_by_its_formula",
    *(f"objective {name} {case}" for name, row in formulas.ROWS.items() for case in row.cases),
    *(f"recorded_nt_xent {case} {size}" for case in range(3) for size in (None, 3)),
    *(f"recorded_schedule {case}" for case in range(4)),
    *(f"recorded_lars {case}" for case in range(2)),
    *(f"recorded_network {file}" for file in NETWORKS),
]


@pytest.fixture(scope="module")
def raised(tmp_path_factory):
    """What each check raised, by its name."""
    if not importlib.util.find_spec("jax"):
        assert not os.environ.get("CI"), "the test command installs jax"
        pytest.skip("jax is not installed")
    file = tmp_path_factory.mktemp("jax") / "raised.json"
    # Compiling takes most of the time, and what is computed is the same to within rounding.
    flags = {"XLA_FLAGS": "--xla_backend_optimization_level=0", "JAX_PLATFORMS": "cpu"}
    python("-m", "helpers.on_jax", file, KERAS_BACKEND="jax", **flags)
    return json.loads(file.read_text())


def test_all_checks_are_named_here(raised):
    assert sorted(raised) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_on_jax(raised, name):
    if "Skipped" in raised[name]:
        pytest.skip("the reference's recordings are missing")
    assert not raised[name], raised[name]
