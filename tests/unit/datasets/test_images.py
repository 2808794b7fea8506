"""Decoding to RGB: every kind of PNG and JPEG, against compositing by the definition."""

import io
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from helpers.colored import encoded
from simclrv2_tf.datasets import images

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
    decoded = images.decode_rgb(tf.constant(data)).numpy()
    assert decoded.dtype == np.uint8
    np.testing.assert_allclose(decoded, over_white(Image.open(io.BytesIO(data))), atol=0.51)
    in_graph = tf.function(images.decode_rgb)(tf.constant(data))
    np.testing.assert_array_equal(in_graph, decoded)


def test_png_of_16_bits_keeps_the_high_byte():
    values = np.arange(35, dtype=np.uint16).reshape(5, 7) * 1800
    decoded = images.decode_rgb(encoded(Image.fromarray(values))).numpy()
    np.testing.assert_array_equal(decoded, np.repeat((values >> 8)[..., None], 3, axis=2))


@pytest.mark.parametrize("mode, channels", [("L", 0), ("RGB", slice(3)), ("CMYK", slice(4))])
def test_jpeg_becomes_rgb(mode, channels):
    flat = np.kron(PIXELS[:4, :4], np.ones((8, 8, 1), np.uint8))
    image = Image.fromarray(np.ascontiguousarray(flat[..., channels]), mode)
    data = encoded(image, "JPEG", quality=95, subsampling=0)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    decoded = images.decode_rgb(data).numpy().astype(int)
    assert decoded.shape == (32, 32, 3)
    assert np.abs(decoded - expected).mean() < 1  # decoders round differently


def test_exif_orientation_is_ignored():
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees to display
    image = Image.fromarray(np.kron(PIXELS[:1, :2, :3], np.ones((8, 8, 1), np.uint8)))
    decoded = images.decode_rgb(encoded(image, "JPEG", exif=exif)).numpy()
    assert decoded.shape == (8, 16, 3)


def test_a_format_is_a_row(monkeypatch):
    assert images.EXTENSIONS == (".jpg", ".jpeg", ".png")

    def decode(encoded):
        return tf.fill((1, 2, 3), tf.io.decode_raw(encoded, tf.uint8)[4])

    gray = images.ImageFormat((".gray",), b"GRAY", decode=decode)
    monkeypatch.setattr(images, "FORMATS", (*images.FORMATS, gray))
    np.testing.assert_array_equal(images.decode_rgb(b"GRAY\x07"), np.full((1, 2, 3), 7))
    image = Image.fromarray(PIXELS[..., :3].copy())
    np.testing.assert_array_equal(images.decode_rgb(encoded(image)), PIXELS[..., :3])
    assert images.decode_rgb(encoded(image, "JPEG")).shape == PIXELS[..., :3].shape
    with pytest.raises(tf.errors.OpError):
        images.decode_rgb(b"GREY\x07")


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_file_cut_anywhere_is_unreadable_with_a_reason(tmp_path, kind):
    """Also within its header, of which an error of TensorFlow's holds the bytes."""
    file = tmp_path / "image"
    Image.fromarray(np.full((9, 7, 3), 200, np.uint8)).save(file, kind)
    content = file.read_bytes()
    for length in [*range(40), len(content) // 2, len(content) - 20]:
        file.write_bytes(content[:length])
        assert images.why_unreadable(str(file)), length


def bomb_png(width, height):
    """A PNG that says it has so many pixels, of which it holds none."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    pixels = zlib.compress(b"")
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    "width, height", [(30_000, 30_000), (2**31 - 1, 1), (1, 2**29), (16_385, 16_384)]
)
def test_an_image_that_would_fill_the_memory_is_refused(width, height):
    with pytest.raises(tf.errors.OpError, match="at most 268,435,456 pixels"):
        images.decode_rgb(tf.constant(bomb_png(width, height)))


def test_a_large_jpeg_is_measured_first(monkeypatch):
    file = io.BytesIO()
    Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(file, "JPEG")
    monkeypatch.setattr(images, "_SMALL_JPEG", 10)
    assert images.decode_rgb(tf.constant(file.getvalue())).shape == (40, 50, 3)
    monkeypatch.setattr(images, "_MOST_PIXELS", 1999)
    with pytest.raises(tf.errors.OpError, match="at most 1,999 pixels"):
        images.decode_rgb(tf.constant(file.getvalue()))
