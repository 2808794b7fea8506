"""Exports loaded where this package is not: same outputs, and fine-tuning that trains them."""

import dataclasses
import functools
import http.server
import json
import subprocess
import sys
import tarfile
import textwrap
import threading

import keras
import numpy as np
import pytest
import tensorflow as tf
from etils import epath

from helpers.command_line import SMALL, files, result
from simclrv2_tf import heads, resnet, run
from simclrv2_tf.export import (
    EXPORT_FORMATS,
    Artifacts,
    ExportError,
    check_formats,
    export,
    formats,
)
from simclrv2_tf.export.model_card import public
from simclrv2_tf.networks import Networks

CLASSES = ("ant", "bee", "cat", "dog")
IMAGES = np.random.default_rng(0).random((3, 16, 16, 3), dtype=np.float32)


def networks(depth=10, **options):
    keras.utils.set_random_seed(1)
    encoder = resnet.resnet(depth, 1 / 16, image_size=16, **options)
    head = heads.projection_head(encoder.output_shape[-1], 3, 8)
    classifier = heads.classifier(encoder.output_shape[-1], 4)
    for model in (encoder, head):  # as after some training: no branch is switched off
        for variable in model.weights:
            if variable.path.endswith("gamma"):
                variable.assign(keras.random.uniform(variable.shape, 0.5, 1.0, seed=2))
    return encoder, head, classifier


@pytest.fixture(scope="module")
def exported(tmp_path_factory, short_networks):
    """Every format of a network with each kind of block; its models, and what they give."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(resnet.BLOCKS, 50, (2, 1, 0, 0))
        models = networks(50, sk_ratio=0.0625, se_ratio=0.25)
    root = tmp_path_factory.mktemp("exported")
    files = Artifacts(epath.Path(root), "7", labelled=True, formats=EXPORT_FORMATS)
    files.write(Networks(*models, classifier_layer=1), 16, CLASSES)
    files.finish("# A card", 16)
    encoder, head, classifier = models
    expected = {k: v.numpy() for k, v in resnet.features(encoder)(IMAGES).items()}
    hiddens = [hidden.numpy() for hidden in head(expected["representation"])]
    expected |= {"projection1": hiddens[1], "projection2": hiddens[2], "projection": hiddens[3]}
    expected["logits"] = classifier(hiddens[1]).numpy()
    return files, models, expected


def assert_same(got, expected, name=""):
    np.testing.assert_allclose(got, expected, atol=1e-5 * np.abs(expected).max(), err_msg=name)


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
    arguments = [str(files.module), str(tmp_path / "images.npy"), str(tmp_path / "outputs.npz")]
    done = subprocess.run(
        [sys.executable, "-c", LOAD, *arguments], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr[-3000:]
    outputs = dict(np.load(tmp_path / "outputs.npz"))
    assert_same(outputs.pop("call"), expected["logits"], "call")
    assert outputs.keys() == expected.keys()
    for name, value in expected.items():
        assert_same(outputs[name], value, name)

    report = json.loads(done.stdout.splitlines()[-1])
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
    assert list(module.regularization_losses) == []
    assert not hasattr(module, "labels")


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
    files = Artifacts(
        epath.Path(tmp_path), "1", labelled=False, formats=("litert",), saved_model=False
    )
    files.write(Networks(encoder, None, None), 16, ())

    def fail(*_, **__):
        raise RuntimeError("no such operation\nand so on")

    monkeypatch.setattr(keras.Model, "export", fail)
    with pytest.raises(ExportError, match="encoder.tflite .no such operation."):
        files.finish("card", 16)
    assert not files.finished() and files.written(Networks(encoder, None, None))
    names = {"encoder.keras", "inputs.json", "hub"}
    assert {path.name for path in tmp_path.iterdir()} == names


def test_another_format_of_a_finished_run_changes_nothing_else(
    images, tmp_path, monkeypatch, short_networks
):
    """Nor does a kill while it is written."""
    command = ["run", "--mode=train_then_eval", "--train_mode=supervised", *SMALL]
    command += [f"--dataset=folder:{images}", "--train_steps=2", f"--model_dir={tmp_path}"]
    assert run.main(command) == 0
    card = (tmp_path / "hub" / "2" / "README.md").read_text()
    value = result(tmp_path)["label_top_1_accuracy"]
    for text in (f"| top-1 accuracy | {value:.4f} |", "(10 images)", "dark, light", "random"):
        assert text in card
    assert f"folder:{images.name}, " in card and str(images.parent) not in card
    before = files_of(tmp_path)

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        row = dataclasses.replace(formats.FORMATS["tar.gz"], write=killed)
        patch.setitem(formats.FORMATS, "tar.gz", row)
        assert run.main([*command, "--export_formats=tar.gz"]) == 130
    assert run.main([*command, "--export_formats=tar.gz"]) == 0
    with tarfile.open(tmp_path / "hub" / "2.tar.gz") as packed:
        assert packed.extractfile("README.md").read().decode() == card
    after = files_of(tmp_path)
    changed = {path for path in after if after[path] != before.get(path)}
    assert before.keys() < after.keys()
    assert {path.name for path in changed} == {"config.json", "2.tar.gz"}


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


def files_of(folder):
    """Without logs, to which an evaluation adds."""
    return {path: data for path, data in files(folder).items() if "logs" not in path.parts}
