"""Gray images against Pillow, and bands against the arrays that tifffile and Pillow wrote."""

import io
import logging

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
import tifffile
from PIL import Image

from helpers.colored import examples_of, prepare
from simclrv2_tf import datasets
from simclrv2_tf.datasets import DatasetError, images

RNG = np.random.default_rng(4)
BYTES = RNG.integers(0, 256, (7, 9, 13), dtype=np.uint8)
DEEP = RNG.integers(0, 2**16, (7, 9, 13), dtype=np.uint16)
SMOOTH = np.stack(np.mgrid[60:200:16j, 60:200:16j, 60:200:1j], -1)[:, :, 0].astype(np.uint8)


def stored(array, kind="PNG", **options):
    file = io.BytesIO()
    Image.fromarray(array).save(file, kind, **options)
    return file.getvalue()


def tiff(samples, **options):
    file = io.BytesIO()
    tifffile.imwrite(file, samples, **options)
    return file.getvalue()


def planes(samples):
    return np.moveaxis(samples, -1, 0)


def write(root, contents):
    root.mkdir()
    for name, content in contents.items():
        (root / name).write_bytes(content)
    return f"folder:{root}"


def read(root, contents, channels, **options):
    """The images that a run has of these files, by name, and why others are skipped."""
    dataset = datasets.open_dataset(
        write(root, contents), str(root.parent / "data"), channels=channels, **options
    )
    split = dataset.split("+".join(dataset.splits))
    found = {example["id"].decode(): example["image"] for example in examples_of(split)}
    return found, dataset.skipped


GRAY = {
    "rgb.png": stored(BYTES[..., :3].copy()),
    "gray.png": stored(BYTES[..., 0].copy()),
    "rgb.jpg": stored(SMOOTH, "JPEG", quality=95),
    "gray.jpg": stored(SMOOTH[..., 0].copy(), "JPEG", quality=95),
    "rgb.tif": stored(BYTES[..., :3].copy(), "TIFF"),
    "rgb.bmp": stored(BYTES[..., :3].copy(), "BMP"),
    "rgb.webp": stored(BYTES[..., :3].copy(), "WEBP", lossless=True),
}


def test_gray_is_pillow_s_luma(tmp_path):
    found, skipped = read(tmp_path / "photos", GRAY, 1)
    assert not skipped and found.keys() == GRAY.keys()
    for name, content in GRAY.items():
        expected = np.asarray(Image.open(io.BytesIO(content)).convert("L"))[..., None]
        assert found[name].shape == expected.shape
        # Decoders of JPEG differ by some steps.
        tolerance = 4 if name.endswith(".jpg") else 0
        assert np.abs(found[name].astype(int) - expected).max() <= tolerance, name


def test_transparency_and_16_bits_are_gray_as_they_are_rgb(tmp_path):
    contents = {
        "rgba.png": stored(BYTES[..., :4].copy()),
        "deep.png": tf.io.encode_png(DEEP[..., :1]).numpy(),
        "deep.tif": tiff(DEEP[..., 0]),
        "none.tif": tiff(BYTES[..., :5], photometric="minisblack", planarconfig="contig"),
    }
    rgb, _ = read(tmp_path / "rgb", contents, 3, value_range=(0, 9000))
    gray, skipped = read(tmp_path / "gray", contents, 1, value_range=(0, 9000))
    assert gray.keys() == rgb.keys() == {"rgba.png", "deep.png", "deep.tif"}
    for name, image in rgb.items():
        expected = np.asarray(Image.fromarray(image).convert("L"))
        np.testing.assert_array_equal(gray[name][..., 0], expected, err_msg=name)
    reason = "it has 5 bands, but 1 (gray) or 3 (RGB) are read; use --channels=5 to read them all"
    assert skipped == {"none.tif": reason}


def bands(count, samples=BYTES):
    return samples[..., :count].copy()


def files_of(count):
    """Ways to store `count` bands: name -> content, and the 8-bit image that it is."""
    eight, deep = bands(count), bands(count, DEEP)
    scaled = np.rint(deep / 257).astype(np.uint8)
    options = {"photometric": "minisblack"}
    found = {
        "interleaved.tif": (tiff(eight, planarconfig="contig", **options), eight),
        "planar.tif": (tiff(planes(eight), planarconfig="separate", **options), eight),
        "pages.tif": (tiff(planes(eight), **options), eight),
        "lzw.tif": (tiff(eight, planarconfig="contig", compression="lzw", **options), eight),
        "deep.tif": (tiff(deep, planarconfig="contig", **options), scaled),
        "deep_planar.tif": (tiff(planes(deep), planarconfig="separate", **options), scaled),
        "big.tif": (tiff(deep, planarconfig="contig", bigtiff=True, **options), scaled),
    }
    if count in (2, 4):
        found["samples.png"] = (stored(eight), eight)
        found["deep.png"] = (tf.io.encode_png(deep).numpy(), scaled)
        exif = Image.Exif()
        exif[0x0112] = 3  # half a turn
        found["turned.png"] = (stored(eight, exif=exif), eight[::-1, ::-1])
    return found


@pytest.mark.parametrize("count", [2, 4, 5, 13])
def test_bands_are_those_of_the_file(count, tmp_path):
    expected = files_of(count)
    contents = {name: content for name, (content, _) in expected.items()}
    others = {
        "rgb.png": (GRAY["rgb.png"], 3),
        "gray.png": (GRAY["gray.png"], 1),
        "rgb.jpg": (GRAY["rgb.jpg"], 3),
        "six.tif": (tiff(bands(6), photometric="minisblack", planarconfig="contig"), 6),
    }
    contents |= {name: content for name, (content, _) in others.items()}
    found, skipped = read(tmp_path / "photos", contents, count)
    assert found.keys() == expected.keys()
    for name, (_, image) in expected.items():
        np.testing.assert_array_equal(found[name], image, err_msg=name)
    for name, (_, number) in others.items():
        word = "band" if number == 1 else "bands"
        assert skipped[name] == (
            f"it has {number} {word}, but {count} are read; use --channels={number} to read them "
            "all"
        )


def test_files_of_four_bands_that_are_none(tmp_path):
    contents = {
        "float.tif": tiff(
            bands(4).astype(np.float32), photometric="minisblack", planarconfig="contig"
        ),
        "cmyk.jpg": b"",
        "damaged.tif": files_of(4)["lzw.tif"][0][:-40],
        "series.tif": tiff(np.zeros((2, 4, 5, 6), np.uint8), photometric="minisblack"),
        "whole.tif": files_of(4)["planar.tif"][0],
        "also.tif": files_of(4)["planar.tif"][0],
    }
    file = io.BytesIO()
    Image.fromarray(bands(4)).convert("RGB").convert("CMYK").save(file, "JPEG")
    contents["cmyk.jpg"] = file.getvalue()
    found, skipped = read(tmp_path / "photos", contents, 4)
    assert found.keys() == {"whole.tif", "also.tif"}
    assert skipped["float.tif"] == "its samples are not integers of 8 or 16 bits"
    assert skipped["cmyk.jpg"] == "bands are only read from TIFF and PNG files"
    assert "axes are" in skipped["series.tif"] and skipped["damaged.tif"]


def test_where_no_file_has_the_bands_the_line_says_how_many_they_have(tmp_path):
    five = files_of(5)["deep.tif"][0]
    name = write(tmp_path / "photos", {"a.tif": five, "b.tif": five})
    for channels, read_there in ((3, "1 \\(gray\\) or 3 \\(RGB\\)"), (4, "4")):
        with pytest.raises(DatasetError) as caught:
            datasets.open_dataset(name, str(tmp_path / "data"), channels=channels)
        rule = f"none of 2 can be read .*5 bands, but {read_there} are read; use "
        assert caught.match(rule + "--channels=5 to read them all")
        assert len(str(caught.value).splitlines()) == 1


def test_bands_bits_and_range_are_described(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    twelve = (bands(5, DEEP) >> 4).astype(np.uint16)
    twelve[0] = 4095
    deep = tiff(twelve, photometric="minisblack", planarconfig="contig")
    contents = {f"{n}.tif": deep for n in range(4)}
    root = write(tmp_path / "photos", contents)
    dataset = datasets.open_dataset(root, str(tmp_path / "data"), channels=5)
    assert dataset.stored == "5 bands of 16 bits, values up to 4,095 (3 of 3 files checked)"
    assert "--value_range=0,4095 to make" in caplog.text  # of bands, too
    mixed = {name: GRAY[name] for name in ("rgb.png", "gray.png", "gray.jpg", "rgb.bmp")}
    mixed["rgba.png"] = stored(bands(4))
    root = write(tmp_path / "mixed", mixed | {"z.png": mixed["rgba.png"]})
    kinds = (
        datasets.open_dataset(root)
        .stored.removesuffix("(5 of 5 files checked)")
        .strip()
        .split(" and ")
    )
    assert set(kinds) <= {f"{x} of 8 bits" for x in ("RGB", "gray", "RGB with transparency")}


def test_where_no_file_has_the_bands_one_line_says_what_most_have(tmp_path, caplog):
    contents = {"0.png": stored(bands(2))} | {f"{n}.png": stored(bands(3)) for n in range(1, 9)}
    folder = write(tmp_path / "photos", contents)
    rule = r"none of 9 .*\([1-8].png and 7 more: it has 3 bands"
    with pytest.raises(DatasetError, match=rule):
        datasets.open_dataset(folder, channels=4)
    with pytest.raises(DatasetError, match=rule):  # for predictions, too
        datasets.open_images(folder.removeprefix("folder:"), channels=4)
    assert "Skipping" not in caplog.text


def test_encoded_bands_lie_one_below_another():
    reading = images.Reading(channels=5)
    image = bands(5)
    tall = np.concatenate(planes(image))[..., None]
    assert tall.shape == (35, 9, 1)
    np.testing.assert_array_equal(images.decode(tf.io.encode_png(tall), reading), image)
    deep = tf.io.encode_png(np.concatenate(planes(bands(5, DEEP)))[..., None])
    ranged = images.decode(deep, images.Reading((100, 4000), channels=5)).numpy()
    scaled = np.clip((bands(5, DEEP) - 100.0) * 255 / 3900, 0, 255)
    assert np.abs(ranged - scaled).max() <= 0.51
    for wrong in (GRAY["gray.png"], GRAY["rgb.png"], GRAY["gray.jpg"], b"no image"):
        with pytest.raises(tf.errors.OpError):
            images.decode(tf.constant(wrong), reading)


def test_the_packaged_set_is_gray(packaged):
    gray = datasets.open_dataset("fashion_mnist_small", channels=1).split("train[:5]")
    rgb = packaged.split("train[:5]")
    for one, other in zip(examples_of(gray), examples_of(rgb), strict=True):
        np.testing.assert_array_equal(one["image"], other["image"][..., :1])
    with pytest.raises(DatasetError, match="`channels` must be 1 or 3 for .*Received: channels=4"):
        datasets.open_dataset("fashion_mnist_small", channels=4)


def test_a_prepared_set_is_converted_to_gray_and_has_no_other_bands(numbered, tfds_dir):
    gray = datasets.open_dataset("color_images", str(tfds_dir), channels=1)
    assert gray.stored == "RGB of 8 bits"
    pairs = zip(
        examples_of(gray.split("train")), examples_of(numbered["tfds"].split("train")), strict=True
    )
    for one, other in pairs:
        expected = np.asarray(Image.fromarray(other["image"]).convert("L"))
        np.testing.assert_array_equal(one["image"][..., 0], expected)
    with pytest.raises(DatasetError, match="Received: channels=5, for color_images, whose images"):
        datasets.open_dataset("color_images", str(tfds_dir), channels=5)


def prepared_bands(root, samples):
    """A prepared set of 9 images of four bands, such as a fourth one of near infrared."""
    features = {
        "image": tfds.features.Image(shape=(None, None, 4), dtype=samples.dtype),
        "label": tfds.features.ClassLabel(num_classes=2),
    }
    images = {
        n: np.roll(np.tile(bands(4, samples), (2, 1, 1)), n, axis=1)[: 4 + n] for n in range(9)
    }
    examples = [(n, {"image": image, "label": n % 2}) for n, image in images.items()]
    prepare(root, "four_bands", features, {"train": examples}, 2)
    return images


def by_height(split):
    return {len(example["image"]) - 4: example for example in examples_of(split)}


def test_a_prepared_set_of_four_bands(tmp_path):
    expected = prepared_bands(tmp_path, BYTES)
    dataset = datasets.open_dataset("four_bands", str(tmp_path), channels=4)
    assert dataset.stored == "4 bands of 8 bits"
    split = dataset.split("train")
    found = by_height(split)
    subset = by_height(split.subset([found[2]["id"].decode(), found[5]["id"].decode()]))
    assert sorted(found) == sorted(expected) and sorted(subset) == [2, 5]
    for number, example in [*found.items(), *subset.items()]:
        np.testing.assert_array_equal(example["image"], expected[number])
        assert example["label"] == number % 2
    options = {"batch_size": 3, "image_size": 8}
    (one, two), _ = next(iter(datasets.pretraining_batches(split, seed=1, **options)))
    assert one.shape == two.shape == (3, 8, 8, 4) and np.ptp(one, axis=-1).max() > 0.1
    evaluated, _, weights = next(iter(datasets.evaluation_batches(split, **options)))
    assert evaluated.shape == (3, 8, 8, 4) and weights.numpy().all()


def test_a_prepared_set_of_four_bands_is_read_as_rgb_where_nothing_else_is_asked_for(tmp_path):
    """The fourth is transparency then, as in a PNG file, and the run says how it is a band."""
    expected = prepared_bands(tmp_path, BYTES)
    dataset = datasets.open_dataset("four_bands", str(tmp_path))
    assert dataset.stored == "RGB with transparency of 8 bits (4 bands with --channels=4)"
    for number, example in by_height(dataset.split("train")).items():
        white = Image.new("RGBA", expected[number].shape[1::-1], "white")
        white.alpha_composite(Image.fromarray(expected[number]))
        difference = np.asarray(white.convert("RGB")).astype(int) - example["image"]
        assert np.abs(difference).max() <= 1


def test_a_prepared_set_of_four_bands_of_16_bits_one_of_them_damaged(tmp_path, caplog):
    expected = prepared_bands(tmp_path, DEEP)
    for path in map(str, tmp_path.rglob("*.tfrecord*")):
        content = list(tf.data.TFRecordDataset(path).as_numpy_iterator())
        with tf.io.TFRecordWriter(path) as writer:
            for record in content:
                example = tf.train.Example.FromString(record)
                encoded = example.features.feature["image"].bytes_list.value
                if len(tf.io.decode_png(encoded[0], channels=0, dtype=tf.uint16)) == 4:
                    encoded[0] = encoded[0][:60]
                writer.write(example.SerializeToString())
    dataset = datasets.open_dataset(
        "four_bands", str(tmp_path), value_range=(1000, 61000), channels=4
    )
    split = dataset.split("train")
    found = by_height(split)
    assert sorted(found) == list(range(1, 9))
    for number, example in found.items():
        scaled = np.clip((expected[number] - 1000.0) * 255 / 60000, 0, 255)
        assert np.abs(scaled - example["image"]).max() <= 0.51
    assert caplog.text.count("Skipping the damaged image") == dataset.num_skipped == 1
    options = {"batch_size": 9, "image_size": 8}
    crops, _ = next(iter(datasets.training_batches(split, seed=1, **options)))
    assert crops.shape == (9, 8, 8, 4) and np.asarray(crops).max(axis=(1, 2, 3)).all()
    evaluated, _, weights = next(iter(datasets.evaluation_batches(split, **options)))
    assert evaluated.shape == (9, 8, 8, 4) and sorted(weights.numpy()) == [0, *[1] * 8]


def test_batches_have_the_bands_where_a_file_turns_out_to_be_damaged(tmp_path):
    whole = stored(bands(4))
    damaged = whole[:60] + bytes(30) + whole[90:]  # with its last bytes
    contents = {f"{n}.png": whole for n in range(5)} | {"5.png": damaged}
    dataset = datasets.open_dataset(write(tmp_path / "photos", contents), channels=4)
    split = dataset.split("+".join(dataset.splits))
    options = {"batch_size": 6, "image_size": 8}
    crops, _ = next(iter(datasets.training_batches(split, seed=1, **options)))
    assert crops.shape == (6, 8, 8, 4)
    evaluated, _, weights = next(iter(datasets.evaluation_batches(split, **options)))
    assert evaluated.shape == (6, 8, 8, 4) and sorted(weights.numpy()) == [0, 1, 1, 1, 1, 1]
    assert dataset.skipped.keys() == {"5.png"}
