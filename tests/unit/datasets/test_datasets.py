"""Data sets: sources, decoding, splits, and the exactness of the pipelines.

Images are built so that they tell who they are: each has one color, (10 * class, number, 200),
which no crop, flip or resize changes.
"""

import gc
import gzip
import hashlib
import io
import lzma
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image

from helpers.paths import ROOT, SHARED
from simclrv2_tf import augment, datasets, image_folder
from simclrv2_tf.data import build_fashion_mnist_small

FASHION_MNIST = SHARED / "data" / "fashion_mnist"
KINDS = ("packaged", "folder", "tfds")
TRAIN, TEST = 23, 7  # per source; neither divides by the batch sizes and shard counts below


def color(label, number):
    return (10 * label, number, 200)


def number_of(images):
    """The numbers of a batch of one-color float images."""
    return np.rint(np.asarray(images)[:, 3, 3, 1] * 255).astype(int).tolist()


def save(path, label, number, size=(9, 12), **kwargs):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color(label, number)).save(path, **kwargs)
    return path


def encoded(image, kind="PNG", **kwargs):
    buffer = io.BytesIO()
    image.save(buffer, kind, **kwargs)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    for split, count in (("train", TRAIN), ("test", TEST)):
        for number in range(count):
            label = number % 3
            size = (8 + number, 20 - number // 2)
            save(root / split / "abc"[label] / f"{number}.png", label, number, size)
    return root


@pytest.fixture(scope="module")
def tfds_dir(tmp_path_factory):
    root = tmp_path_factory.mktemp("tfds")

    def examples(count):
        return [
            (n, {"image": np.full((8, 8 + n, 3), color(n % 3, n), np.uint8), "label": n % 3})
            for n in range(count)
        ]

    features = {
        "image": tfds.features.Image(shape=(None, None, 3)),
        "label": tfds.features.ClassLabel(names=["a", "b", "c"]),
    }
    prepare(root, "color_images", features, {"train": examples(TRAIN), "test": examples(TEST)})
    return root


def prepare(root, name, features, splits, num_shards=4):
    tfds.dataset_builders.store_as_tfds_dataset(
        name=name,
        version="1.0.0",
        features=tfds.features.FeaturesDict(features),
        split_datasets=splits,
        data_dir=str(root),
        download_config=tfds.download.DownloadConfig(try_download_gcs=False, num_shards=num_shards),
    )


@pytest.fixture(scope="module")
def numbered(folder, tfds_dir):
    """The two sources of numbered images, by kind."""
    return {
        "folder": datasets.open_dataset(f"folder:{folder}"),
        "tfds": datasets.open_dataset("color_images", data_dir=str(tfds_dir)),
    }


def examples_of(split):
    return list(split.examples().as_numpy_iterator())


def ids_of(split):
    return [example["id"].decode() for example in examples_of(split)]


def take(dataset, count):
    return list(dataset.take(count).as_numpy_iterator())


def assert_same(left, right):
    left, right = tf.nest.flatten(left), tf.nest.flatten(right)
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        np.testing.assert_array_equal(a, b)


# --- The packaged set -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def packaged():
    return datasets.open_dataset("fashion_mnist_small")


def test_packaged_set_is_balanced_and_rgb(packaged):
    assert packaged.splits == {"train": 10_000, "test": 2_000}
    assert packaged.num_classes == 10
    assert packaged.class_names[9] == "Ankle boot"
    assert packaged.default_eval_split == "test"
    for split, per_class in (("train", 1_000), ("test", 200)):
        (examples,) = take(packaged.split(split).examples().batch(20_000), 1)
        np.testing.assert_array_equal(np.bincount(examples["label"]), [per_class] * 10)
        assert len(set(examples["id"])) == 10 * per_class
    image = examples["image"]
    assert image.shape == (2_000, 28, 28, 3) and image.dtype == np.uint8
    np.testing.assert_array_equal(image[..., 0], image[..., 1])
    np.testing.assert_array_equal(image[..., 0], image[..., 2])


@pytest.mark.skipif(not FASHION_MNIST.is_dir(), reason="needs ../shared/data/fashion_mnist")
def test_packaged_file_is_what_the_build_script_makes(packaged):
    # The compressor's version may change the compressed bytes, never what is in them.
    shipped = lzma.decompress(build_fashion_mnist_small.OUTPUT.read_bytes())
    assert build_fashion_mnist_small.select(FASHION_MNIST) == shipped
    assert (
        lzma.decompress(build_fashion_mnist_small.compress(shipped[:100_000])) == shipped[:100_000]
    )
    # Read independently of the script: the first image of the set is the first of the files.
    pixels = gzip.decompress((FASHION_MNIST / "t10k-images-idx3-ubyte.gz").read_bytes())[16:]
    labels = gzip.decompress((FASHION_MNIST / "t10k-labels-idx1-ubyte.gz").read_bytes())[8:]
    first = examples_of(packaged.split("test[:50]"))
    for index, example in enumerate(first):
        assert example["image"][..., 0].tobytes() == pixels[784 * index : 784 * (index + 1)]
        assert example["label"] == labels[index]


# --- Decoding ---------------------------------------------------------------------------------

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 4), dtype=np.uint8)


def over_white(image):
    """Compositing by the definition, in float."""
    rgba = np.asarray(image.convert("RGBA")).astype(np.float64)
    alpha = rgba[..., 3:] / 255
    return rgba[..., :3] * alpha + 255 * (1 - alpha)


def quantized(colors):
    return Image.fromarray(PIXELS[..., :3].copy()).quantize(colors)


@pytest.mark.parametrize(
    "image, options",
    [
        (Image.fromarray(PIXELS[..., :3].copy()), {}),
        (Image.fromarray(PIXELS), {}),
        (Image.fromarray(PIXELS[..., :2].copy(), "LA"), {}),
        (Image.fromarray(PIXELS[..., 0].copy()), {}),
        (Image.fromarray(PIXELS[..., 0].copy()), {"transparency": int(PIXELS[0, 0, 0])}),
        (Image.fromarray(PIXELS[..., 0].copy()).convert("1"), {}),
        (Image.fromarray(PIXELS[..., 0].copy()).convert("1"), {"transparency": 0}),
        (quantized(256), {}),
        (quantized(8), {}),
        (quantized(2), {}),
        (quantized(8), {"transparency": 3}),
        (quantized(8), {"transparency": bytes([15, 15, 255, 0, 90, 7, 255, 200])}),
    ],
    ids=[
        "rgb", "rgba", "gray_alpha", "gray", "gray_key", "bilevel", "bilevel_key",
        "palette_8_bits", "palette_4_bits", "palette_1_bit", "palette_key", "palette_alpha",
    ],
)  # fmt: skip
def test_png_becomes_rgb_over_white(image, options):
    data = encoded(image, **options)
    decoded = image_folder.decode_rgb(tf.constant(data)).numpy()
    assert decoded.dtype == np.uint8
    np.testing.assert_allclose(decoded, over_white(Image.open(io.BytesIO(data))), atol=0.51)
    in_graph = tf.function(image_folder.decode_rgb)(tf.constant(data))
    np.testing.assert_array_equal(in_graph, decoded)


def test_png_of_16_bits_keeps_the_high_byte():
    values = np.arange(35, dtype=np.uint16).reshape(5, 7) * 1800
    decoded = image_folder.decode_rgb(encoded(Image.fromarray(values))).numpy()
    np.testing.assert_array_equal(decoded, np.repeat((values >> 8)[..., None], 3, axis=2))


@pytest.mark.parametrize("mode, channels", [("L", 0), ("RGB", slice(3)), ("CMYK", slice(4))])
def test_jpeg_becomes_rgb(mode, channels):
    flat = np.kron(PIXELS[:4, :4], np.ones((8, 8, 1), np.uint8))
    image = Image.fromarray(np.ascontiguousarray(flat[..., channels]), mode)
    data = encoded(image, "JPEG", quality=95, subsampling=0)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    decoded = image_folder.decode_rgb(data).numpy().astype(int)
    assert decoded.shape == (32, 32, 3)
    assert np.abs(decoded - expected).mean() < 1  # decoders round differently


def test_exif_orientation_is_ignored():
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees to display
    image = Image.fromarray(np.kron(PIXELS[:1, :2, :3], np.ones((8, 8, 1), np.uint8)))
    decoded = image_folder.decode_rgb(encoded(image, "JPEG", exif=exif)).numpy()
    assert decoded.shape == (8, 16, 3)


# --- Folders ----------------------------------------------------------------------------------


def test_folder_with_train_and_test(folder, numbered):
    dataset = numbered["folder"]
    assert dataset.splits == {"train": TRAIN, "test": TEST}
    assert dataset.class_names == ("a", "b", "c")
    assert dataset.default_eval_split == "test"
    assert dataset.num_skipped == 0
    for split in ("train", "test"):
        for example in examples_of(dataset.split(split)):
            path = example["id"].decode()
            label, number = path.split("/")[1], int(pathlib.Path(path).stem)
            assert path.startswith(split) and (folder / path).is_file()
            assert example["label"] == "abc".index(label)
            expected = np.asarray(Image.open(folder / path))
            np.testing.assert_array_equal(example["image"], expected)
            assert expected[0, 0, 1] == number


def test_folder_without_splits_holds_out_a_stable_tenth(tmp_path):
    for label, count in enumerate((20, 30, 1)):
        for number in range(count):
            save(tmp_path / f"class{label}" / "deeper" / f"{number}.jpg", label, number)
    dataset = datasets.open_dataset(f"folder:{tmp_path}")
    assert dataset.splits == {"train": 18 + 27 + 1, "test": 2 + 3}
    train, test = ids_of(dataset.split("train")), ids_of(dataset.split("test"))
    assert not set(train) & set(test) and len(set(train + test)) == 51
    again = datasets.open_dataset(f"folder:{tmp_path}")
    assert (ids_of(again.split("train")), ids_of(again.split("test"))) == (train, test)
    assert ids_of(datasets.open_dataset(f"folder:{tmp_path}", seed=1).split("test")) != test
    # By the documented rule, independently: the first by SHA-256 of seed and path.
    paths = sorted(
        (f"class0/deeper/{n}.jpg" for n in range(20)),
        key=lambda path: hashlib.sha256(f"0/{path}".encode()).hexdigest(),
    )
    assert [path for path in test if path.startswith("class0/")] == paths[:2]
    # A slice of a folder sorted by class would hold one class.
    assert {example["label"] for example in examples_of(dataset.split("train[:50%]"))} >= {0, 1}


def test_flat_folder_is_unlabelled(tmp_path):
    for number in range(12):
        save(tmp_path / f"{number}.JPEG", 0, number)
    (tmp_path / "notes.txt").write_text("not an image")
    dataset = datasets.open_dataset(f"folder:{tmp_path}")
    assert dataset.num_classes == 0 and dataset.class_names == ()
    assert dataset.splits == {"train": 11, "test": 1}
    split = dataset.split("train+test")
    assert [example["label"] for example in examples_of(split)] == [-1] * 12
    batches = datasets.training_batches(split, batch_size=5, image_size=8, seed=0)
    ((_, labels),) = take(batches, 1)
    np.testing.assert_array_equal(labels, [-1] * 5)
    batches = take(datasets.evaluation_batches(split, batch_size=5, image_size=8), -1)
    assert all((label == -1).all() for _, label, _ in batches)


@pytest.mark.parametrize("name", ["val", "validation"])
def test_validation_folder_is_a_split(tmp_path, name):
    for split in ("train", name, "test"):
        save(tmp_path / split / "a" / "0.png", 0, 0)
    dataset = datasets.open_dataset(f"folder:{tmp_path}")
    assert dataset.splits == {"train": 1, name: 1, "test": 1}
    assert dataset.default_eval_split == name


def damaged_folder(root, count=12):
    """Good images, of which 1 is cut short, 2 is text, 3 is empty and 4 is spoilt inside."""
    rng = np.random.default_rng(0)
    for number in range(count):
        name = f"{'ab'[number % 2]}/{number}.jpg"
        save(root / "train" / name, number % 2, 10 * number, (40, 40))  # JPEG changes it a little
    paths = {int(path.stem): path for path in root.rglob("*.jpg")}
    paths[1].write_bytes(paths[1].read_bytes()[:-200])
    paths[2].write_text("this is not an image at all")
    paths[3].write_bytes(b"")
    spoilt = bytearray(encoded(Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8))))
    spoilt[200:1200] = bytes(1000)  # a PNG whose beginning and end are in order
    paths[4].write_bytes(spoilt)
    save(root / "test" / "a" / "0.jpg", 0, 0)
    return paths


def test_unreadable_images_are_named_counted_and_skipped(tmp_path, caplog):
    damaged_folder(tmp_path)
    with caplog.at_level("WARNING"):
        dataset = datasets.open_dataset(f"folder:{tmp_path}")
    assert dataset.num_skipped == 3
    assert dataset.splits["train"] == 9  # 4 is not known to be bad yet
    for name in ("b/1.jpg", "a/2.jpg", "b/3.jpg"):
        assert sum(f"train/{name}" in record.message for record in caplog.records) == 1

    split = dataset.split("train")
    options = {"batch_size": 9, "image_size": 8, "seed": 0}
    with caplog.at_level("WARNING"):
        batches = take(datasets.training_batches(split, **options), 4)
    assert dataset.num_skipped == 4
    assert sum("train/a/4.jpg" in record.message for record in caplog.records) == 1
    for images, labels in batches:
        numbers = np.rint(np.array(number_of(images)) / 10).astype(int)
        assert set(numbers) == {0, 5, 6, 7, 8, 9, 10, 11}  # one stands in for 4
        np.testing.assert_array_equal(labels, numbers % 2)
    # The place of the bad image is kept, so resuming stays exact.
    assert_same(take(datasets.training_batches(split, start_step=3, **options), 1)[0], batches[3])

    image, label, weight = take(datasets.evaluation_batches(split, batch_size=9, image_size=8), 1)[
        0
    ]
    assert weight.sum() == 8 and label.shape == (9,)
    assert (image[weight == 0] == 0).all()
    assert len(examples_of(split)) == 8


def test_jpeg_without_end_marker_that_decodes_is_kept(tmp_path):
    save(tmp_path / "a" / "0.png", 0, 0)
    path = save(tmp_path / "a" / "1.jpg", 0, 1, (40, 40))
    path.write_bytes(path.read_bytes() + bytes(1000))  # as some cameras do
    assert datasets.open_dataset(f"folder:{tmp_path}").num_skipped == 0


def test_cached_folder_reads_each_file_once(tmp_path):
    for number in range(6):
        save(tmp_path / "train" / "a" / f"{number}.png", 0, number)
    save(tmp_path / "test" / "a" / "0.png", 0, 0)
    split = datasets.open_dataset(f"folder:{tmp_path}").split("train")
    options = {"batch_size": 6, "image_size": 8, "seed": 0}
    expected = take(datasets.training_batches(split, **options), 4)
    iterator = datasets.training_batches(split, cache=True, **options).as_numpy_iterator()
    cached = [next(iterator)]
    for path in (tmp_path / "train").rglob("*.png"):
        path.unlink()
    cached += [next(iterator) for _ in range(3)]
    assert_same(cached, expected)


@pytest.mark.parametrize(
    "files, message",
    [
        (None, "existing folder"),
        ([], "must hold images"),
        (["a/x.txt", "b/y.csv"], "must hold images .* and 2 other files"),
        (["a/x.png", "y.jpg"], "none of its 1 can be read"),
        (["test/a/x.png"], "must have train/ beside it"),
        (["train/a/x.png", "test/b/x.png"], "classes of test/ must all be in train/; b is not"),
        (["train/x.png", "test/b/x.png"], "class folders; train/ and test/ differ"),
    ],
)
def test_bad_folders_are_one_line_errors(tmp_path, files, message):
    root = tmp_path / "root"
    if files is not None:
        root.mkdir()
    for file in files or ():
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_text("text")
    with pytest.raises(datasets.DatasetError, match=message) as caught:
        datasets.open_dataset(f"folder:{root}")
    assert "\n" not in str(caught.value) and f"Received: folder:{root}" in str(caught.value)


# --- TensorFlow Datasets ----------------------------------------------------------------------


def test_tfds_set_that_exists_only_on_disk(numbered):
    dataset = numbered["tfds"]
    assert dataset.splits == {"train": TRAIN, "test": TEST}
    assert dataset.class_names == ("a", "b", "c")
    examples = examples_of(dataset.split("train"))
    assert len({example["id"] for example in examples}) == TRAIN
    assert {int(example["image"][0, 0, 1]) for example in examples} == set(range(TRAIN))
    for example in examples:
        number = int(example["image"][0, 0, 1])
        assert example["label"] == number % 3 and example["image"].shape == (8, 8 + number, 3)
    # Ids do not depend on how the split was asked for.
    by_number = {int(example["image"][0, 0, 1]): example["id"] for example in examples}
    for example in examples_of(dataset.split("train[7:19]")):
        assert example["id"] == by_number[int(example["image"][0, 0, 1])]


def test_tfds_gray_unlabelled_and_odd_names(tmp_path):
    image = np.arange(64, dtype=np.uint8).reshape(8, 8, 1)
    features = {
        "picture": tfds.features.Image(shape=(8, 8, 1)),
        "n": tfds.features.Scalar(np.int64),
    }
    prepare(tmp_path, "gray_images", features, {"train": [(0, {"picture": image, "n": 3})]}, 1)
    dataset = datasets.open_dataset("gray_images:1.0.0", data_dir=str(tmp_path))
    assert dataset.num_classes == 0 and dataset.default_eval_split is None
    (example,) = examples_of(dataset.split("train"))
    np.testing.assert_array_equal(example["image"], np.repeat(image, 3, axis=2))
    assert example["label"] == -1


@pytest.mark.parametrize(
    "features, example",
    [
        ({"text": tfds.features.Text()}, {"text": "words"}),
        (
            {"image": tfds.features.Image(shape=(2, 2, 1), dtype=np.float32)},
            {"image": np.zeros((2, 2, 1), np.float32)},
        ),
    ],
)
def test_tfds_without_usable_images_names_the_features(tmp_path, features, example):
    prepare(tmp_path, "no_images", features, {"train": [(0, example)]}, 1)
    with pytest.raises(datasets.DatasetError, match="one image feature of 8 or 16 bits") as caught:
        datasets.open_dataset("no_images", data_dir=str(tmp_path))
    assert next(iter(features)) in str(caught.value) and "\n" not in str(caught.value)


def test_tfds_with_a_missing_file(tmp_path):
    features = {"image": tfds.features.Image(shape=(2, 2, 3))}
    image = np.zeros((2, 2, 3), np.uint8)
    prepare(tmp_path, "torn_images", features, {"train": [(0, {"image": image})]}, 1)
    (record_file,) = tmp_path.rglob("*.tfrecord*")
    record_file.unlink()
    with pytest.raises(datasets.DatasetError, match=f"{record_file.name} is missing"):
        datasets.open_dataset("torn_images", data_dir=str(tmp_path))


@pytest.mark.parametrize(
    "name, message",
    [
        ("cifar10", "must be prepared on disk.* tfds build cifar10 --data_dir"),
        ("imagenet2012_subset/1pct", "tfds build imagenet2012_subset/1pct"),
        ("color_images/other_config", "must be prepared on disk"),
        ("color_images:2.0.0", "must be prepared on disk"),
        ("cifr10", "did you mean cifar10"),
        ("color_imagse", "did you mean color_images"),
        ("fashion_mnist_smal", "did you mean fashion_mnist_small"),
        ("qqqqqqqqqq", "qqqqqqqqqq is none. Received"),
        ("huggingface:mnist", "is none|must be prepared"),
        ("not a name!", "or a TensorFlow Datasets name"),
        ("", "or a TensorFlow Datasets name"),
        ("folder:", "must be folder:PATH"),
    ],
)
def test_unavailable_names_fail_without_network(tfds_dir, monkeypatch, name, message):
    import socket

    def refuse(*args, **kwargs):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    from tensorflow_datasets.core.utils import gcs_utils

    monkeypatch.setattr(gcs_utils, "exists", refuse)
    monkeypatch.setattr(gcs_utils, "_is_gcs_disabled", False)
    with pytest.raises(datasets.DatasetError, match=message) as caught:
        datasets.open_dataset(name, data_dir=str(tfds_dir))
    assert "\n" not in str(caught.value)


# --- Splits -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spec, train, test",
    [
        ("train[:0.1%]", range(10), ()),
        ("test[99%:]", (), range(1980, 2000)),
        ("train[3:5]", (3, 4), ()),
        ("train[-3:]", range(9997, 10000), ()),
        ("train[7:9]+test[:2]", (7, 8), (0, 1)),
    ],
)
def test_split_specifications(packaged, spec, train, test):
    split = packaged.split(spec)
    assert split.num_examples == len(train) + len(test)
    assert ids_of(split) == [f"train/{n}" for n in train] + [f"test/{n}" for n in test]


def test_split_specifications_of_tfds(numbered):
    dataset = numbered["tfds"]
    parts = [dataset.split(spec) for spec in ("train[:40%]", "train[40%:]+test[2:]")]
    assert [part.num_examples for part in parts] == [9, 14 + 5]
    first, second = (set(ids_of(part)) for part in parts)
    assert (len(first), len(second)) == (9, 19) and not first & second
    assert set(ids_of(dataset.split("train"))) < first | second


@pytest.mark.parametrize(
    "spec, message",
    [
        ("dev", "must be made of train, test"),
        ("train[", "must be made of train, test"),
        ("", "must be made of train, test"),
        ("train[:200%]", r"in \[-100, 100\]"),
        ("train[:9999]", "incompatible with 23 examples"),
        ("train[5:5]", "at least one example; there are 23 in train, 7 in test"),
        ("train[80%:20%]", "at least one example"),
    ],
)
def test_bad_split_specifications(numbered, spec, message):
    with pytest.raises(datasets.DatasetError, match=message) as caught:
        numbered["folder"].split(spec)
    assert str(caught.value).endswith(f"Received: split={spec!r}")
    assert "\n" not in str(caught.value)


# --- Pipelines --------------------------------------------------------------------------------


def small_split(kind, packaged, numbered):
    return (
        packaged.split(f"train[:{TRAIN}]") if kind == "packaged" else numbered[kind].split("train")
    )


@pytest.fixture(params=KINDS)
def split(request, packaged, numbered):
    return small_split(request.param, packaged, numbered)


PIPELINES = (datasets.pretraining_batches, datasets.training_batches)


def test_resuming_gives_what_was_left_out(split):
    options = {"batch_size": 5, "image_size": 8, "seed": 3}
    whole = take(datasets.training_batches(split, **options), 12)
    for start in (4, 11):  # an epoch ends in batch 4
        rest = take(datasets.training_batches(split, start_step=start, **options), 12 - start)
        assert_same(rest, whole[start:])


def test_resuming_pretraining_gives_what_was_left_out(packaged):
    options = {"batch_size": 5, "image_size": 8, "seed": 3}
    split = packaged.split("train[:23]")
    whole = take(datasets.pretraining_batches(split, **options), 8)
    assert_same(take(datasets.pretraining_batches(split, start_step=4, **options), 4), whole[4:])


def test_resuming_with_cache_and_shards(split):
    options = {"batch_size": 3, "image_size": 8, "seed": 3, "cache": True, "shard": (1, 2)}
    whole = take(datasets.training_batches(split, **options), 9)
    assert_same(take(datasets.training_batches(split, start_step=6, **options), 3), whole[6:])


def test_shapes_types_and_ranges(packaged):
    split = packaged.split("train[:23]")
    pretraining = datasets.pretraining_batches(split, batch_size=5, image_size=8, seed=0)
    training = datasets.training_batches(split, batch_size=5, image_size=8, seed=0)
    image = tf.TensorSpec((5, 8, 8, 3), tf.float32)
    label = tf.TensorSpec((5,), tf.int64)
    assert pretraining.element_spec == ((image, image), label)
    assert training.element_spec == (image, label)
    assert pretraining.cardinality() == training.cardinality() == tf.data.INFINITE_CARDINALITY
    for (view1, view2), _ in take(pretraining, 3):
        for view in (view1, view2):
            assert view.min() >= 0 and view.max() <= 1


def test_views_steps_and_examples_have_their_own_draws(packaged):
    split = packaged.split("train[:4]")
    options = {"batch_size": 4, "image_size": 16, "seed": 0}
    batches = take(datasets.pretraining_batches(split, **options), 6)
    views = np.concatenate([np.concatenate(pair) for pair, _ in batches])
    assert len({view.tobytes() for view in views}) == len(views)
    # Without color and blur, the views still differ by their crops.
    plain = {**options, "color_jitter_strength": 0.0, "use_blur": False}
    ((view1, view2), _) = take(datasets.pretraining_batches(split, **plain), 1)[0]
    assert all(not np.array_equal(a, b) for a, b in zip(view1, view2, strict=True))


def epochs_of(split, count, seed=0, **options):
    """Numbers (folder, TFDS) in the order of training, epoch by epoch; batches of one."""
    batches = datasets.training_batches(split, batch_size=1, image_size=8, seed=seed, **options)
    size = split.shard_size(options.get("shard", (0, 1)))
    numbers = [number_of(image)[0] for image, _ in take(batches, count * size)]
    return [numbers[size * epoch : size * (epoch + 1)] for epoch in range(count)]


@pytest.mark.parametrize("cache", [False, True])
@pytest.mark.parametrize("kind", ["folder", "tfds"])
def test_each_epoch_is_a_new_order_of_all_examples(numbered, kind, cache):
    split = numbered[kind].split("train")
    epochs = epochs_of(split, 4, cache=cache)
    assert all(sorted(epoch) == list(range(TRAIN)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    # The global seed of the caller has no part in it.
    tf.random.set_seed(12345)
    assert epochs_of(split, 4, cache=cache) == epochs


def test_another_seed_is_another_order_and_other_crops(packaged):
    split = packaged.split("train[:23]")
    (image0, label0), (image1, label1) = (
        take(datasets.training_batches(split, batch_size=23, image_size=8, seed=seed), 1)[0]
        for seed in (0, 1)
    )
    assert sorted(label0) == sorted(label1) and label0.tolist() != label1.tolist()
    assert not {image.tobytes() for image in image0} & {image.tobytes() for image in image1}


@pytest.mark.parametrize("kind", ["folder", "tfds"])
def test_labels_stay_with_their_images_in_training(numbered, kind):
    batches = datasets.training_batches(
        numbered[kind].split("train"), batch_size=5, image_size=8, seed=0
    )
    for images, labels in take(batches, 10):
        assert [number % 3 for number in number_of(images)] == labels.tolist()


def test_evaluation_of_small_images_is_the_images(packaged):
    split = packaged.split("train[:23]")
    examples = examples_of(split)
    ((images, labels, _),) = take(
        datasets.evaluation_batches(split, batch_size=23, image_size=28), -1
    )
    np.testing.assert_array_equal(labels, [example["label"] for example in examples])
    expected = np.stack([example["image"] for example in examples]) / 255
    np.testing.assert_allclose(images, expected, atol=1e-6)


def test_training_shards_are_disjoint_and_complete(numbered):
    count = 3
    # One permutation dealt out: each run of TRAIN examples, over all shards, is a whole epoch.
    split = numbered["folder"].split("train")
    streams = []
    for index in range(count):
        batches = datasets.training_batches(
            split, batch_size=1, image_size=8, seed=0, shard=(index, count)
        )
        streams.append([number_of(image)[0] for image, _ in take(batches, 2 * TRAIN)])
    dealt = [number for turn in zip(*streams, strict=True) for number in turn]
    single = [number for epoch in epochs_of(split, 2 * count) for number in epoch]
    assert dealt == single

    # Streams read their own part only.
    split = numbered["tfds"].split("train")
    parts = [epochs_of(split, 2, shard=(index, count)) for index in range(count)]
    assert all(sorted(first) == sorted(second) for first, second in parts)
    assert sorted(number for first, _ in parts for number in first) == list(range(TRAIN))


def test_shards_together_make_the_single_host_batch(packaged):
    """Images, labels, crops and every other draw: the number of hosts changes nothing."""
    split = packaged.split("train[:30]")
    options = {"image_size": 20, "seed": 0}
    (whole, whole_labels) = take(datasets.pretraining_batches(split, batch_size=12, **options), 3)[
        2
    ]
    parts = [
        take(datasets.pretraining_batches(split, batch_size=4, shard=(i, 3), **options), 3)[2]
        for i in range(3)
    ]
    labels = np.stack([labels for _, labels in parts], axis=1).reshape(-1)
    np.testing.assert_array_equal(labels, whole_labels)
    for view in (0, 1):
        views = np.stack([views[view] for views, _ in parts], axis=1)  # (4, 3, S, S, 3)
        np.testing.assert_allclose(views.reshape(whole[view].shape), whole[view], atol=1e-6)


@pytest.mark.parametrize("strength", [0.0, 0.5])
def test_shards_together_make_the_single_host_training_batch(packaged, strength):
    split = packaged.split("train[:30]")
    options = {"image_size": 12, "seed": 0, "color_jitter_strength": strength}
    whole, _ = take(datasets.training_batches(split, batch_size=8, **options), 4)[3]
    parts = [
        take(datasets.training_batches(split, batch_size=4, shard=(i, 2), **options), 4)[3][0]
        for i in range(2)
    ]
    np.testing.assert_allclose(np.stack(parts, 1).reshape(whole.shape), whole, atol=1e-6)


@pytest.mark.parametrize("kind", ["folder", "tfds"])
def test_evaluation_counts_every_example_once(numbered, kind):
    split = numbered[kind].split("test+train[:3]")
    assert split.num_examples == TEST + 3
    seen, lengths = [], set()
    for index in range(3):  # 4 + 3 + 3 or 3 + 3 + 4 examples
        batches = datasets.evaluation_batches(split, batch_size=2, image_size=8, shard=(index, 3))
        assert all(spec.shape[0] == 2 for spec in batches.element_spec)
        listed = take(batches, -1)
        lengths |= {len(batches), len(listed)}
        for images, labels, weights in listed:
            assert set(weights) <= {0.0, 1.0}
            numbers = np.array(number_of(images))[weights == 1]
            np.testing.assert_array_equal(labels[weights == 1], numbers % 3)
            assert ((labels >= 0) & (labels < 3)).all()
            seen += numbers.tolist()
    expected = [int(example["image"][0, 0, 1]) for example in examples_of(split)]
    assert lengths == {2} and sorted(seen) == sorted(expected) and len(seen) == TEST + 3


def test_evaluation_with_more_shards_than_examples(numbered):
    for dataset in numbered.values():
        split = dataset.split("train[:2]")
        total = [
            sum(weight.sum() for _, _, weight in take(batches, -1))
            for index in range(4)
            for batches in [
                datasets.evaluation_batches(split, batch_size=2, image_size=8, shard=(index, 4))
            ]
        ]
        assert sum(total) == 2 and max(total) == 1


def test_cached_evaluation_is_the_same(split):
    options = {"batch_size": 4, "image_size": 8}
    plain = take(datasets.evaluation_batches(split, **options), -1)
    cached = datasets.evaluation_batches(split, cache=True, **options)
    for _ in range(2):
        assert_same(take(cached, -1), plain)


DIGEST = """
import hashlib, sys
import tensorflow as tf
from simclrv2_tf import datasets

def digest(split, make):
    batches = make(split, batch_size=5, image_size=8, seed=7, start_step=2).take(6)
    content = [tensor.numpy().tobytes() for tensor in tf.nest.flatten(list(batches))]
    return hashlib.sha256(b"".join(content)).hexdigest()

def digests(folder, data_dir):
    packaged = datasets.open_dataset("fashion_mnist_small").split("train[:23]")
    folder = datasets.open_dataset(f"folder:{folder}").split("train")
    stored = datasets.open_dataset("color_images", data_dir).split("train")
    return [digest(packaged, datasets.pretraining_batches)] + [
        digest(split, datasets.training_batches) for split in (folder, stored)
    ]
"""


def test_another_process_makes_the_same_batches(folder, tfds_dir):
    arguments = [str(folder), str(tfds_dir)]
    process = subprocess.run(
        [sys.executable, "-c", DIGEST + "print(digests(*sys.argv[1:]))", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    namespace = {}
    exec(DIGEST, namespace)
    assert process.stdout.strip().splitlines()[-1] == str(namespace["digests"](*arguments))


def test_iterator_outlives_its_dataset(folder):
    split = datasets.open_dataset(f"folder:{folder}").split("train")
    iterator = iter(datasets.training_batches(split, batch_size=4, image_size=8, seed=0))
    del split
    gc.collect()
    for _ in range(8):
        images, _ = next(iterator)
    assert images.shape == (4, 8, 8, 3)


# --- Labels and subsets -----------------------------------------------------------------------


def as_labels(split):
    """What `labels` should say, from the examples."""
    examples = examples_of(split)
    return [e["id"].decode() for e in examples], [int(e["label"]) for e in examples]


def rewrite_records(root, change):
    """Applies `change` to the features of each stored TFDS example."""
    for path in map(str, root.rglob("*.tfrecord*")):
        changed = []
        for record in tf.data.TFRecordDataset(path).as_numpy_iterator():
            example = tf.train.Example.FromString(record)
            change(example.features.feature)
            changed.append(example.SerializeToString())
        with tf.io.TFRecordWriter(path) as writer:
            for record in changed:
                writer.write(record)


@pytest.fixture
def own_tfds(tmp_path):
    """A data set of which a test may spoil the files."""
    examples = [(n, {"image": np.full((2, 3, 3), n, np.uint8), "label": n % 2}) for n in range(9)]
    features = {
        "image": tfds.features.Image(shape=(2, 3, 3)),
        "label": tfds.features.ClassLabel(num_classes=2),
    }
    prepare(tmp_path, "own_images", features, {"train": examples}, 2)
    return datasets.open_dataset("own_images", data_dir=str(tmp_path)), tmp_path


def test_labels_are_those_of_the_examples_in_order(split):
    ids, labels = split.labels()
    assert ids.shape == labels.shape == (split.num_examples,)
    assert ids.dtype.kind == "U" and labels.dtype == np.int64
    assert (ids.tolist(), labels.tolist()) == as_labels(split)
    assert len(set(labels.tolist())) > 1


def test_labels_of_a_folder_open_no_file(tmp_path):
    for number in range(4):
        save(tmp_path / "train" / "ab"[number % 2] / f"{number}.png", 0, number)
    save(tmp_path / "test" / "a" / "0.png", 0, 0)
    split = datasets.open_dataset(f"folder:{tmp_path}").split("train")
    for path in tmp_path.rglob("*.png"):
        path.unlink()
    assert dict(zip(*split.labels(), strict=True)) == {
        f"train/{'ab'[n % 2]}/{n}.png": n % 2 for n in range(4)
    }


def test_labels_of_tfds_read_no_image(own_tfds):
    dataset, root = own_tfds
    split = dataset.split("train")
    expected = as_labels(split)
    rewrite_records(root, lambda features: features.pop("image"))
    ids, labels = split.labels()
    assert (ids.tolist(), labels.tolist()) == expected
    with pytest.raises(tf.errors.OpError):
        examples_of(split)


def test_labels_of_tfds_without_label_feature(tmp_path):
    features = {"image": tfds.features.Image(shape=(2, 2, 3))}
    examples = [(n, {"image": np.full((2, 2, 3), n, np.uint8)}) for n in range(5)]
    prepare(tmp_path, "bare_images", features, {"train": examples}, 1)
    split = datasets.open_dataset("bare_images", data_dir=str(tmp_path)).split("train")
    ids, labels = split.labels()
    assert ids.tolist() == ids_of(split) and labels.tolist() == [-1] * 5
    subset = split.subset(ids[1:3])
    assert not subset.labelled
    assert as_labels(subset) == (ids[1:3].tolist(), [-1, -1])


def test_subset_has_its_examples_in_the_order_of_the_split(split):
    examples = examples_of(split)
    chosen = [2, 3, 7, 11, 22]
    wanted = [examples[index]["id"].decode() for index in (22, 7, 3, 2, 7, 11, 22)]
    subset = split.subset(wanted)
    assert subset.num_examples == 5 and subset.labelled
    assert_same(examples_of(subset), [examples[index] for index in chosen])
    ids, labels = subset.labels()
    assert ids.tolist() == [examples[index]["id"].decode() for index in chosen]
    assert labels.tolist() == [examples[index]["label"] for index in chosen]
    # A subset is a split like others, and can be narrowed again.
    again = subset.subset(iter(wanted[1:3]))
    assert again.labels()[0].tolist() == [wanted[2], wanted[1]]


@pytest.mark.parametrize("kind", ["folder", "tfds"])
def test_training_on_a_subset(numbered, kind):
    split = numbered[kind].split("train")
    numbers = range(1, TRAIN, 4)
    subset = split.subset(
        name
        for name, example in zip(split.labels()[0], examples_of(split), strict=True)
        if example["image"][0, 0, 1] in numbers
    )
    assert subset.num_examples == 6
    options = {"batch_size": 4, "image_size": 8, "seed": 0}
    batches = take(datasets.training_batches(subset, **options), 9)
    for images, labels in batches:
        assert [number % 3 for number in number_of(images)] == labels.tolist()
    stream = sum((number_of(images) for images, _ in batches), [])
    epochs = [stream[begin : begin + 6] for begin in range(0, 36, 6)]
    assert all(sorted(epoch) == list(numbers) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1
    resumed = datasets.training_batches(subset, start_step=2, cache=True, **options)
    assert_same(take(resumed, 7), batches[2:])

    evaluated = take(datasets.evaluation_batches(subset, batch_size=4, image_size=8), -1)
    assert sum(weight.sum() for *_, weight in evaluated) == 6
    with pytest.raises(datasets.DatasetError, match="6 in a subset of train"):
        datasets.check_batch_size(subset, 7)


def test_subset_of_tfds_stays_in_memory_as_stored(own_tfds):
    dataset, root = own_tfds
    # Strings that end in zeros are cut short where they pass through NumPy's fixed-width type.
    rewrite_records(root, lambda features: pad_with_zeros(features["image"].bytes_list.value))
    split = dataset.split("train")
    expected = examples_of(split)[2:5]
    subset = split.subset(example["id"].decode() for example in expected)
    for path in root.rglob("*.tfrecord*"):
        path.unlink()
    assert_same(examples_of(subset), expected)
    (record,) = take(subset.ordered_records((0, 1)).skip(1), 1)
    assert subset._reader._images[record].numpy().endswith(bytes(5))


def pad_with_zeros(values):
    values[0] += bytes(5)


@pytest.mark.parametrize(
    "ids, message",
    [
        ([], r"at least one example of train.* Received: ids=\[\]"),
        (
            ["here", "gone", "lost", "gone"],
            "examples of train.* Received: 3 ids, 2 of them not there, the first 'gone'",
        ),
        (["gone"], "Received: 1 ids, 1 of them not there, the first 'gone'"),
    ],
)
def test_subset_of_what_is_not_there(split, ids, message):
    here = split.labels()[0][5]
    ids = [here if name == "here" else name for name in ids]
    with pytest.raises(datasets.DatasetError, match=message.replace("train", "train.*")) as caught:
        split.subset(ids)
    assert "\n" not in str(caught.value)


def test_unreadable_image_of_a_subset_is_replaced_from_the_subset(tmp_path):
    damaged_folder(tmp_path)
    dataset = datasets.open_dataset(f"folder:{tmp_path}")
    split = dataset.split("train")
    ids = split.labels()[0].tolist()
    bad = ids.index("train/a/4.jpg")
    follower = ids[(bad + 1) % len(ids)]
    good = next(name for name in ids if name not in (ids[bad], follower))
    subset = split.subset([ids[bad], good])
    number = int(pathlib.Path(good).stem)
    batches = datasets.training_batches(subset, batch_size=2, image_size=8, seed=0)
    for images, labels in take(batches, 3):
        assert np.rint(np.array(number_of(images)) / 10).tolist() == [number] * 2
        assert labels.tolist() == [number % 2] * 2
    assert dataset.num_skipped == 4  # it is reported as any other
    assert ids_of(subset) == [good]


def assert_hides_labels(hidden, shown):
    assert not hidden.labelled and shown.labelled
    assert hidden.num_examples == shown.num_examples
    ids, labels = hidden.labels()
    np.testing.assert_array_equal(ids, shown.labels()[0])
    np.testing.assert_array_equal(labels, np.full(hidden.num_examples, -1))
    for left, right in zip(examples_of(hidden), examples_of(shown), strict=True):
        assert left.pop("label") == -1 and right.pop("label") >= 0
        assert_same(left, right)


def test_unlabelled_is_the_same_without_labels(split):
    hidden = split.unlabelled()
    assert_hides_labels(hidden, split)
    options = {"batch_size": 4, "image_size": 8, "seed": 5}
    for cache in (False, True):
        pairs = zip(
            take(datasets.training_batches(hidden, cache=cache, **options), 8),
            take(datasets.training_batches(split, cache=cache, **options), 8),
            strict=True,
        )
        for (hidden_images, hidden_labels), (images, _) in pairs:
            np.testing.assert_array_equal(hidden_images, images)
            np.testing.assert_array_equal(hidden_labels, [-1] * 4)
    evaluated = take(datasets.evaluation_batches(hidden, batch_size=4, image_size=8), -1)
    assert all((label == -1).all() for _, label, _ in evaluated)


def test_unlabelled_and_subset_in_either_order(split):
    some = split.labels()[0][[1, 4, 5, 9, 20]]
    subset = split.subset(some)
    assert_hides_labels(subset.unlabelled(), subset)
    assert_hides_labels(split.unlabelled().subset(some), subset)


def test_unlabelled_tfds_does_not_parse_labels(own_tfds):
    dataset, root = own_tfds
    split = dataset.split("train")
    expected = [(example["id"], example["image"]) for example in examples_of(split)]

    def spoil(features):
        features["label"].bytes_list.value.append(b"a string where an integer belongs")

    rewrite_records(root, spoil)
    with pytest.raises(tf.errors.OpError, match="label"):
        examples_of(split)
    with pytest.raises(tf.errors.OpError, match="label"):
        split.labels()
    hidden = split.unlabelled()
    some = hidden.labels()[0][:3]
    for same, those in ((hidden, 9), (split.cached().unlabelled(), 9), (hidden.subset(some), 3)):
        assert_same([(e["id"], e["image"]) for e in examples_of(same)], expected[:those])


def integers_held(split):
    return [
        value
        for value in vars(split._reader).values()
        if tf.is_tensor(value) and value.dtype == tf.int64
    ]


def test_unlabelled_does_not_hold_labels(packaged, numbered):
    split = packaged.split("train[:23]")
    for shown in (split, split.subset(["train/3", "train/8"])):
        (labels,) = integers_held(shown)
        np.testing.assert_array_equal(labels, shown.labels()[1])
        assert not integers_held(shown.unlabelled())
    hidden = numbered["folder"].split("train").unlabelled()
    assert all((labels == -1).numpy().all() for labels in integers_held(hidden))
    assert {file.label for file in hidden._reader._files} == {-1}


# --- Augmentation in training -----------------------------------------------------------------


def crops_by_hand(split, size, batch_size, steps, seed):
    """(step, its draw, crops, labels), from the documented rule, an example at a time."""
    examples, count = examples_of(split), split.num_examples

    def draw_for(use, position):
        seeds, position = tf.constant([seed, use], tf.int64), tf.constant(position, tf.int64)
        return tf.random.fold_in(seeds, position)

    for step in range(steps):
        crops, labels = [], []
        for position in range(step * batch_size, (step + 1) * batch_size):
            epoch, place = divmod(position, count)
            order = tf.random.experimental.stateless_shuffle(
                tf.range(count, dtype=tf.int64), draw_for(0, epoch)
            )
            example = examples[int(order[place])]
            draw = tf.random.split(draw_for(1, position), 1)[0]
            crops.append(augment.random_crop(example["image"], size, (0.08, 1.0), seed=draw))
            labels.append(example["label"])
        yield draw_for(2, step), tf.stack(crops), labels


def test_training_flips_and_no_more_by_default(packaged):
    split = packaged.split("train[:9]")
    batches = take(datasets.training_batches(split, batch_size=4, image_size=12, seed=6), 4)
    by_hand = crops_by_hand(split, 12, 4, 4, seed=6)
    for (images, labels), (draw, crops, expected_labels) in zip(batches, by_hand, strict=True):
        np.testing.assert_array_equal(images, augment.random_flip(crops, draw))
        assert labels.tolist() == expected_labels


@pytest.mark.parametrize("strength, version, blur", [(0.5, "v1", False), (0.0, "v2", True)])
def test_training_with_color_or_blur_is_a_pretraining_view(packaged, strength, version, blur):
    split = packaged.split("train[:9]")
    options = {"batch_size": 4, "image_size": 20, "seed": 6, "color_jitter_strength": strength}
    options |= {"color_jitter_version": version, "use_blur": blur}
    batches = take(datasets.training_batches(split, **options), 4)
    by_hand = crops_by_hand(split, 20, 4, 4, seed=6)
    changes = []
    for (images, labels), (draw, crops, expected_labels) in zip(batches, by_hand, strict=True):
        view = augment.pretraining_view(crops, draw, strength=strength, version=version, blur=blur)
        np.testing.assert_allclose(images, view, atol=1e-5)
        assert labels.tolist() == expected_labels
        for image, crop in zip(images, crops, strict=True):
            flips = (crop, tf.reverse(crop, [1]))
            changed = min(np.abs(image - flip).max() for flip in flips) > 0.01
            changes.append(changed)
    assert sum(changes) > len(changes) / 4  # one in five keeps its colors, one in two is sharp
    resumed = datasets.training_batches(split, start_step=2, **options)
    assert_same(take(resumed, 2), batches[2:])


# --- Arguments --------------------------------------------------------------------------------


@pytest.mark.parametrize("make", PIPELINES)
@pytest.mark.parametrize("batch_size, shard", [(24, (0, 1)), (12, (1, 2))])
def test_batch_larger_than_the_data_set(split, make, batch_size, shard):
    with pytest.raises(datasets.DatasetError, match="at most the number of examples, 23") as caught:
        make(split, batch_size=batch_size, image_size=8, seed=0, shard=shard)
    assert str(caught.value).endswith("Received: batch_size=24")
    datasets.check_batch_size(split, 23)
    with pytest.raises(datasets.DatasetError, match="^`train_batch_size` must be at most"):
        datasets.check_batch_size(split, 24, name="train_batch_size")


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch_size": 0},
        {"image_size": 0},
        {"start_step": -1},
        {"shard": (2, 2)},
        {"shard": (0, 0)},
    ],
)
def test_arguments_out_of_range(packaged, wrong):
    options = {"batch_size": 2, "image_size": 8, "seed": 0, **wrong}
    with pytest.raises(ValueError, match=f"`{next(iter(wrong))}` must be"):
        datasets.training_batches(packaged.split("train[:9]"), **options)
