"""Image files: their formats, and decoding to RGB."""

import re
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

# Some hundred kilobytes can decode to gigabytes; a photograph of 16,384 x 16,384 pixels is 0.8 GB.
_MOST_PIXELS = 2**28
_SMALL_JPEG = 2**20  # bytes; no JPEG of these decodes to as many pixels


def _checked_size(height: tf.Tensor, width: tf.Tensor) -> tf.Operation:
    """Fails for an image that would fill the memory, before it is decoded."""
    pixels = tf.cast(height, tf.int64) * tf.cast(width, tf.int64)
    text = f"an image may have at most {_MOST_PIXELS:,} pixels, and this one has"
    return tf.debugging.Assert(pixels <= _MOST_PIXELS, [text, height, "x", width])


def _decode_jpeg(encoded: tf.Tensor) -> tf.Tensor:
    def check():
        shape = tf.image.extract_jpeg_shape(encoded)
        with tf.control_dependencies([_checked_size(shape[0], shape[1])]):
            return tf.identity(encoded)

    large = tf.strings.length(encoded) > _SMALL_JPEG
    encoded = tf.cond(large, check, lambda: encoded)
    return tf.io.decode_image(encoded, channels=3, expand_animations=False)


def _decode_png(encoded: tf.Tensor) -> tf.Tensor:
    # TensorFlow fills a missing alpha with 2^depth - 1, nearly transparent below 8 bits a sample.
    # So alpha is read only where a file has it: a color type with the alpha bit, or a tRNS chunk,
    # whose length is at most 256.
    # Zeros, as the error of a position beyond the end of a file that is cut would hold its bytes.
    header = tf.strings.substr(tf.strings.join([encoded, bytes(26)]), 0, 26)
    color_type = tf.strings.substr(header, 25, 1)
    sizes = tf.io.decode_raw(tf.strings.substr(header, 16, 8), tf.int32, little_endian=False)
    with tf.control_dependencies([_checked_size(sizes[1], sizes[0])]):
        encoded = tf.identity(encoded)
    transparent = (
        (color_type == b"\x04")
        | (color_type == b"\x06")
        | tf.strings.regex_full_match(encoded, r"\C*\x00\x00[\x00\x01]\CtRNS\C*")
    )
    return tf.cond(
        transparent,
        lambda: _over_white(tf.io.decode_png(encoded, channels=4)),
        lambda: tf.io.decode_png(encoded, channels=3),
    )


def _over_white(rgba: tf.Tensor) -> tf.Tensor:
    rgba = tf.cast(rgba, tf.int32)
    rgb, alpha = rgba[..., :3], rgba[..., 3:]
    return tf.cast((rgb * alpha + 255 * (255 - alpha) + 127) // 255, tf.uint8)


class ImageFormat(NamedTuple):
    """A format of image files.

    Attributes:
        suffixes: Endings of file names, in lower case.
        signature: The first bytes of every file.
        end: Bytes that the last 64 of every whole file hold, and compressed data cannot; None
            where only decoding tells whether a file is whole.
        decode: Decodes a file's bytes, () string, to (H, W, 3) uint8; None: as TensorFlow does.
    """

    suffixes: tuple[str, ...]
    signature: bytes
    end: bytes | None = None
    decode: Callable[[tf.Tensor], tf.Tensor] | None = None


FORMATS = (
    ImageFormat((".jpg", ".jpeg"), b"\xff\xd8\xff", end=b"\xff\xd9", decode=_decode_jpeg),
    ImageFormat((".png",), b"\x89PNG\r\n\x1a\n", end=b"IEND", decode=_decode_png),
)
EXTENSIONS = tuple(suffix for row in FORMATS for suffix in row.suffixes)


def decode_rgb(encoded: tf.Tensor) -> tf.Tensor:
    """Decodes an image file, () string, to 8-bit RGB, (H, W, 3) uint8.

    Takes files of `FORMATS`, and others that TensorFlow reads. Gray becomes RGB, transparency is
    composited over white, CMYK is converted, 16-bit samples keep their high byte, and an EXIF
    orientation is ignored. An animation gives its first frame.

    Raises:
        tf.errors.OpError: The bytes are not a whole image.
    """

    def decode(formats):
        if not formats:
            return tf.io.decode_image(encoded, channels=3, expand_animations=False)
        first, *others = formats
        return tf.cond(
            tf.strings.substr(encoded, 0, len(first.signature)) == first.signature,
            lambda: first.decode(encoded),
            lambda: decode(others),
        )

    image = decode([row for row in FORMATS if row.decode])
    return tf.ensure_shape(image, (None, None, 3))


def decode_or_black(read: Callable[[], tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
    """`decode_rgb` of what `read` returns, and True; or, of no whole image, black and False.

    An operation that fails stops a pipeline, and `ignore_errors` on the pipeline would lose the
    place of the example. In a data set of one, the black image follows.
    """
    return (
        tf.data.Dataset.from_tensors(0)
        .map(tf.autograph.experimental.do_not_convert(lambda _: (decode_rgb(read()), True)))
        .ignore_errors()
        .concatenate(tf.data.Dataset.from_tensors((black(), False)))
        .take(1)
        .get_single_element()
    )


def black() -> tf.Tensor:
    """What stands in for an image that cannot be read: (32, 32, 3) uint8."""
    return tf.zeros((32, 32, 3), tf.uint8)


def why_unreadable(path: str) -> str | None:
    """Why a file is no whole image; None for a whole one. Decodes it if an end looks wrong."""
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            head = file.read(max(len(row.signature) for row in FORMATS))
            file.seek(max(0, file.size() - 64))
            tail = file.read()
        if any(row.end and head.startswith(row.signature) and row.end in tail for row in FORMATS):
            return None
        decode_rgb(tf.io.read_file(path))
    except tf.errors.OpError as error:
        return reason(error)
    return None


def reason(error: Exception) -> str:
    """The first line of a TensorFlow error, without the name of the op that raised it."""
    message = getattr(error, "message", None) or str(error)
    message = re.sub(r"^\{\{.*?\}\}\s*", "", message).split("\n")[0]
    return re.sub(r"\s*\[Op:\w+\].*$", "", message)
