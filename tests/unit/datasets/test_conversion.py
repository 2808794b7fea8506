"""Files that TensorFlow does not read: converted once, as Pillow or tifffile read them."""

import io
import os
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
import tifffile
from PIL import Image, ImageOps

from helpers.paths import SHARED
from simclrv2_tf import datasets
from simclrv2_tf.datasets import conversion, images

RNG = np.random.default_rng(0)
RGBA = RNG.integers(0, 256, (6, 9, 4), dtype=np.uint8)
DEEP = RNG.integers(0, 2**16, (6, 9, 4), dtype=np.uint16)
CASES = SHARED / "cases" / "images"


def stored(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def over_white(image):
    """Compositing by the definition, in float."""
    rgba = np.asarray(image.convert("RGBA")).astype(np.float64)
    alpha = rgba[..., 3:] / 255
    return rgba[..., :3] * alpha + 255 * (1 - alpha)


def tiff(samples, **options):
    file = io.BytesIO()
    tifffile.imwrite(file, samples, **options)
    return file.getvalue()


def read(path, cache, reading=images.AS_STORED):
    """A file as a run reads it: (H, W, 3), or why it is skipped."""
    is_converted, why = images.inspect(str(path))
    if is_converted:
        ((_, found),) = conversion.convert_files([str(path)], str(cache), 1)
        if isinstance(found, conversion.UnreadableError):
            return str(found)
        path = found
    return why or images.decode_rgb(tf.io.read_file(str(path)), reading).numpy()


def _palette(colors, **options):
    return stored(Image.fromarray(RGBA[..., :3].copy()).quantize(colors), "BMP", **options)


def _rotated(kind, **options):
    exif = Image.Exif()
    exif[0x0112] = 6
    return stored(Image.fromarray(RGBA[..., :3].copy()), kind, exif=exif, **options)


def _png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


EXIF_OF_ROTATED = struct.pack("<2sHIHHHIHHI", b"II", 42, 8, 1, 0x0112, 3, 1, 6, 0, 0)


def _png_with(before=b"", after=b"", samples=RGBA[..., :3]):
    """A PNG file with chunks before its pixels and after them."""
    content = tf.io.encode_png(samples).numpy()
    end = content.index(b"IEND") - 4
    return content[:33] + before + content[33:end] + after + content[end:]


def _raw_profile(kind):
    """EXIF as ImageMagick writes it: lines of text, compressed or not."""
    exif = b"Exif\0\0" + EXIF_OF_ROTATED
    text = b"\nexif\n%8d\n%s\n" % (len(exif), exif.hex().encode())
    packed = b"\0" + zlib.compress(text) if kind == b"zTXt" else text
    return _png_chunk(kind, b"Raw profile type exif\0" + packed)


FILES = {
    "exif_after_the_pixels.png": _png_with(after=_png_chunk(b"eXIf", EXIF_OF_ROTATED)),
    "exif_after_a_profile.png": _png_with(
        _png_chunk(b"iCCP", b"x\0\0" + zlib.compress(RNG.bytes(9000)))
        + _png_chunk(b"eXIf", EXIF_OF_ROTATED)
    ),
    "exif_in_text.png": _png_with(_raw_profile(b"tEXt")),
    "exif_in_compressed_text.png": _png_with(_raw_profile(b"zTXt")),
    "palette.bmp": _palette(200),
    "bilevel.bmp": stored(Image.fromarray(RGBA[..., 0].copy()).convert("1"), "BMP"),
    "gray.bmp": stored(Image.fromarray(RGBA[..., 0].copy()), "BMP"),
    "alpha.bmp": stored(Image.fromarray(RGBA), "BMP"),
    "plain.gif": stored(Image.fromarray(RGBA[..., :3].copy()).quantize(64), "GIF"),
    "transparent.gif": stored(
        Image.fromarray(RGBA[..., :3].copy()).quantize(64), "GIF", transparency=3
    ),
    "animated.gif": stored(
        Image.fromarray(RGBA[..., :3].copy()).quantize(64),
        "GIF",
        save_all=True,
        append_images=[Image.fromarray(255 - RGBA[..., :3]).quantize(64)],
    ),
    "animated.webp": stored(
        Image.fromarray(RGBA[..., :3].copy()),
        "WEBP",
        save_all=True,
        lossless=True,
        append_images=[Image.fromarray(255 - RGBA[..., :3])],
    ),
    "rotated.png": _rotated("PNG"),
    "rotated.webp": _rotated("WEBP", lossless=True),
    "rotated.tif": _rotated("TIFF"),
    "rgb.ppm": stored(Image.fromarray(RGBA[..., :3].copy()), "PPM"),
    "rgb.tif": stored(Image.fromarray(RGBA[..., :3].copy()), "TIFF", compression="tiff_lzw"),
    "rgba.tif": stored(Image.fromarray(RGBA), "TIFF"),
    "cmyk.tif": stored(Image.fromarray(RGBA).convert("RGB").convert("CMYK"), "TIFF"),
    "palette.tif": stored(Image.fromarray(RGBA[..., :3].copy()).quantize(64), "TIFF"),
    "white_is_zero.tif": tiff(RGBA[..., 0], photometric="miniswhite"),
    "rgb.avif": stored(Image.fromarray(RGBA[..., :3].copy()), "AVIF", quality=100),
}


@pytest.mark.parametrize("name", FILES)
def test_a_converted_file_is_what_pillow_reads(name, tmp_path):
    path = tmp_path / name
    path.write_bytes(FILES[name])
    expected = over_white(ImageOps.exif_transpose(Image.open(path)))
    assert images.inspect(str(path)) == (True, None)
    np.testing.assert_allclose(read(path, tmp_path / "cache"), expected, atol=0.51)


def sixteen_bits(samples):
    """(H, W) or (H, W, 3) samples as RGB of 8 bits, in float."""
    return np.broadcast_to(samples.reshape(*samples.shape[:2], -1) / 257, (*samples.shape[:2], 3))


DEEP_FILES = {
    "gray": (tiff(DEEP[..., 0]), sixteen_bits(DEEP[..., 0])),
    "white is zero": (
        tiff(DEEP[..., 0], photometric="miniswhite"),
        sixteen_bits(65535 - DEEP[..., 0]),
    ),
    "big-endian": (tiff(DEEP[..., 0], byteorder=">"), sixteen_bits(DEEP[..., 0])),
    "RGB": (tiff(DEEP[..., :3], photometric="rgb"), sixteen_bits(DEEP[..., :3])),
    "RGB, LZW": (
        tiff(DEEP[..., :3], photometric="rgb", compression="lzw"),
        sixteen_bits(DEEP[..., :3]),
    ),
    "planes": (
        tiff(np.moveaxis(DEEP[..., :3], -1, 0), photometric="rgb", planarconfig="separate"),
        sixteen_bits(DEEP[..., :3]),
    ),
    "alpha": (
        tiff(DEEP, photometric="rgb", extrasamples=["unassalpha"]),
        255 * (DEEP[..., :3] / 65535 * DEEP[..., 3:] / 65535 + 1 - DEEP[..., 3:] / 65535),
    ),
    "rotated PNG": (
        _png_with(_png_chunk(b"eXIf", EXIF_OF_ROTATED), samples=DEEP[..., :3]),
        np.rot90(sixteen_bits(DEEP[..., :3]), -1),
    ),
    "CMYK": (
        tiff(DEEP, photometric="separated"),
        255 * (1 - DEEP[..., :3] / 65535) * (1 - DEEP[..., 3:] / 65535),
    ),
    "rotated": (
        tiff(DEEP[..., :3], photometric="rgb", extratags=[("Orientation", "H", 1, 6, True)]),
        np.rot90(sixteen_bits(DEEP[..., :3]), -1),
    ),
}


@pytest.mark.parametrize("name", DEEP_FILES)
def test_sixteen_bits_of_a_tiff_are_kept(name, tmp_path):
    content, expected = DEEP_FILES[name]
    path = tmp_path / "deep.tif"
    path.write_bytes(content)
    np.testing.assert_allclose(read(path, tmp_path / "cache"), expected, atol=0.51)
    if name == "RGB":
        scaled = read(path, tmp_path / "cache", images.Reading((0, 4095)))
        expected = np.clip(DEEP[..., :3] / 4095, 0, 1) * 255
        np.testing.assert_allclose(scaled, expected, atol=0.51)


@pytest.mark.parametrize(
    "content, says",
    [
        (tiff(RGBA, photometric="rgb", extrasamples=["unspecified"]), "it has 4 bands, but 1"),
        (tiff(DEEP, photometric="rgb", extrasamples=["unspecified"]), "it has 4 bands, but 1"),
        (
            tiff(np.zeros((5, 6, 9), np.uint8), photometric="minisblack", planarconfig="contig"),
            "it has 9 bands",
        ),
        (tiff(np.zeros((6, 9), np.float32)), "its samples are not integers"),
        (tiff(np.zeros((6, 9), np.uint32)), "its samples are not integers of at most 16 bits"),
        (tiff(np.zeros((6, 9), np.int16)), "its samples are not integers"),
        (tiff(DEEP[..., :3], photometric="cielab"), "colors stored as CIELAB in 16 bits"),
        (
            tiff(np.zeros((3, 6, 9), np.uint8), imagej=True, metadata={"axes": "CYX"}),
            "each of its 3 channels is a separate page: save them as the samples of one RGB image",
        ),
        (
            tiff(np.zeros((5, 6, 9), np.uint16), ome=True, metadata={"axes": "CYX"}),
            "each of its 5 channels is a separate page: use --channels=5 to read them",
        ),
        (b"", "it is empty"),
        (bytes(99), "it only holds zeros"),
        (b"\n<html>Not found</html>", "it is text, such as an HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "'git lfs pull' gets the image"),
        (b"\xff\x0a\xfa", "JPEG XL"),
        (b"a note", "Pillow does not recognize it as an image"),
        (FILES["plain.gif"][:40], ""),
        (FILES["rgb.tif"][:100], ""),
    ],
)
def test_what_is_not_read_has_a_reason(content, says, tmp_path):
    path = tmp_path / "image.tif"
    path.write_bytes(content)
    found = read(path, tmp_path / "cache")
    assert isinstance(found, str) and found and says in found
    assert not list(tmp_path.rglob("*.png"))


def test_a_package_that_is_missing_is_named(monkeypatch):
    monkeypatch.setattr(conversion.importlib.util, "find_spec", lambda name: None)
    heic = b"\0\0\0\x18ftypheic" + bytes(40)
    for content, package in ((DEEP_FILES["RGB"][0], "tifffile"), (heic, "pillow-heif")):
        with pytest.raises(conversion.UnreadableError) as error:
            conversion.read_pixels(content)
        assert f"needs the package {package}: pip install 'simclrv2-tf[photos]'" in str(error.value)


def test_heic_is_read(tmp_path):
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    flat = np.full((32, 48, 3), (200, 30, 90), np.uint8)
    path = tmp_path / "photo.heic"
    Image.fromarray(flat).save(path, "HEIF", quality=95)
    assert np.abs(read(path, tmp_path / "cache").astype(int) - flat).mean() < 3


def test_a_large_image_is_refused_before_it_is_read(monkeypatch):
    monkeypatch.setattr(conversion, "MOST_PIXELS", 53)
    with pytest.raises(conversion.UnreadableError, match="at most 53 pixels, and this one has 6 x"):
        conversion.read_pixels(FILES["palette.bmp"])


def test_a_file_is_converted_once(tmp_path, monkeypatch):
    path, cache = tmp_path / "a.gif", tmp_path / "cache"
    path.write_bytes(FILES["plain.gif"])
    calls = []
    read_pixels = conversion.read_pixels
    monkeypatch.setattr(
        conversion, "read_pixels", lambda content: calls.append(1) or read_pixels(content)
    )
    first = read(path, cache)
    np.testing.assert_array_equal(read(path, cache), first)
    assert len(calls) == 1
    path.write_bytes(FILES["animated.gif"])  # another size
    read(path, cache)
    stat = path.stat()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 10**9))  # another time
    read(path, cache)
    assert len(calls) == 3 and len(list(cache.rglob("*.png"))) == 3


def test_processes_may_convert_the_same_files_at_once(tmp_path, monkeypatch):
    """Another one finishes the file while this one writes it."""
    path, cache = tmp_path / "a.gif", tmp_path / "cache"
    path.write_bytes(FILES["plain.gif"])
    read_pixels = conversion.read_pixels

    def meanwhile(content):
        monkeypatch.setattr(conversion, "read_pixels", read_pixels)
        monkeypatch.setattr(conversion.os, "getpid", lambda: 1)
        read(path, cache)
        monkeypatch.undo()
        return read_pixels(content)

    monkeypatch.setattr(conversion, "read_pixels", meanwhile)
    np.testing.assert_array_equal(read(path, cache), over_white(Image.open(path)))
    assert len(list(cache.rglob("*.png"))) == 1


def test_a_folder_of_such_files_is_read_as_another(tmp_path, capsys):
    """By every path into a data set: examples, batches, subsets, files in memory."""
    folder = tmp_path / "images"
    for name in ("rgb.tif", "palette.bmp", "transparent.gif", "rgb.ppm"):
        (folder / name[:3]).mkdir(parents=True, exist_ok=True)
        (folder / name[:3] / name).write_bytes(FILES[name])
    (folder / "rgb" / "plain.png").write_bytes(stored(Image.fromarray(RGBA), "PNG"))
    (folder / "rgb" / "not.tif").write_bytes(b"no image")
    dataset = datasets.open_dataset(f"folder:{folder}", data_dir=str(tmp_path / "data"))
    assert "Converting 5 images" in capsys.readouterr().out
    assert dataset.num_skipped == 1 and dataset.class_names == ("pal", "rgb", "tra")
    again = datasets.open_dataset(f"folder:{folder}", data_dir=str(tmp_path / "data"))
    # A file that could not be converted is tried again.
    assert "Converting 1 image of" in capsys.readouterr().out and again.num_skipped == 1
    (folder / "rgb" / "not.tif").unlink()
    datasets.open_dataset(f"folder:{folder}", data_dir=str(tmp_path / "data"))
    assert "Converting" not in capsys.readouterr().out
    split = dataset.split("+".join(dataset.splits))
    examples = {e["id"].decode(): e["image"] for e in split.examples().as_numpy_iterator()}
    assert len(examples) == 5
    for name, image in examples.items():
        expected = over_white(Image.open(folder / name))
        np.testing.assert_allclose(image, expected, atol=0.51, err_msg=name)
    subset = split.subset(["rgb/rgb.ppm", "tra/transparent.gif"])
    found = {e["id"].decode(): e["image"] for e in subset.cached().examples().as_numpy_iterator()}
    for name, image in found.items():
        np.testing.assert_array_equal(image, examples[name])
    assert (tmp_path / "data" / "converted").is_dir() and set(split.labels()[0]) == set(examples)


def test_images_to_predict_are_converted_too(tmp_path):
    (tmp_path / "a.tif").write_bytes(FILES["rgb.tif"])
    (tmp_path / "b.tif").write_bytes(b"no image")
    for path in (tmp_path, tmp_path / "a.tif"):
        split = datasets.open_images(str(path), data_dir=str(tmp_path / "data"))
        (found,) = [e["image"] for e in split.examples().as_numpy_iterator()]
        np.testing.assert_array_equal(found, RGBA[..., :3])


def test_the_cache_is_the_users_unless_a_data_dir_is_given(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert conversion.cache_folder(None) == "/caches/simclrv2_tf/converted"
    assert conversion.cache_folder("/data") == "/data/converted"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert conversion.cache_folder(None).endswith("/.cache/simclrv2_tf/converted")


def test_a_fraction_of_the_range_is_pointed_out(tmp_path, caplog):
    """12 bits in 16, as X-rays have; not where a range is given, nor for the full range."""

    def opened(values, value_range=None):
        caplog.clear()
        for number, array in enumerate(values):
            (tmp_path / f"{number}.png").write_bytes(tf.io.encode_png(array).numpy())
        datasets.open_dataset(f"folder:{tmp_path}", None, 0, value_range)
        return caplog.text

    twelve = [(DEEP[..., :1] >> 4) for _ in range(20)]
    for array in twelve:
        array[0] = 4095
    text = opened(twelve)
    assert "values up to 4,095 of 65,535 (16 files checked)" in text
    assert "--value_range=0,4095 to make" in text
    assert "value" not in opened(twelve, (0, 4095))
    assert "value" not in opened([DEEP[..., :1]] * 20)
    assert "no image has any" in opened([RGBA[..., :3]] * 20, (0, 4095))


SKIPPED = {"empty.jpg", "html_named.jpg", "jpeg_half.jpg", "jpeg_without_end.jpg"}


@pytest.mark.parametrize("path", sorted(CASES.glob("*")), ids=lambda path: path.name)
def test_cases_from_public_reports(path, tmp_path):
    found = read(path, tmp_path)
    if path.name in SKIPPED:
        assert isinstance(found, str) and found
        return
    if path.name in ("png_bad_crc_of_text.png", "png_gray_4bit_trns.png"):
        assert found.shape == (30, 40, 3)  # Pillow refuses the one, and misreads the other
        return
    image = ImageOps.exif_transpose(Image.open(path))
    deep = image.mode.startswith("I")
    expected = sixteen_bits(np.asarray(image)) if deep else over_white(image)
    assert found.shape == expected.shape
    difference = np.abs(found - expected)
    if Image.open(path).format == "JPEG":  # another cosine transform
        assert difference.mean() <= 2
    else:
        assert difference.max() <= 0.51
