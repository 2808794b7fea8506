"""Weights to start from: checkpoints, `.keras` files and SavedModels, each as the others."""

import json
import os
import shutil
import zipfile

import numpy as np
import pytest
import tensorflow as tf
from etils import epath

from helpers.stored_weights import (
    ALL,
    KINDS,
    networks,
    save_checkpoint,
    save_files,
    values,
    write,
    write_all,
)
from simclrv2_tf import sums, weights

FORMATS = ("run", "file", "saved model")


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """The same networks as every kind of source; not to be written to."""
    return write_all(tmp_path_factory.mktemp("sources"))


def copied(sources, kind, tmp_path):
    """A copy of the source that a test may damage, under another name."""
    source = sources[1][kind]
    folder = source if os.path.isdir(source) else os.path.dirname(source)
    shutil.copytree(folder, tmp_path / "copy")
    if os.path.isdir(source):
        return str(tmp_path / "copy")
    return str(tmp_path / "copy" / os.path.basename(source))


@pytest.mark.parametrize("kind", KINDS)
def test_weights_arrive_bit_equal(kind, sources):
    expected, paths = sources
    others = networks(seed=1)
    assert weights.fits(paths[kind], others.values())
    weights.load(paths[kind], others.values())
    arrived = values(others)
    assert arrived.keys() == expected.keys()
    for path, value in arrived.items():
        np.testing.assert_array_equal(value, expected[path], err_msg=path)


@pytest.mark.parametrize("kind", KINDS)
def test_shapes_are_those_of_the_weights(kind, sources):
    expected, paths = sources
    shapes = weights.shapes(paths[kind])
    assert shapes == {path: value.shape for path, value in expected.items()}
    assert shapes["classifier/kernel"] == (8, 3)


@pytest.mark.parametrize("kind", FORMATS)
def test_another_width_is_refused_and_changes_nothing(kind, sources):
    wider = networks(seed=1, width=1 / 8)
    before = values(wider)
    path = sources[1][kind]
    assert not weights.fits(path, wider.values())
    with pytest.raises(weights.CheckpointError, match=r"stem_conv/kernel has .* 4\).* 8\)"):
        weights.load(path, wider.values())
    # The encoder fits, the classifier does not: all or none.
    more = networks(seed=1, num_classes=5)
    before |= values(more)
    assert weights.fits(path, [more["encoder"], more["head"]])
    with pytest.raises(weights.CheckpointError, match="classifier/kernel"):
        weights.load(path, more.values())
    for name, value in {**values(wider), **values(more)}.items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)


@pytest.mark.parametrize("kind", FORMATS)
def test_other_channels_are_named(kind, sources):
    """Not the shape of a kernel; of another width, too, the shapes tell more."""
    others = networks(seed=1, channels=5)
    before = values(others)
    path = sources[1][kind]
    with pytest.raises(weights.CheckpointError) as caught:
        weights.load(path, others.values())
    assert str(caught.value).startswith("`channels` must be 3, as in the weights of `checkpoint`.")
    assert f"Received: channels=5, checkpoint={path}" in str(caught.value)
    for name, value in values(others).items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)
    with pytest.raises(weights.CheckpointError, match="has another network: stem_conv/kernel has"):
        weights.load(path, networks(seed=1, width=1 / 8, channels=5).values())


@pytest.mark.parametrize("kind", FORMATS)
def test_a_missing_head_is_noticed(kind, tmp_path):
    path = write(kind, tmp_path / "source", {"encoder": networks()["encoder"]})
    others = networks(seed=1)
    assert weights.fits(path, [others["encoder"]])
    assert not weights.fits(path, others.values())
    assert not any(name.startswith("projection") for name in weights.shapes(path))
    with pytest.raises(weights.CheckpointError, match="projection1_dense/kernel .* none"):
        weights.load(path, [others["encoder"], others["head"]])


@pytest.mark.parametrize("kind", FORMATS)
def test_fingerprint_tells_the_weights(kind, sources, tmp_path):
    fingerprint = weights.fingerprint(sources[1][kind])
    assert weights.fingerprint(copied(sources, kind, tmp_path)) == fingerprint
    seen = {fingerprint}
    models = networks()
    # All variables of an export are in one file, so any one of them is enough.
    changes = ALL if kind != "saved model" else ALL[2:]
    for changed in changes:
        variable = models[changed].weights[0]
        variable.assign(variable + 1.0)
        path = write(kind, tmp_path / changed, models)
        seen.add(weights.fingerprint(path))
    assert len(seen) == 1 + len(changes) and None not in seen


def test_the_same_files_written_later_have_the_same_fingerprint(sources, tmp_path):
    """A run that exports again must not look like another run to the runs that use it."""
    save_files(tmp_path, networks())
    with zipfile.ZipFile(tmp_path / "encoder.keras") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    metadata = json.loads(members["metadata.json"])
    members["metadata.json"] = json.dumps({**metadata, "date_saved": "later"}).encode()
    with zipfile.ZipFile(tmp_path / "encoder.keras", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    assert weights.fingerprint(str(tmp_path)) == weights.fingerprint(sources[1]["files"])


def test_a_runs_checkpoints_go_before_its_files(tmp_path):
    save_checkpoint(tmp_path / "checkpoints", networks(seed=2))
    save_files(tmp_path, networks(seed=3))
    for path, seed in ((tmp_path, 2), (tmp_path / "encoder.keras", 3)):
        expected = values(networks(seed))
        others = networks(seed=1)
        weights.load(str(path), others.values())
        for name, value in values(others).items():
            np.testing.assert_array_equal(value, expected[name], err_msg=name)


def test_a_keras_file_of_another_name_is_read_alone(sources, tmp_path):
    folder = copied(sources, "files", tmp_path)
    head = networks(seed=1)["head"]
    path = os.path.join(folder, "head.keras")
    weights.load(path, [head])
    for variable in head.weights:
        np.testing.assert_array_equal(variable, sources[0][variable.path])
    assert weights.shapes(path).keys() == {v.path for v in head.weights}
    os.rename(os.path.join(folder, "encoder.keras"), os.path.join(folder, "mine.keras"))
    mine = weights.shapes(os.path.join(folder, "mine.keras"))
    assert "stem_conv/kernel" in mine and "classifier/kernel" not in mine


def test_nothing_is_no_source(tmp_path):
    encoder = networks()["encoder"]
    for path in (tmp_path, tmp_path / "nowhere", tmp_path / "encoder.keras"):
        path = str(path)
        assert weights.fingerprint(path) is None
        assert not weights.fits(path, [encoder])
        for read in (lambda p: weights.load(p, [encoder]), weights.shapes):
            with pytest.raises(weights.CheckpointError, match="`checkpoint` .* none") as raised:
                read(path)
            assert path in str(raised.value) and "\n" not in str(raised.value)
    assert weights.fingerprint(None) is None


def fails(read):
    with pytest.raises(weights.CheckpointError) as raised:
        read()
    assert "\n" not in str(raised.value)
    return str(raised.value)


def without_weights(path):
    """Another model's file under this one's name: its config is whole, its weights are not."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in ("metadata.json", "config.json")}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def cut(path):
    content = open(path, "rb").read()
    with open(path, "wb") as file:
        file.write(content[: len(content) // 2])


def garble(path):
    content = bytearray(open(path, "rb").read())
    content[len(content) // 2] ^= 0xFF
    with open(path, "wb") as file:
        file.write(content)


def replace(path):
    with open(path, "wb") as file:
        file.write(b"nothing of the kind")


def empty(path):
    open(path, "wb").close()


@pytest.mark.parametrize(
    ("name", "damage"),
    [("encoder", damage) for damage in (without_weights, cut, garble, replace, empty)]
    + [("head", cut)],
)
def test_a_damaged_keras_file_is_an_error_of_ours(name, damage, sources, tmp_path):
    path = copied(sources, "files", tmp_path)
    damage(os.path.join(path, f"{name}.keras"))
    others = networks(seed=1)
    before = values(others)
    for read in (
        lambda: weights.load(path, others.values()),
        lambda: weights.shapes(path),
    ):
        message = fails(read)
        assert f"{name}.keras cannot be read" in message
    for variable, value in values(others).items():
        np.testing.assert_array_equal(value, before[variable])


@pytest.mark.parametrize("damage", [cut, garble, replace, empty, os.remove])
@pytest.mark.parametrize("suffix", ["index", "data-00000-of-00001"])
def test_a_damaged_saved_model_is_an_error_of_ours(suffix, damage, sources, tmp_path):
    path = copied(sources, "saved model", tmp_path)
    os.remove(os.path.join(path, sums.NAME))  # as earlier versions wrote it
    damage(os.path.join(path, "variables", f"variables.{suffix}"))
    others = networks(seed=1)
    before = values(others)
    assert "cannot be read" in fails(lambda: weights.load(path, others.values()))
    for variable, value in values(others).items():
        np.testing.assert_array_equal(value, before[variable])


@pytest.mark.parametrize(
    ("kind", "file"), [("saved model", "saved_model.pb"), ("files", "encoder.keras")]
)
def test_weights_of_a_file_that_was_changed_are_not_loaded(kind, file, sources, tmp_path):
    path = epath.Path(copied(sources, kind, tmp_path))
    if kind == "files":  # as the files of a run
        sums.write(path, list(path.glob("*.keras")))
    with (path / file).open("ab") as stream:
        stream.write(b"\0")  # both still load
    others = networks(seed=1)
    before = values(others)
    with pytest.raises(sums.SumError, match=f"{file} must be the exported file"):
        weights.load(str(path), others.values())
    for variable, value in values(others).items():
        np.testing.assert_array_equal(value, before[variable])


def test_sources_that_are_not_this_packages_say_so(tmp_path):
    module = tf.train.Checkpoint(variables=[tf.Variable(1.0)])
    tf.saved_model.save(module, str(tmp_path / "module"))
    tf.train.Checkpoint(other=tf.Variable(1.0)).save(str(tmp_path / "ckpt"))
    encoder = networks()["encoder"]
    for path in (str(tmp_path / "module"), str(tmp_path)):
        assert weights.fingerprint(path) is not None
        for read in (
            lambda path=path: weights.load(path, [encoder]),
            lambda path=path: weights.fits(path, [encoder]),
            lambda path=path: weights.shapes(path),
        ):
            message = fails(read)
            assert "has a name of the reference's encoder" in message and path in message


def test_exported_weights_are_the_modules_own_variables(sources):
    expected, paths = sources
    module = tf.saved_model.load(paths["saved model"])
    assert dict(module.weights).keys() == expected.keys()
    assert {id(v) for v in module.weights.values()} == {id(v) for v in module.variables}
    for path, variable in module.weights.items():
        np.testing.assert_array_equal(variable, expected[path], err_msg=path)
