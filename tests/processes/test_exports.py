"""Exports of every format: loaded where this package is not, converted, and predicted with."""

import functools
import http.server
import json
import shutil
import tarfile
import textwrap
import threading

import numpy as np
import pytest
import tensorflow as tf
from etils import epath

from helpers.command_line import files
from helpers.exported import CLASSES, IMAGES, assert_same, networks
from helpers.predictions import check_classes, outputs_of, run, write_model, write_photos
from helpers.processes import python
from simclrv2_tf import resnet
from simclrv2_tf.export import EXPORT_FORMATS, Artifacts
from simclrv2_tf.networks import Networks

FORMATS = ("onnx", "litert")
KINDS = ("image_classifier.onnx", "image_classifier.tflite")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Every format of a network with each kind of block; its models, and what they give."""
    models = networks(50, sk_ratio=0.0625, se_ratio=0.25, blocks=(2, 1))
    root = tmp_path_factory.mktemp("exported")
    # torchvision has no such network.
    formats = [name for name in EXPORT_FORMATS if name != "torchvision"]
    files = Artifacts(epath.Path(root), "7", labelled=True, formats=formats)
    files.write(Networks(*models, classifier_layer=1), 16, CLASSES)
    files.finish("# A card", 16)
    encoder, head, classifier = models
    expected = {k: v.numpy() for k, v in resnet.features(encoder)(IMAGES).items()}
    hiddens = [hidden.numpy() for hidden in head(expected["representation"])]
    expected |= {"projection1": hiddens[1], "projection2": hiddens[2], "projection": hiddens[3]}
    expected["logits"] = classifier(hiddens[1]).numpy()
    return files, models, expected


LOAD = textwrap.dedent(
    """
    import json, sys
    import keras, numpy as np, tensorflow as tf, tensorflow_hub as hub
    sys.modules["simclrv2_tf"] = None  # importing it fails
    images, labels = np.load(sys.argv[2]), np.array([0, 1, 2])
    module = hub.load(sys.argv[1])
    outputs = module.signatures["serving_default"](tf.constant(images))
    np.savez(sys.argv[3], call=module(images), **{k: v.numpy() for k, v in outputs.items()})
    module(np.zeros((2, 24, 40, 3), np.float32))  # another size

    def tune(weights, step):
        before = [v.numpy() for v in weights]
        losses = step()
        moved = [v.name for v, old in zip(weights, before) if np.any(v.numpy() != old)]
        return {"losses": losses, "moved": moved, "total": len(weights)}

    def by_hand():
        losses = []
        for _ in range(20):
            with tf.GradientTape() as tape:
                logits = module(images, training=True)
                loss = tf.reduce_mean(
                    tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
            gradients = tape.gradient(loss, module.trainable_variables)
            for gradient, variable in zip(gradients, module.trainable_variables, strict=True):
                variable.assign_sub(0.05 * gradient)  # every one has a gradient
            losses.append(float(loss))
        return losses

    found = {"hub.load": tune(module.variables, by_hand)}
    layer = keras.layers.TFSMLayer(
        sys.argv[1], call_endpoint="infer", call_training_endpoint="train")
    np.testing.assert_allclose(layer(images), np.load(sys.argv[3])["call"], rtol=1e-4, atol=1e-6)
    inputs = keras.Input((16, 16, 3))
    model = keras.Model(inputs, layer(inputs))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.05), loss, jit_compile=False)
    found["TFSMLayer"] = tune(
        layer.weights,
        lambda: model.fit(images, labels, epochs=20, verbose=0).history["loss"])
    found["labels"] = open(module.labels.asset_path.numpy()).read().split()
    found["inputs"] = json.load(open(module.inputs.asset_path.numpy()))
    print(json.dumps(found))
    """
)


def test_loads_and_fine_tunes_in_a_new_process_without_this_package(exported, tmp_path):
    """By `hub.load`, and as a Keras 3 layer."""
    files, models, expected = exported
    np.save(tmp_path / "images.npy", IMAGES)
    arguments = [files.module, tmp_path / "images.npy", tmp_path / "outputs.npz"]
    printed = python("-c", LOAD, *arguments, cwd=tmp_path)
    outputs = dict(np.load(tmp_path / "outputs.npz"))
    assert_same(outputs.pop("call"), expected["logits"], "call")
    assert outputs.keys() == expected.keys()
    for name, value in expected.items():
        assert_same(outputs[name], value, name)

    report = json.loads(printed.splitlines()[-1])
    for way in ("hub.load", "TFSMLayer"):
        losses, moved = report[way]["losses"], report[way]["moved"]
        assert losses[-1] < 0.5 * losses[0], losses
        assert any("kernel" in name for name in moved)
        assert any("moving_mean" in name for name in moved)
        assert report[way]["total"] == sum(len(m.weights) for m in models)
        # All kernels of the way to the logits, and nothing that is beyond the layer that is used.
        kernels = {name for name in moved if "kernel" in name}
        encoder, _, classifier = models
        ways = [v for m in (encoder, classifier) for v in m.weights if v.name == "kernel"]
        assert len(kernels) == len(ways) + 1
        assert not [name for name in moved if "projection2" in name or "projection3" in name]
    assert report["labels"] == list(CLASSES)
    assert report["inputs"]["image_size"] == 16


class _Files(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def test_the_archive_is_what_tf_hub_loads_from_an_address(exported, tmp_path, monkeypatch):
    import tensorflow_hub as hub

    files, _, expected = exported
    with tarfile.open(files.path("tar.gz")) as packed:
        assert {"saved_model.pb", "assets/labels.txt", "README.md"} < set(packed.getnames())
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path))
    handler = functools.partial(_Files, directory=str(files.path("tar.gz").parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        module = hub.load(f"http://127.0.0.1:{server.server_port}/7.tar.gz")
        server.shutdown()
    assert_same(module(IMAGES), expected["logits"])


def test_onnx_gives_the_same(exported):
    from onnx.reference import ReferenceEvaluator

    files, _, expected = exported
    model = ReferenceEvaluator(str(files.directory / "image_classifier.onnx"))
    (logits,) = model.run(None, {model.input_names[0]: IMAGES})
    assert_same(logits, expected["logits"])


def test_litert_gives_the_same(exported):
    files, _, expected = exported
    interpreter = tf.lite.Interpreter(str(files.directory / "image_classifier.tflite"))
    interpreter.allocate_tensors()
    (given,), (made,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert tuple(given["shape"]) == (1, 16, 16, 3)
    logits = []
    for image in IMAGES:
        interpreter.set_tensor(given["index"], image[None])
        interpreter.invoke()
        logits.append(interpreter.get_tensor(made["index"])[0])
    assert_same(np.stack(logits), expected["logits"])


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The folder of all files of a network, and the network."""
    return write_model(tmp_path_factory.mktemp("models") / "model", FORMATS)


@pytest.fixture(scope="module")
def photos(images, tmp_path_factory):
    return write_photos(tmp_path_factory.mktemp("photos") / "photos", images)


@pytest.fixture(scope="module")
def expected(model, photos):
    return outputs_of(model[1], photos)


@pytest.mark.parametrize("kind", KINDS)
def test_classes_from_every_file(kind, model, photos, expected, tmp_path, capsys):
    check_classes(model[0] / kind, photos, expected, tmp_path, capsys)


def test_bad_models_are_one_line_and_nothing_is_written(model, photos, tmp_path, capsys):
    root = model[0]
    lone = tmp_path / "lone"
    lone.mkdir()
    shutil.copy(root / "image_classifier.tflite", lone)
    renamed = tmp_path / "my_model.onnx"
    shutil.copy(root / "image_classifier.onnx", renamed)
    misnamed = tmp_path / "misnamed"
    misnamed.mkdir()
    shutil.copy(root / "image_classifier.tflite", misnamed)
    shutil.copy(root / "inputs.json", misnamed)
    (misnamed / "labels.txt").write_text("one\n")
    before = files(tmp_path)
    for given, message in (
        ({"model": root / "image_classifier.tflite", "image_size": 8}, "`image_size` must be 16"),
        (
            {"model": renamed, "image_size": 16},
            "must keep its exported name, encoder or image_classifier",
        ),
        ({"model": misnamed / "image_classifier.tflite"}, "must name its 3 classes"),
        ({"model": lone / "image_classifier.tflite"}, "`image_size` must be given"),
    ):
        arguments = [f"--{name}={value}" for name, value in ({"images": photos} | given).items()]
        assert run(*arguments) == 2, given
        assert message in capsys.readouterr().err.splitlines()[-1], given
    assert files(tmp_path) == before
