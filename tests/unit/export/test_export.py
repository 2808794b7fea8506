"""Exports: endpoints, formats, the files of a run, and the model card."""

import dataclasses
import importlib
import pathlib
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from etils import epath

from helpers.exported import CLASSES, IMAGES, assert_same, networks
from simclrv2_tf import heads, weights
from simclrv2_tf.export import (
    EXPORT_FORMATS,
    Artifacts,
    ExportError,
    ModelError,
    check_formats,
    export,
    formats,
    keras_file,
    load_model,
)
from simclrv2_tf.export.model_card import public
from simclrv2_tf.networks import Networks
from simclrv2_tf.resnet import resnet
from simclrv2_tf.sums import NAME, SumError


def test_what_a_format_needs_is_asked_for_before_anything_is_written(monkeypatch):
    monkeypatch.setattr(formats.importlib.util, "find_spec", lambda name: None)
    check_formats(["tar.gz", "litert"])
    with pytest.raises(ExportError, match="tf2onnx, .*simclrv2-tf.onnx"):
        check_formats(["tar.gz", "onnx"])


def test_older_ones_go_with_their_archives(tmp_path):
    hub = tmp_path / "hub"
    for name in ("9", "10", "11", "notes"):
        (hub / name).mkdir(parents=True)
        (hub / f"{name}.tar.gz").write_text("packed")
    (hub / "unfinished-12").mkdir()
    files = Artifacts(epath.Path(tmp_path), "11", labelled=False)
    files.remove_older(keep=0)
    assert len(list(hub.iterdir())) == 9
    files.remove_older(keep=2)
    expected = {f"{name}{suffix}" for name in ("10", "11", "notes") for suffix in ("", ".tar.gz")}
    expected.add("unfinished-12")
    assert {path.name for path in hub.iterdir()} == expected


def test_endpoints_follow_what_is_given(tmp_path):
    encoder, head, _ = networks()
    export(str(tmp_path / "a"), encoder)
    module = tf.saved_model.load(str(tmp_path / "a"))
    assert set(module.signatures) == {"serving_default", "features", "representation"}
    np.testing.assert_allclose(module(IMAGES), encoder(IMAGES), rtol=1e-4, atol=1e-6)
    export(str(tmp_path / "b"), encoder, head, output="projection")
    module = tf.saved_model.load(str(tmp_path / "b"))
    expected = head(encoder(IMAGES))[-1]
    np.testing.assert_allclose(module(IMAGES), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(module.infer(IMAGES), expected, rtol=1e-4, atol=1e-5)
    predictor = heads.predictor(head.outputs[-1].shape[-1], 5)
    export(str(tmp_path / "c"), encoder, head, predictor=predictor)
    outputs = tf.saved_model.load(str(tmp_path / "c")).signatures["prediction"](images=IMAGES)
    np.testing.assert_allclose(outputs["prediction"], predictor(expected), rtol=1e-4, atol=1e-5)
    assert list(module.regularization_losses) == []
    assert not hasattr(module, "labels")


@pytest.mark.parametrize("antialias", [True, False])
def test_the_resizing_of_images_is_noted_with_every_file(antialias, tmp_path):
    encoder, _, _ = networks()
    files = Artifacts(epath.Path(tmp_path), "1", False, ("saved_model",))
    files.write(Networks(encoder, None, None), 16, (), antialias=antialias)
    for path in ("encoder.keras", "hub/1"):
        assert load_model(str(tmp_path / path)).antialias is antialias
    # Files of earlier versions do not say.
    (tmp_path / "inputs.json").write_text('{"image_size": 16}')
    model = load_model(str(tmp_path / "encoder.keras"))
    assert (model.image_size, model.antialias) == (16, False)


def test_bad_arguments(tmp_path):
    encoder, _, classifier = networks()
    with pytest.raises(ValueError, match="classifier_layer=1"):
        export(str(tmp_path / "a"), encoder, None, classifier, classifier_layer=1)
    with pytest.raises(ValueError, match="output='logits'"):
        export(str(tmp_path / "a"), encoder, output="logits")
    with pytest.raises(ValueError, match="Received: 3 names"):
        export(str(tmp_path / "a"), encoder, None, classifier, class_names=CLASSES[:3])
    assert not (tmp_path / "a").exists()


def test_a_converter_that_fails_leaves_all_else(tmp_path, monkeypatch):
    encoder, _, _ = networks()
    files = Artifacts(epath.Path(tmp_path), "1", labelled=False, formats=("litert",))
    files.write(Networks(encoder, None, None), 16, ())

    def fail(*_, **__):
        raise RuntimeError("no such operation\nand so on")

    monkeypatch.setattr(keras.Model, "export", fail)
    with pytest.raises(ExportError, match="encoder.tflite .no such operation."):
        files.finish("card", 16)
    assert not files.finished() and files.written(Networks(encoder, None, None))
    names = {"encoder.keras", "inputs.json", "README.md"}  # no sums before all is written
    assert {path.name for path in tmp_path.iterdir()} == names


def test_every_format_is_a_row(tmp_path):
    """Of one suffix each, so that a file is read as what it was written as."""
    assert EXPORT_FORMATS == (
        "keras", "saved_model", "tar.gz", "onnx", "litert", "torchvision", "safetensors",
    )  # fmt: skip
    files = Artifacts(epath.Path(tmp_path), "7", labelled=True)
    found = {name: str(files.path(name).relative_to(tmp_path)) for name in EXPORT_FORMATS}
    assert found == {
        "keras": "image_classifier.keras",
        "saved_model": "hub/7",
        "tar.gz": "hub/7.tar.gz",
        "onnx": "image_classifier.onnx",
        "litert": "image_classifier.tflite",
        "torchvision": "image_classifier.torchvision.safetensors",
        "safetensors": "image_classifier.safetensors",
    }
    for name in set(EXPORT_FORMATS) - {"saved_model"}:
        assert formats.of_file(files.path(name)).name == name
    assert formats.of_file(epath.Path("encoder.keras")).name == "keras"
    assert formats.of_file(epath.Path("photo.png")) is None


def test_a_format_takes_one_row(tmp_path, monkeypatch):
    """Its file is written, found missing, replaced with other weights, and read."""

    def write(source, path, image_size):
        path.write_text(f"{source.name} {image_size}")

    def read(path):
        return dataclasses.replace(formats.keras_file.read(path.with_suffix(".keras")), loaded=None)

    monkeypatch.setitem(formats.FORMATS, "new", formats.Format("new", ".new", read, write))
    encoder, _, _ = networks()
    files = Artifacts(epath.Path(tmp_path), "1", False, ("new",))
    files.write(Networks(encoder, None, None), 16, ())
    assert not files.finished()
    files.finish("card", 16)
    assert files.finished() and (tmp_path / "encoder.new").read_text() == "encoder.keras 16"
    model = load_model(str(tmp_path / "encoder.new"))
    assert (model.endpoints, model.image_size, model.loaded) == (("representation",), 16, None)
    outputs = model.outputs(IMAGES, ["representation"])
    np.testing.assert_array_equal(outputs["representation"], encoder(IMAGES))
    files.write(Networks(encoder, None, None), 16, ())
    assert not files.finished()


def test_what_is_no_model_is_said(tmp_path):
    (tmp_path / "photo.png").write_text("no model")
    for path in ("photo.png", "nothing", "."):
        with pytest.raises(ModelError, match="`teacher` must be a run's folder, a SavedModel's"):
            load_model(str(tmp_path / path), option="teacher")
    (tmp_path / "saved_model.pb").write_text("no model")
    with pytest.raises(ModelError, match="`model` must be readable"):
        load_model(str(tmp_path))


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory):
    """A network as `.keras` files and a SavedModel, in a folder whose name is a pattern."""
    folder = tmp_path_factory.mktemp("artifacts") / "run [1] *?"
    models = Networks(*networks(), classifier_layer=1)
    files = Artifacts(epath.Path(folder), "7", labelled=True, formats=("tar.gz", "litert"))
    files.write(models, 16, CLASSES)
    files.finish("card", 16)
    expected = models.image_classifier()(IMAGES).numpy()
    return files, expected


@pytest.mark.parametrize("name", ["keras", "saved_model", "tar.gz", "litert"])
def test_a_folder_may_have_any_name(name, artifacts):
    files, expected = artifacts
    model = load_model(str(files.path(name)))
    assert_same(model.outputs(IMAGES, ["logits"])["logits"], expected)
    assert model.class_names == CLASSES


@pytest.mark.parametrize(
    ("source", "file"),
    [
        ("image_classifier.keras", "image_classifier.keras"),
        ("image_classifier.keras", "inputs.json"),
        ("image_classifier.tflite", "image_classifier.tflite"),
        ("hub/7", "hub/7/saved_model.pb"),
        ("hub/7", "hub/7/assets/labels.txt"),
        ("hub/7", "hub/7/variables/variables.data-00000-of-00001"),
    ],
)
def test_a_file_that_was_changed_is_refused(source, file, artifacts, tmp_path):
    """Whatever changed: a graph with another constant loads, and computes something else."""
    shutil.copytree(artifacts[0].directory, tmp_path / "run")
    content = bytearray((tmp_path / "run" / file).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "run" / file).write_bytes(content)
    with pytest.raises(SumError, match=f"{file} must be the exported file"):
        load_model(str(tmp_path / "run" / source))


def test_sums_are_of_the_files_that_lie_there(artifacts):
    files, _ = artifacts
    folder = files.directory
    listed = {line.split("  ")[1] for line in (folder / NAME).read_text().splitlines()}
    present = {path.name for path in folder.iterdir() if path.is_file()}
    assert listed == present - {NAME, "README.md", "labels.txt"}  # which may be edited
    listed = {line.split("  ")[1] for line in (files.module / NAME).read_text().splitlines()}
    paths = (path for path in pathlib.Path(files.module).rglob("*") if path.is_file())
    present = {path.relative_to(files.module).as_posix() for path in paths}
    assert listed == present - {NAME, "README.md"}


def test_a_keras_file_with_code_is_refused(tmp_path):
    """A Lambda layer holds Python bytecode, which Keras's safe mode does not read."""
    images = keras.Input((16, 16, 3))
    keras.Model(images, keras.layers.Lambda(lambda x: x[:, 0, 0])(images)).save(
        tmp_path / "encoder.keras"
    )
    with pytest.raises(ModelError, match="`model` must be readable .*Lambda"):
        load_model(str(tmp_path / "encoder.keras"))
    with pytest.raises(weights.CheckpointError, match=r"encoder\.keras cannot be read .*Lambda"):
        weights.load(str(tmp_path / "encoder.keras"), [])


def test_whose_graph_runs_is_said(artifacts, tmp_path, caplog):
    files, _ = artifacts
    folder = shutil.copytree(files.directory, tmp_path / "run")
    load_model(str(folder / "hub" / "7"))
    assert "its own graph runs. Load only those whose source you trust" in caplog.text
    caplog.clear()
    (folder / "config.json").write_text("{}")  # a run of one's own
    load_model(str(folder / "hub" / "7"))
    load_model(str(folder / "image_classifier.keras"))
    assert not caplog.text


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/home/me/photos/", "photos"),
        ("~/runs/a", "a"),
        ("folder:/data/photos", "folder:photos"),
        ("folder:photos/all", "folder:photos/all"),
        ("runs/demo/pretrain", "runs/demo/pretrain"),
        ("gs://bucket/model", "gs://bucket/model"),
        ("cifar10", "cifar10"),
    ],
)
def test_a_card_tells_no_folders_of_the_machine(path, said):
    assert public(path) == said


def test_no_layer_is_made_for_each_one_that_is_saved(tmp_path, monkeypatch):
    encoder = resnet(depth=18, width_multiplier=0.0625, image_size=8)
    keras_file.keep_skipped_names()
    made, make = [], keras.layers.Layer.__init__

    def counted(self, *args, **kwargs):
        made.append(self)
        make(self, *args, **kwargs)

    monkeypatch.setattr(keras.layers.Layer, "__init__", counted)
    encoder.save(tmp_path / "encoder.keras")
    assert not made
    loaded = keras.saving.load_model(tmp_path / "encoder.keras")
    for ours, theirs in zip(encoder.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_another_keras_is_left_alone(monkeypatch):
    found = importlib.import_module
    state = found("keras.src.backend.common.global_state")
    state.set_global_attribute("saving_attr_skiplist_Layer", None)
    for error in (ImportError, AttributeError):

        def other(name, error=error):
            if name.startswith("keras.src"):
                raise error(name)
            return found(name)

        monkeypatch.setattr(importlib, "import_module", other)
        keras_file.keep_skipped_names()
        assert state.get_global_attribute("saving_attr_skiplist_Layer") is None
