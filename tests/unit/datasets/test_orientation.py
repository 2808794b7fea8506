"""The EXIF orientation, against Pillow's reading of it."""

import io
import struct

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from simclrv2_tf.datasets import images, orientation

PIXELS = np.kron(
    np.random.default_rng(0).integers(0, 256, (3, 5, 3), np.uint8), np.ones((8, 8, 1), np.uint8)
)
_READ = tf.function(orientation.jpeg_orientation, [tf.TensorSpec((), tf.string)], autograph=False)


def read(data):
    return _READ(tf.constant(data))


def jpeg(**options):
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, "JPEG", quality=95, subsampling=0, **options)
    return file.getvalue()


def tiff_header(order, entries, offset=8):
    """An Exif segment's content: a TIFF header and one directory of (tag, type, count, value)."""
    sign = "<" if order == b"II" else ">"
    directory = struct.pack(f"{sign}H", len(entries))
    for tag, kind, count, value in entries:
        packed = struct.pack(f"{sign}HH" if kind == 3 else f"{sign}I", *[value, 0][: 5 - kind])
        directory += struct.pack(f"{sign}HHI", tag, kind, count) + packed.ljust(4, b"\0")
    header = order + struct.pack(f"{sign}HI", 42, offset) + bytes(offset - 8)
    return b"Exif\0\0" + header + directory + bytes(4)


def with_segments(*segments):
    """A JPEG file with (marker, content) right after its beginning."""
    plain = jpeg()
    packed = b"".join(
        bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content
        for marker, content in segments
    )
    return plain[:2] + packed + plain[2:]


@pytest.mark.parametrize("value", range(1, 9))
def test_pixels_are_turned_as_pillow_does(value):
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "a camera", value
    data = jpeg(exif=exif)
    assert int(read(data)) == value
    stored = np.asarray(Image.open(io.BytesIO(data)))
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    turned = orientation.turned(tf.constant(stored), value).numpy()
    np.testing.assert_array_equal(turned, expected)
    decoded = images.decode_rgb(data).numpy()
    assert decoded.shape == expected.shape
    assert np.abs(decoded.astype(int) - expected).mean() < 2  # decoders round differently
    as_stored = images.decode_rgb(data, images.Reading(oriented=False)).numpy()
    assert as_stored.shape == stored.shape
    assert np.abs(as_stored.astype(int) - stored).mean() < 2


@pytest.mark.parametrize("order", [b"II", b"MM"])
@pytest.mark.parametrize("offset", [8, 20])
def test_both_byte_orders_and_any_place_of_the_directory(order, offset):
    camera = [(0x0100 + n, 4, 1, 2**31 + n) for n in range(15)]
    exif = tiff_header(order, [*camera, (0x0112, 3, 1, 6), (0x8769, 4, 1, 26)], offset)
    data = with_segments((0xE1, exif))
    assert Image.open(io.BytesIO(data)).getexif()[0x0112] == 6
    assert int(read(data)) == 6


@pytest.mark.parametrize("order", [b"II", b"MM"])
def test_a_long_number_is_read_as_pillow_does(order):
    data = with_segments((0xE1, tiff_header(order, [(0x0112, 4, 1, 6)])))
    assert Image.open(io.BytesIO(data)).getexif()[0x0112] == 6
    assert int(read(data)) == 6


def test_other_segments_come_before():
    exif = tiff_header(b"II", [(0x0112, 3, 1, 8)])
    xmp = b"http://ns.adobe.com/xap/1.0/\0" + b"x" * 65_000
    others = [(0xFE, b"a comment"), (0xE1, xmp), (0xED, b"Photoshop 3.0\0" + bytes(5000))]
    assert int(read(with_segments(*others, (0xE1, exif)))) == 8
    assert int(read(with_segments((0xE1, exif), (0xE1, xmp)))) == 8


@pytest.mark.parametrize(
    "segment",
    [
        tiff_header(b"II", [(0x0112, 3, 1, 0)]),
        tiff_header(b"II", [(0x0112, 3, 1, 9)]),
        tiff_header(b"II", [(0x0112, 4, 1, 2**31 + 6)]),
        tiff_header(b"II", [(0x0113, 3, 1, 6)]),
        tiff_header(b"II", []),
        b"Exif\0\0II*\0\xff\xff\xff\x7f",
        b"Exif\0\0II*\0\x08\0\0\0\xff\xff",
        b"Exif\0\0",
        b"Exif",
        b"",
    ],
)
def test_a_damaged_or_missing_orientation_is_as_stored(segment):
    assert int(read(with_segments((0xE1, segment)))) == 1


def test_any_beginning_of_a_file_has_an_orientation():
    data = with_segments((0xE1, tiff_header(b"MM", [(0x0112, 3, 1, 3)])))
    found = {int(read(data[:length])) for length in range(60)}
    assert found == {1, 3}
    rng = np.random.default_rng(0)
    for _ in range(30):
        assert 1 <= int(read(b"\xff\xd8\xff\xe1" + rng.bytes(rng.integers(0, 200)))) <= 8
