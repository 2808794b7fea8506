"""Decoding to RGB: every kind of PNG and JPEG, against compositing by the definition."""

import io
import struct
import zlib

import imagecodecs
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from helpers.colored import encoded
from simclrv2_tf.datasets import conversion, images

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


def in_16_bits(shape):
    """A PNG of 16 bits with gray (H, W), RGB or RGBA samples, and its samples."""
    values = np.random.default_rng(1).integers(0, 2**16, shape, np.uint16)
    values.flat[:3] = 0, 65535, 32768
    return tf.io.encode_png(values if values.ndim == 3 else values[..., None]).numpy(), values


def test_png_of_16_bits_is_divided_by_257():
    for shape in ((5, 7), (5, 7, 3)):
        data, values = in_16_bits(shape)
        expected = np.rint(values / 257)
        expected = np.repeat(expected[..., None], 3, -1) if expected.ndim == 2 else expected
        np.testing.assert_array_equal(images.decode_rgb(data), expected)


def test_png_of_16_bits_with_alpha_is_over_white():
    data, values = in_16_bits((5, 7, 4))
    alpha = values[..., 3:] / 65535
    expected = 255 * (values[..., :3] / 65535 * alpha + 1 - alpha)
    np.testing.assert_allclose(images.decode_rgb(data), expected, atol=1.1)


@pytest.mark.parametrize("low, high", [(0, 4095), (1000, 60000.5), (0, 1)])
def test_a_value_range_scales_16_bits(low, high):
    data, values = in_16_bits((5, 7, 3))
    expected = np.clip((values.astype(float) - low) / (high - low), 0, 1) * 255
    decoded = images.decode_rgb(data, images.Reading((low, high))).numpy()
    np.testing.assert_allclose(decoded, expected, atol=0.501)
    assert decoded.max() == 255 and decoded.min() == 0
    eight_bits = encoded(Image.fromarray(PIXELS[..., :3].copy()))
    scaled = images.decode_rgb(eight_bits, images.Reading((low, high)))
    np.testing.assert_array_equal(scaled, PIXELS[..., :3])


@pytest.mark.parametrize("options", [{"lossless": True, "exact": True}, {"quality": 80}])
@pytest.mark.parametrize("channels", [3, 4])
def test_webp_is_what_pillow_reads_over_white(channels, options):
    mode = "RGB" if channels == 3 else "RGBA"
    data = encoded(Image.fromarray(PIXELS[..., :channels].copy(), mode), "WEBP", **options)
    expected = over_white(Image.open(io.BytesIO(data)))
    np.testing.assert_allclose(images.decode_rgb(data), expected, atol=0.51)


def test_bmp_and_gif_are_what_pillow_reads():
    for image, kind in ((Image.fromarray(PIXELS[..., :3].copy()), "BMP"), (quantized(32), "GIF")):
        data = encoded(image, kind)
        np.testing.assert_array_equal(images.decode_rgb(data), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("mode, channels", [("L", 0), ("RGB", slice(3)), ("CMYK", slice(4))])
def test_jpeg_becomes_rgb(mode, channels):
    flat = np.kron(PIXELS[:4, :4], np.ones((8, 8, 1), np.uint8))
    image = Image.fromarray(np.ascontiguousarray(flat[..., channels]), mode)
    data = encoded(image, "JPEG", quality=95, subsampling=0)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    decoded = images.decode_rgb(data).numpy().astype(int)
    assert decoded.shape == (32, 32, 3)
    assert np.abs(decoded - expected).mean() < 1  # decoders round differently


def test_a_format_is_a_row(monkeypatch):
    def decode(encoded, reading):
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
        is_converted, why = images.inspect(str(file))
        if is_converted:  # it is too short to tell its format
            with pytest.raises(conversion.UnreadableError):
                conversion.read_pixels(file.read_bytes())
        else:
            assert why, length


def test_a_reason_is_one_line_in_words():
    twelve_bits = imagecodecs.jpeg8_encode(
        np.zeros((8, 8, 3), np.uint16), level=90, bitspersample=12
    )
    for content, said in (
        (twelve_bits, "it is not a complete JPEG file of 8 bits, baseline or progressive"),
        (
            bomb_png(30_000, 40_000),
            "an image may have at most 268,435,456 pixels, and this one has 40000 x 30000",
        ),
    ):
        with pytest.raises(tf.errors.OpError) as caught:
            images.decode_rgb(tf.constant(content))
        assert images.reason(caught.value) == said


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
    monkeypatch.setattr(images, "MOST_PIXELS", 1999)
    with pytest.raises(tf.errors.OpError, match="at most 1,999 pixels"):
        images.decode_rgb(tf.constant(file.getvalue()))
