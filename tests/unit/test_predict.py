"""Classes and embeddings by the command line, and what cannot be predicted."""

import csv
import dataclasses
import json
import shutil
import weakref

import keras
import numpy as np
import PIL.Image
import pytest
import tensorflow as tf
import tifffile

from helpers.command_line import files
from helpers.predictions import (
    CLASSES,
    SIZE,
    check_classes,
    outputs_of,
    run,
    write_model,
    write_photos,
)
from simclrv2_tf import augment, datasets, predict
from simclrv2_tf.predict import top_classes

# Others have to be converted first: tests/processes/test_exports.py.
FORMATS = ("tar.gz",)
KINDS = ("", "hub/3", "hub/3.tar.gz", "image_classifier.keras")


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


def test_a_run_without_a_saved_model_predicts_by_its_keras_file(
    model, photos, expected, tmp_path, capsys
):
    folder = tmp_path / "model"
    shutil.copytree(model[0], folder)
    shutil.rmtree(folder / "hub")
    check_classes(folder, photos, expected, tmp_path, capsys)


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


@pytest.mark.parametrize("antialias", [True, False])
def test_images_are_resized_as_the_model_says(model, antialias, tmp_path, capsys):
    folder, networks = tmp_path / "model", model[1]
    shutil.copytree(model[0], folder)
    shutil.rmtree(folder / "hub")
    (folder / "SHA256SUMS").unlink()
    (folder / "inputs.json").write_text(json.dumps({"image_size": SIZE, "antialias": antialias}))
    pixels = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
    PIL.Image.fromarray(pixels).save(tmp_path / "image.png")
    target = tmp_path / "found.npy"
    files = [f"--images={tmp_path / 'image.png'}", f"--embeddings={target}"]
    assert run(f"--model={folder / 'encoder.keras'}", *files) == 0
    # Pillow always antialiases; at 16 pixels the whole image is in.
    resized = tf.image.resize(pixels / np.float32(255), (SIZE, SIZE), "bicubic")
    if antialias:
        channels = [PIL.Image.fromarray(pixels[..., c] / np.float32(255)) for c in range(3)]
        channels = [c.resize((SIZE, SIZE), PIL.Image.Resampling.BICUBIC) for c in channels]
        resized = np.stack([np.asarray(channel) for channel in channels], axis=-1)
    expected = networks.encoder(np.clip(resized, 0, 1)[None])
    np.testing.assert_allclose(np.load(target), expected, rtol=1e-4, atol=1e-5)


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


def write_both(model, photos, folder, *flags):
    """Writes classes, and embeddings in the two formats, to files of `folder`."""
    common = [f"--model={model[0]}", f"--images={photos}", "--overwrite", "--batch_size=4"]
    status = run(*common, f"--output={folder}/c.csv", f"--embeddings={folder}/e.npy", *flags)
    return status or run(*common, f"--embeddings={folder}/e.csv", *flags)


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError("disk full"), MemoryError])
def test_what_stops_it_leaves_earlier_files_as_they_were(
    error, model, photos, tmp_path, monkeypatch
):
    assert write_both(model, photos, tmp_path) == 0
    before = files(tmp_path)
    assert {p.name for p in before} == {"c.csv", "e.npy", "e.txt", "e.csv"}
    found, batches = predict.load_model(str(model[0])), []

    def outputs(images, names):
        batches.append(len(images))
        if len(batches) == 4:
            raise error
        return found.outputs(images, names)

    broken = dataclasses.replace(found, outputs=outputs)
    monkeypatch.setattr(predict, "load_model", lambda path: broken)
    for flags in (["--output=c.csv"], ["--embeddings=e.npy"], ["--embeddings=e.csv"]):
        batches.clear()
        monkeypatch.chdir(tmp_path)
        arguments = ["--model=x", f"--images={photos}", "--overwrite", "--batch_size=4", *flags]
        if isinstance(error, type) and error is MemoryError:
            with pytest.raises(MemoryError):
                run(*arguments)
        else:
            assert run(*arguments) == (130 if error is KeyboardInterrupt else 2)
        assert len(batches) == 4
        assert files(tmp_path) == before


def test_no_more_than_a_batch_is_held(model, photos, tmp_path, monkeypatch):
    """What was written is dropped: the memory does not grow with the number of images."""
    found, made, most = predict.load_model(str(model[0])), [], []

    class Held(list):
        """A list that can be referred to weakly."""

    def outputs(images, names):
        most.append(sum(reference() is not None for reference in made))
        values = found.outputs(images, names)
        made.extend(map(weakref.ref, values.values()))
        return values

    def top(*arguments):
        rows = [Held(best) for best in top_classes(*arguments)]
        made.extend(map(weakref.ref, rows))
        return rows

    counted = dataclasses.replace(found, outputs=outputs)
    monkeypatch.setattr(predict, "load_model", lambda path: counted)
    monkeypatch.setattr(predict, "top_classes", top)
    assert write_both(model, photos, tmp_path) == 0
    assert len(most) > 10 and len(made) > 50
    assert max(most) <= 2 * (4 + 2)  # rows and arrays of at most two batches


def test_a_folder_is_never_replaced(model, photos, tmp_path, capsys):
    (tmp_path / "c.csv").mkdir()
    (tmp_path / "c.csv" / "mine").write_text("mine")
    before = files(tmp_path)
    common = [f"--model={model[0]}", f"--images={photos}", "--overwrite"]
    assert run(*common, f"--output={tmp_path / 'c.csv'}") == 2
    assert "and is not a file" in capsys.readouterr().err
    assert files(tmp_path) == before


def test_a_link_leads_to_the_new_file(model, photos, tmp_path):
    (tmp_path / "there").mkdir()
    link = tmp_path / "c.csv"
    link.symlink_to("there/c.csv")
    (tmp_path / "there" / "c.csv").write_text("old")
    common = [f"--model={model[0]}", f"--images={photos}", "--overwrite"]
    assert run(*common, f"--output={link}") == 0
    assert link.is_symlink() and link.read_text().startswith("file,rank")


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
    shutil.copy(root / "image_classifier.keras", lone)
    renamed = tmp_path / "my_model.keras"
    images, logits = keras.Input((None, None, 3)), keras.layers.GlobalAveragePooling2D()
    keras.Model(images, logits(images), name="mine").save(renamed)
    misnamed = tmp_path / "misnamed"
    misnamed.mkdir()
    shutil.copy(root / "image_classifier.keras", misnamed)
    shutil.copy(root / "inputs.json", misnamed)
    (misnamed / "labels.txt").write_text("one\n")
    before = files(tmp_path)
    common = {"model": root, "images": photos}
    for given, message in (
        ({"output": kept}, "already exists"),
        ({"embeddings": tmp_path / "e.txt"}, "must end in .npy or .csv"),
        ({"embeddings": tmp_path / "kept_too.npy"}, "kept_too.txt already exists"),
        (
            {"output": tmp_path / "a.csv", "embeddings": tmp_path / "a.csv"},
            "must have different names",
        ),
        ({"output": tmp_path / "no" / "a.csv"}, "does not exist. Create it"),
        (
            {"model": renamed, "image_size": 16},
            "must keep its exported name, encoder or image_classifier",
        ),
        ({"model": misnamed / "image_classifier.keras"}, "must name its 3 classes"),
        ({"embeddings": tmp_path / "e.npy", "endpoint": "tail"}, "`endpoint` must be one of"),
        ({"model": root / "encoder.keras"}, "`embeddings`, not `output`, must be given"),
        ({"model": root / "head.keras"}, "must accept images"),
        ({"model": broken}, "must be readable"),
        ({"model": root.parent}, f"It contains {root}"),
        ({"model": tmp_path / "nowhere"}, "`model` must be"),
        ({"model": lone / "image_classifier.keras"}, "`image_size` must be given"),
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


def write_mixed_photos(root):
    """Images of many formats, orientations, sizes and depths, in one class folder."""
    folder = root / "all"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(5)
    pixels = np.kron(rng.integers(0, 256, (9, 12, 3), np.uint8), np.ones((9, 7, 1), np.uint8))
    photo = PIL.Image.fromarray(pixels)
    for orientation in (1, 3, 6):
        exif = PIL.Image.Exif()
        exif[0x0112] = orientation
        photo.save(folder / f"turned{orientation}.jpg", exif=exif)
    photo.save(folder / "photo.webp", quality=90)
    photo.save(folder / "photo.bmp")
    photo.resize((9, 11)).save(folder / "small.png")
    twelve_bits = rng.integers(0, 4096, (40, 30, 1), np.uint16)
    (folder / "deep.png").write_bytes(tf.io.encode_png(twelve_bits).numpy())
    return root


@pytest.mark.parametrize(
    "preprocessing",
    [{}, {"antialias": True, "value_range": (0, 4095), "channels": 1}],
    ids=["plain", "own"],
)
def test_evaluation_prediction_and_encoded_images_agree(preprocessing, tmp_path):
    """Image by image: a run and its exported network preprocess equally."""
    root, networks = write_model(tmp_path / "model", ("saved_model",), **preprocessing)
    photos = write_mixed_photos(tmp_path / "photos")
    antialias = preprocessing.get("antialias", False)
    value_range = preprocessing.get("value_range")
    channels = preprocessing.get("channels", 3)
    dataset = datasets.open_dataset(f"folder:{photos}", value_range=value_range, channels=channels)
    split = dataset.split("+".join(dataset.splits))
    ids = split.labels()[0]
    images = np.concatenate(
        [
            image
            for image, *_ in datasets.evaluation_batches(
                split, batch_size=1, image_size=SIZE, antialias=antialias
            ).as_numpy_iterator()
        ]
    )
    evaluated = dict(zip(ids.tolist(), networks.encoder(images).numpy(), strict=True))

    target = tmp_path / "found.npy"
    assert run(f"--model={root}", f"--images={photos}", f"--embeddings={target}") == 0
    names = target.with_suffix(".txt").read_text().split()
    predicted = dict(zip(names, np.load(target), strict=True))

    module = tf.saved_model.load(str(root / "hub" / "3"))
    content = [(photos / name).read_bytes() for name in names]
    outputs = module.signatures["encoded_images"](image_bytes=tf.constant(content))
    served = dict(zip(names, outputs["representation"].numpy(), strict=True))
    assert outputs.keys() == module.signatures["serving_default"].structured_outputs.keys()

    assert sorted(names) == sorted(evaluated) and len(names) == 7
    for name in names:
        np.testing.assert_allclose(predicted[name], evaluated[name], rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(served[name], evaluated[name], rtol=1e-3, atol=1e-5)
    turned = [evaluated[f"all/turned{orientation}.jpg"] for orientation in (1, 3, 6)]
    assert not np.allclose(turned[0], turned[1], rtol=1e-3)  # orientations are seen
    assert not np.allclose(turned[0], turned[2], rtol=1e-3)


def test_bands_are_predicted_from_files_and_encoded(tmp_path):
    """Of five bands: a TIFF file, and as a signature takes them, one below another in a PNG."""
    root, networks = write_model(tmp_path / "model", ("saved_model",), channels=5)
    assert json.loads((root / "inputs.json").read_text())["channels"] == 5
    photos = tmp_path / "photos"
    photos.mkdir()
    pixels = np.random.default_rng(1).integers(0, 256, (3, 20, 24, 5), np.uint8)
    options = {"photometric": "minisblack", "planarconfig": "contig"}
    for number, image in enumerate(pixels):
        tifffile.imwrite(photos / f"{number}.tif", image, **options)
    PIL.Image.fromarray(pixels[0, ..., :3]).save(photos / "rgb.png")
    images = [augment.evaluation_image(image, SIZE) for image in pixels]
    expected = networks.encoder(tf.stack(images)).numpy()
    target = tmp_path / "found.npy"
    assert run(f"--model={root}", f"--images={photos}", f"--embeddings={target}") == 0
    np.testing.assert_allclose(np.load(target), expected, rtol=1e-3, atol=1e-5)
    assert target.with_suffix(".txt").read_text().split() == ["0.tif", "1.tif", "2.tif"]
    tall = [np.concatenate(np.moveaxis(image, -1, 0))[..., None] for image in pixels]
    module = tf.saved_model.load(str(root / "hub" / "3"))
    content = tf.stack([tf.io.encode_png(image) for image in tall])
    served = module.signatures["encoded_images"](image_bytes=content)["representation"]
    np.testing.assert_allclose(served, expected, rtol=1e-3, atol=1e-5)
    found = module.signatures["representation"](images=tf.stack(images))["representation"]
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)
