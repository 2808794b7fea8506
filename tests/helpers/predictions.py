"""A model whose files are predicted with, images, and what the model must give of them."""

import csv
import shutil

import keras
import numpy as np
import tensorflow as tf
from etils import epath

from simclrv2_tf import augment, datasets, heads, predict, resnet
from simclrv2_tf.export import Artifacts
from simclrv2_tf.networks import Networks

SIZE = 16
CLASSES = ("ant", "bee", "cat")


def write_model(root, formats=(), channels=3, **preprocessing):
    """Writes the files of networks of images of `channels` to `root`; returns it, and these."""
    keras.utils.set_random_seed(3)
    encoder = resnet.resnet(10, 1 / 16, image_size=SIZE, blocks=(1, 1), channels=channels)
    head = heads.projection_head(encoder.output_shape[-1], 2, 4)
    classifier = heads.classifier(encoder.output_shape[-1], 3)
    # Dark and light images have logits of differing signs, so that their classes differ.
    rng = np.random.default_rng(0)
    shades = np.array([0.25, 0.75], np.float32)[:, None, None, None] + rng.normal(
        0, 0.1, (2, SIZE, SIZE, channels)
    ).astype(np.float32)
    hidden = head(encoder(shades))[1].numpy()
    kernel = np.outer(hidden[1] - hidden[0], [1, -1, 0]) / np.sum((hidden[1] - hidden[0]) ** 2)
    classifier.set_weights([kernel, -hidden.mean(0) @ kernel])
    networks = Networks(encoder, head, classifier, classifier_layer=1)
    made = Artifacts(epath.Path(root), "3", True, formats)
    made.write(networks, SIZE, CLASSES, **preprocessing)
    made.finish("", SIZE)
    (root / "hub" / "unfinished-4").mkdir(parents=True)
    (root / "hub" / "unfinished-4" / "saved_model.pb").write_text("half of one")
    return root, networks


def write_photos(root, images):
    """The images of the fixture, one of them damaged, and a file that is none."""
    shutil.copytree(images, root)
    (root / "train" / "dark" / "0.png").write_bytes(b"no image")
    (root / "notes.txt").write_text("no image either")
    return root


def outputs_of(networks, photos):
    """Paths, representations and probabilities, image by image."""
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


def check_classes(path, photos, expected, tmp_path, capsys):
    """Predicts classes by the command line, and compares them."""
    target = tmp_path / "classes.csv"
    arguments = [f"--model={path}", f"--images={photos}", f"--output={target}", "--batch_size=5"]
    assert run(*arguments, "--top_k=2") == 0
    assert "the classes of 33 images" in capsys.readouterr().out
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
