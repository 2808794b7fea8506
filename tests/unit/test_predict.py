"""Classes and embeddings by the command line, from every file that an export leaves."""

import csv
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from etils import epath

from helpers.command_line import files
from simclrv2_tf import augment, datasets, heads, predict, resnet
from simclrv2_tf.export import Artifacts, top_classes
from simclrv2_tf.networks import Networks

SIZE = 16
CLASSES = ("ant", "bee", "cat")
KINDS = ("", "hub/3", "hub/3.tar.gz", "image_classifier.keras", "image_classifier.onnx")
KINDS += ("image_classifier.tflite",)


@pytest.fixture(scope="module")
def model(tmp_path_factory, short_networks):
    """The folder of all files of a network, and the network."""
    keras.utils.set_random_seed(3)
    encoder = resnet.resnet(10, 1 / 16, image_size=SIZE)
    head = heads.projection_head(encoder.output_shape[-1], 2, 4)
    classifier = heads.classifier(encoder.output_shape[-1], 3)
    # Dark and light images have logits of differing signs, so that their classes differ.
    rng = np.random.default_rng(0)
    shades = np.array([0.25, 0.75], np.float32)[:, None, None, None] + rng.normal(
        0, 0.1, (2, SIZE, SIZE, 3)
    ).astype(np.float32)
    hidden = head(encoder(shades))[1].numpy()
    kernel = np.outer(hidden[1] - hidden[0], [1, -1, 0]) / np.sum((hidden[1] - hidden[0]) ** 2)
    classifier.set_weights([kernel, -hidden.mean(0) @ kernel])
    root = tmp_path_factory.mktemp("models") / "model"
    networks = Networks(encoder, head, classifier, classifier_layer=1)
    made = Artifacts(epath.Path(root), "3", True, ("tar.gz", "onnx", "litert"))
    made.write(networks, SIZE, CLASSES)
    made.finish("", SIZE)
    (root / "hub" / "unfinished-4").mkdir()
    (root / "hub" / "unfinished-4" / "saved_model.pb").write_text("half of one")
    return root, networks


@pytest.fixture(scope="module")
def photos(images, tmp_path_factory):
    """The images of the fixture, one of them damaged, and a file that is none."""
    root = tmp_path_factory.mktemp("photos") / "photos"
    shutil.copytree(images, root)
    (root / "train" / "dark" / "0.png").write_bytes(b"no image")
    (root / "notes.txt").write_text("no image either")
    return root


@pytest.fixture(scope="module")
def expected(model, photos):
    """Paths, representations and probabilities, image by image."""
    networks = model[1]
    paths = sorted(str(p.relative_to(photos)) for p in photos.glob("**/*.png"))
    paths.remove("train/dark/0.png")
    found = []
    for path in paths:
        pixels = datasets.decode_rgb(tf.io.read_file(str(photos / path)))
        image = augment.evaluation_image(pixels, SIZE)[None]
        representation = networks.encoder(image)
        hidden = networks.head(representation)[1]
        probabilities = keras.ops.softmax(networks.classifier(hidden))
        found.append([x.numpy()[0] for x in (representation, hidden, probabilities)])
    return (paths, *map(np.stack, zip(*found, strict=True)))


def run(*arguments):
    return predict.main([str(argument) for argument in arguments])


@pytest.mark.parametrize("kind", KINDS)
def test_classes_from_every_file(kind, model, photos, expected, tmp_path, capsys):
    target = tmp_path / "classes.csv"
    path = model[0] / kind
    arguments = [f"--model={path}", f"--images={photos}", f"--output={target}", "--batch_size=5"]
    assert run(*arguments, "--top_k=2") == 0
    assert "33 images' classes" in capsys.readouterr().out
    with target.open() as file:
        rows = list(csv.DictReader(file))
    paths, _, _, probabilities = expected
    assert [row["file"] for row in rows] == [path for path in paths for _ in range(2)]
    assert [row["rank"] for row in rows] == ["1", "2"] * len(paths)
    order = np.argsort(-probabilities, axis=1)[:, :2]
    assert [row["class"] for row in rows] == [CLASSES[k] for best in order for k in best]
    got = [float(row["probability"]) for row in rows]
    best = np.take_along_axis(probabilities, order, 1).ravel()
    np.testing.assert_allclose(got, best, atol=2e-6)
    assert len(set(order[:, 0])) > 1, "all images have one class: nothing is compared"


def test_embeddings(model, photos, expected, tmp_path, capsys, caplog):
    paths, representations, hidden, _ = expected
    common = [f"--model={model[0]}", f"--images={photos}"]
    target = tmp_path / "representations.npy"
    assert run(*common, f"--embeddings={target}", "--batch_size=7") == 0
    np.testing.assert_allclose(np.load(target), representations, rtol=1e-4, atol=1e-6)
    assert target.with_suffix(".txt").read_text().split("\n") == [*paths, ""]
    target = tmp_path / "hidden.csv"
    assert run(*common, f"--embeddings={target}", "--endpoint=projection1") == 0
    with target.open() as file:
        header, *rows = csv.reader(file)
    assert header == ["file", *map(str, range(hidden.shape[1]))]
    assert [row[0] for row in rows] == paths
    np.testing.assert_allclose(
        [[float(x) for x in r[1:]] for r in rows], hidden, rtol=1e-4, atol=1e-7
    )
    assert "train/dark/0.png" in caplog.text
    assert "1 unreadable image(s) were skipped" in capsys.readouterr().out


def test_one_image_of_the_working_directory_is_printed(
    model, photos, expected, tmp_path, capsys, monkeypatch
):
    paths, *_, probabilities = expected
    shutil.copy(photos / paths[0], tmp_path / "photo.png")
    monkeypatch.chdir(tmp_path)
    assert run(f"--model={model[0]}", "--images=photo.png") == 0
    best = np.argsort(-probabilities[0])
    line = "  ".join(["photo.png", *(f"{CLASSES[k]} {probabilities[0][k]:.3f}" for k in best)])
    assert capsys.readouterr().out.splitlines()[-1] == line


def test_ties_and_large_logits():
    found = top_classes([[1e4, 0.0, 1e4], [0.0, -1e4, 1.0]], (), 2)
    assert found[0] == [("0", 0.5), ("2", 0.5)]
    assert [name for name, _ in found[1]] == ["2", "0"]
    assert top_classes([[2.0]], ("only",), 5) == [[("only", 1.0)]]


def test_bad_input_is_one_line_and_nothing_is_written(model, photos, tmp_path, capsys):
    root = model[0]
    kept = tmp_path / "kept.csv"
    kept.write_text("mine")
    (tmp_path / "kept_too.txt").write_text("mine")
    empty = tmp_path / "empty"
    (empty / "sub").mkdir(parents=True)
    broken = tmp_path / "image_classifier.keras"
    broken.write_text("not a model")
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
    tflite = root / "image_classifier.tflite"
    before = files(tmp_path)
    common = {"model": root, "images": photos}
    for given, message in (
        ({"output": kept}, "is there already"),
        ({"embeddings": tmp_path / "e.txt"}, "must end in .npy or .csv"),
        ({"embeddings": tmp_path / "kept_too.npy"}, "kept_too.txt is there already"),
        ({"output": tmp_path / "a.csv", "embeddings": tmp_path / "a.csv"}, "a name of its own"),
        ({"output": tmp_path / "no" / "a.csv"}, "There is no folder for"),
        ({"model": tflite, "image_size": 8}, "`image_size` must be 16"),
        ({"model": renamed, "image_size": 16}, "must be called encoder or image_classifier"),
        ({"model": misnamed / "image_classifier.tflite"}, "must name its 3 classes"),
        ({"embeddings": tmp_path / "e.npy", "endpoint": "tail"}, "`endpoint` must be one of"),
        ({"model": root / "encoder.keras"}, "`embeddings`, and no `output`, must be given"),
        ({"model": root / "head.keras"}, "must take images"),
        ({"model": broken}, "must be readable"),
        ({"model": root.parent}, f"In it there are {root}"),
        ({"model": tmp_path / "nowhere"}, "`model` must be"),
        ({"model": lone / "image_classifier.tflite"}, "`image_size` must be given"),
        ({"images": tmp_path / "nowhere"}, "existing folder or file"),
        ({"images": empty}, "must hold some"),
        ({"images": photos / "notes.txt"}, "can be read"),
    ):
        arguments = [f"--{name}={value}" for name, value in (common | given).items()]
        assert run(*arguments) == 2, given
        assert message in capsys.readouterr().err.splitlines()[-1], given
    assert files(tmp_path) == before
    assert run(*(f"--{k}={v}" for k, v in common.items()), f"--output={kept}", "--overwrite") == 0
    assert kept.read_text() != "mine"
