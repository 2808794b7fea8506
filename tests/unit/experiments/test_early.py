"""What a command line answers before TensorFlow is imported."""

import dataclasses

import pytest

from helpers.processes import python
from simclrv2_tf.config import Config
from simclrv2_tf.datasets import DatasetError
from simclrv2_tf.experiments import early
from simclrv2_tf.experiments.directory import RunDirectory, RunError

PROGRAM = """
import sys
from simclrv2_tf import run
status = run.main(["run", *sys.argv[1:]])
heavy = {"tensorflow", "keras", "numpy"} & set(sys.modules)
print(status, sorted(heavy))
"""


@pytest.fixture
def config(tmp_path):
    return Config(dataset="x", model_dir=str(tmp_path / "run"))


def test_a_missing_folder_and_a_changed_flag_wait_for_no_framework(config, tmp_path):
    RunDirectory(config).claim()
    flags = [f"--model_dir={config.model_dir}", "--dataset=x", "--temperature=0.7"]
    assert python("-c", PROGRAM, *flags).split("\n")[-2] == "2 []"
    flags = [f"--model_dir={tmp_path / 'new'}", f"--dataset=folder:{tmp_path / 'nothing'}"]
    assert python("-c", PROGRAM, *flags).split("\n")[-2] == "2 []"
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", ["phtos", "photo", "Photos"])
def test_a_misspelt_folder_is_suggested_at_once(config, name, tmp_path, monkeypatch):
    """Not where data of that name are prepared, or another data set is meant."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    prepared = tmp_path / "data" / name
    given = dataclasses.replace(config, dataset=name, data_dir=str(prepared.parent))
    with pytest.raises(DatasetError, match=r"did you mean folder:photos\?"):
        early.check(given)
    for other in ("imagenet2012", "fashion_mnist_small", "folder:photos", "gs://photos"):
        early.check(dataclasses.replace(given, dataset=other))
    prepared.mkdir(parents=True)
    early.check(given)


def test_a_changed_flag_is_named(config):
    RunDirectory(config).claim()
    early.check(config)
    with pytest.raises(RunError, match="temperature=0.1 in the folder, 0.7 here"):
        early.check(dataclasses.replace(config, temperature=0.7))


def test_the_precision_that_auto_became_is_no_change(config):
    RunDirectory(dataclasses.replace(config, precision="mixed_bfloat16")).claim()
    early.check(config)  # auto
    with pytest.raises(RunError, match="precision=mixed_bfloat16 in the folder, float32 here"):
        early.check(dataclasses.replace(config, precision="float32"))


@pytest.mark.parametrize("option", ["dataset", "unlabelled_dataset"])
def test_a_missing_folder_is_named(config, option, tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "nothing", tmp_path / "file"):
        given = dataclasses.replace(config, **{option: f"folder:{path}"})
        with pytest.raises(DatasetError, match=f"existing folder. Received: folder:{path}"):
            early.check(given)
    early.check(dataclasses.replace(config, **{option: f"folder:{tmp_path}"}))


def test_remote_paths_are_left_for_tensorflow(config):
    remote = dataclasses.replace(config, dataset="folder:gs://b/photos", model_dir="gs://b/run")
    early.check(remote)
