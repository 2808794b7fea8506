"""The wheel: what it holds, and that it works where it is installed."""

import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest

from helpers.config import parse
from helpers.paths import RECIPES, ROOT
from helpers.processes import python
from simclrv2_tf import __version__
from simclrv2_tf.config import Config


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> pathlib.Path:
    """The wheel, built from a copy: a build writes files into its source folder."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("simclrv2_tf", "flags"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--no-build-isolation", "-w", out, source], check=True)
    (path,) = out.glob("simclrv2_tf-*.whl")
    return path


def test_the_wheel_holds_recipes_and_data(wheel):
    held = set(zipfile.ZipFile(wheel).namelist())
    assert {f"simclrv2_tf/flags/{recipe}" for recipe in RECIPES} <= held
    files = (p for p in (ROOT / "simclrv2_tf").rglob("*") if p.is_file())
    files = {p.relative_to(ROOT).as_posix() for p in files if p.suffix != ".pyc"}
    assert files <= held
    assert any(name.endswith("LICENSE") for name in held)
    # Only the package is installed: other top-level names could clash with another project's files.
    assert {name.split("/")[0].removesuffix(".dist-info")[:11] for name in held} == {"simclrv2_tf"}


def test_recipes_are_found_after_a_wheel_install(wheel, tmp_path):
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", site, wheel], check=True)
    code = """
from simclrv2_tf import config
from simclrv2_tf import __version__
from simclrv2_tf.config import Config
print(config.__file__)
for recipe in config.recipe_names():
    print(recipe)
    args = [f"--flagfile={prefix}{recipe}" for prefix in ("", "flags/")]
    assert len({Config.from_argv(["run", arg]) for arg in args}) == 1
print(Config.from_argv(["run"]).to_json())
"""
    file, *rest = python("-c", code, cwd=elsewhere, PYTHONPATH=str(site)).splitlines()
    assert pathlib.Path(file).is_relative_to(site)
    assert rest[: len(RECIPES)] == RECIPES
    assert Config.from_json("\n".join(rest[len(RECIPES) :])) == parse()
    program = [site / "bin" / "simclrv2-tf", "--version"]
    path = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run(program, cwd=elsewhere, env=path, capture_output=True, check=True)
    assert done.stdout.decode() == f"simclrv2-tf {__version__}\n"
