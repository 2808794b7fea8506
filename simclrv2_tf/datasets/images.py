"""Image files: their formats, and decoding to RGB."""

import re
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf


def _decode_png(encoded: tf.Tensor) -> tf.Tensor:
    # TensorFlow fills a missing alpha with 2^depth - 1, nearly transparent below 8 bits a sample.
    # So alpha is read only where a file has it: a color type with the alpha bit, or a tRNS chunk,
    # whose length is at most 256.
    # Zeros, as the error of a position beyond the end of a file that is cut would hold its bytes.
    color_type = tf.strings.substr(tf.strings.join([encoded, bytes(26)]), 25, 1)
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
    ImageFormat((".jpg", ".jpeg"), b"\xff\xd8\xff", end=b"\xff\xd9"),
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
