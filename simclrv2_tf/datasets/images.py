"""Image files: their formats, and decoding to RGB."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from simclrv2_tf.datasets.orientation import jpeg_orientation, turned

# Some hundred kilobytes can decode to gigabytes; a photograph of 16,384 x 16,384 pixels is 0.8 GB.
MOST_PIXELS = 2**28
_MOST_16_BITS = 2**16 - 1
_SMALL_JPEG = 2**20  # bytes; no JPEG of these decodes to as many pixels


def _checked_size(height: tf.Tensor, width: tf.Tensor) -> tf.Operation:
    """Fails for an image that would fill the memory, before it is decoded."""
    pixels = tf.cast(height, tf.int64) * tf.cast(width, tf.int64)
    text = f"an image may have at most {MOST_PIXELS:,} pixels, and this one has"
    return tf.debugging.Assert(pixels <= MOST_PIXELS, [text, height, "x", width])


def _decode_jpeg(encoded: tf.Tensor, reading: Reading) -> tf.Tensor:
    def check():
        shape = tf.image.extract_jpeg_shape(encoded)
        with tf.control_dependencies([_checked_size(shape[0], shape[1])]):
            return tf.identity(encoded)

    large = tf.strings.length(encoded) > _SMALL_JPEG
    checked = tf.cond(large, check, lambda: encoded)
    image = tf.io.decode_image(checked, channels=3, expand_animations=False)
    image.set_shape((None, None, 3))
    return turned(image, jpeg_orientation(encoded)) if reading.oriented else image


def _decode_png(encoded: tf.Tensor, reading: Reading) -> tf.Tensor:
    # TensorFlow fills a missing alpha with 2^depth - 1, nearly transparent below 8 bits a sample.
    # So alpha is read only where a file has it: a color type with the alpha bit, or a tRNS chunk,
    # whose length is at most 256.
    # Zeros, as the error of a position beyond the end of a file that is cut would hold its bytes.
    header = tf.strings.substr(tf.strings.join([encoded, bytes(26)]), 0, 26)
    bits, color_type = (tf.strings.substr(header, place, 1) for place in (24, 25))
    sizes = tf.io.decode_raw(tf.strings.substr(header, 16, 8), tf.int32, little_endian=False)
    with tf.control_dependencies([_checked_size(sizes[1], sizes[0])]):
        encoded = tf.identity(encoded)
    transparent = (
        (color_type == b"\x04")
        | (color_type == b"\x06")
        | tf.strings.regex_full_match(encoded, r"\C*\x00\x00[\x00\x01]\CtRNS\C*")
    )

    def decode(dtype):
        def samples(image):
            return _to_8_bits(image, reading.value_range) if dtype == tf.uint16 else image

        def with_alpha():
            image = tf.io.decode_png(encoded, channels=4, dtype=dtype)
            alpha = _to_8_bits(image[..., 3:]) if dtype == tf.uint16 else image[..., 3:]
            return over_white(samples(image[..., :3]), alpha)

        def opaque():
            return samples(tf.io.decode_png(encoded, channels=3, dtype=dtype))

        return tf.cond(transparent, with_alpha, opaque)

    return tf.cond(bits == b"\x10", lambda: decode(tf.uint16), lambda: decode(tf.uint8))


def _to_8_bits(samples: tf.Tensor, value_range: tuple[float, float] | None = None) -> tf.Tensor:
    """Scales 16-bit samples, of which `value_range` are black and white, to uint8."""
    low, high = value_range or (0, _MOST_16_BITS)
    scaled = (tf.cast(samples, tf.float32) - low) * (255 / (high - low))
    return tf.cast(tf.round(tf.clip_by_value(scaled, 0, 255)), tf.uint8)


def _decode_webp(encoded: tf.Tensor, reading: Reading) -> tf.Tensor:
    del reading
    # A file has its own channels: the operation refuses others.
    image = tf.io.decode_image(encoded, expand_animations=False)
    opaque = tf.shape(image)[2] == 3
    return tf.cond(opaque, lambda: image, lambda: over_white(image[..., :3], image[..., 3:]))


def over_white(color: tf.Tensor, alpha: tf.Tensor) -> tf.Tensor:
    """Composites (H, W, 3) and alpha (H, W, 1), both uint8, over white, as uint8."""
    color, alpha = tf.cast(color, tf.int32), tf.cast(alpha, tf.int32)
    return tf.cast((color * alpha + 255 * (255 - alpha) + 127) // 255, tf.uint8)


@dataclasses.dataclass(frozen=True)
class Reading:
    """How stored samples become an image.

    Attributes:
        value_range: The 16-bit samples that become black and white; None: 0 and 65,535.
        oriented: Whether the EXIF orientation of a JPEG file is applied.
    """

    value_range: tuple[float, float] | None = None
    oriented: bool = True


def _always(head: bytes) -> bool:
    del head
    return True


def _is_unusual_bmp(head: bytes) -> bool:
    # TensorFlow takes a palette's indices for gray, and drops alpha.
    bits, compression = head[28:30], head[30:34]
    return (bits, compression) != (b"\x18\0", bytes(4))


def _is_unusual_webp(head: bytes) -> bool:
    # An extended file with an animation, or with EXIF, which may have an orientation.
    return head[12:16] == b"VP8X" and bool(head[20] & 0x0A) if len(head) > 20 else False


def _is_unusual_png(head: bytes) -> bool:
    return b"eXIf" in head


class ImageFormat(NamedTuple):
    """A format of image files.

    Attributes:
        suffixes: Endings of file names, in lower case.
        signature: The first bytes of every file; None for formats that differ in them.
        end: Bytes that the last 64 of every whole file hold, and compressed data cannot; None
            where only decoding tells whether a file is whole.
        decode: Decodes a file's bytes, () string, as `Reading` says, to (H, W, 3) uint8; None: as
            TensorFlow does.
        is_converted: Whether a file with these first `HEAD` bytes is one that TensorFlow does not
            read, or reads wrongly: `conversion` makes a PNG of it.
    """

    suffixes: tuple[str, ...]
    signature: bytes | None = None
    end: bytes | None = None
    decode: Callable[[tf.Tensor, Reading], tf.Tensor] | None = None
    is_converted: Callable[[bytes], bool] = lambda head: False


HEAD = 4096  # bytes

FORMATS = (
    ImageFormat(
        (".jpg", ".jpeg", ".jpe", ".jfif"), b"\xff\xd8\xff", end=b"\xff\xd9", decode=_decode_jpeg
    ),
    ImageFormat(
        (".png",),
        b"\x89PNG\r\n\x1a\n",
        end=b"IEND",
        decode=_decode_png,
        is_converted=_is_unusual_png,
    ),
    ImageFormat((".webp",), b"RIFF", decode=_decode_webp, is_converted=_is_unusual_webp),
    ImageFormat((".bmp",), b"BM", is_converted=_is_unusual_bmp),
    # TensorFlow makes transparent pixels black.
    ImageFormat((".gif",), b"GIF8", is_converted=_always),
    # TIFF, HEIC, AVIF and what else Pillow reads.
    ImageFormat(
        (".tif", ".tiff", ".heic", ".heif", ".avif", ".ppm", ".pgm", ".pnm"), is_converted=_always
    ),
)
EXTENSIONS = tuple(suffix for row in FORMATS for suffix in row.suffixes)
AS_STORED = Reading()


def is_converted(head: bytes) -> bool:
    """Whether a file with these first `HEAD` bytes is converted before TensorFlow reads it."""
    signed = (row for row in FORMATS if row.signature and head.startswith(row.signature))
    return next(signed, FORMATS[-1]).is_converted(head)


def decode_rgb(encoded: tf.Tensor, reading: Reading = AS_STORED) -> tf.Tensor:
    """Decodes an image file, () string, to 8-bit RGB, (H, W, 3) uint8.

    Takes files of `FORMATS` that are not converted, and others that TensorFlow reads. Gray becomes
    RGB, transparency is composited over white, CMYK is converted, 16-bit samples v become v / 257
    or are scaled by `reading.value_range`, and the EXIF orientation of a JPEG file is applied. An
    animation gives its first frame.

    Raises:
        tf.errors.OpError: The bytes are not a whole image.
    """

    if tf.executing_eagerly():  # where an error is the operation's own, in one line
        return _decode_rgb(encoded, reading)
    return _traced(reading, FORMATS, MOST_PIXELS, _SMALL_JPEG)(encoded)


@functools.lru_cache(maxsize=8)
def _traced(reading: Reading, *constants):
    """One function for all pipelines of a process: tracing it takes longer than a pipeline."""
    del constants  # by which it is kept
    signature = [tf.TensorSpec((), tf.string)]
    return tf.function(lambda encoded: _decode_rgb(encoded, reading), signature, autograph=False)


def _decode_rgb(encoded: tf.Tensor, reading: Reading) -> tf.Tensor:
    def decode(formats):
        if not formats:
            return tf.io.decode_image(encoded, channels=3, expand_animations=False)
        first, *others = formats
        return tf.cond(
            tf.strings.substr(encoded, 0, len(first.signature)) == first.signature,
            lambda: first.decode(encoded, reading),
            lambda: decode(others),
        )

    image = decode([row for row in FORMATS if row.decode])
    return tf.ensure_shape(image, (None, None, 3))


def decode_or_black(
    read: Callable[[], tf.Tensor], reading: Reading = AS_STORED
) -> tuple[tf.Tensor, tf.Tensor]:
    """`decode_rgb` of what `read` returns, and True; or, of no whole image, black and False.

    An operation that fails stops a pipeline, and `ignore_errors` on the pipeline would lose the
    place of the example. In a data set of one, the black image follows.
    """
    return (
        tf.data.Dataset.from_tensors(0)
        .map(
            tf.autograph.experimental.do_not_convert(lambda _: (decode_rgb(read(), reading), True))
        )
        .ignore_errors()
        .concatenate(tf.data.Dataset.from_tensors((black(), False)))
        .take(1)
        .get_single_element()
    )


def black() -> tf.Tensor:
    """What stands in for an image that cannot be read: (32, 32, 3) uint8."""
    return tf.zeros((32, 32, 3), tf.uint8)


def inspect(path: str, decode: bool = True) -> tuple[bool, str | None]:
    """Looks at the first and the last bytes of a file.

    Args:
        path: The file.
        decode: Whether a file whose ends do not tell is decoded, to find out whether it is whole.

    Returns:
        Whether the file has to be converted; and why it cannot be read, None where it can or where
        only its conversion will tell.
    """
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            head = file.read(HEAD)
            file.seek(max(0, file.size() - 64))
            tail = file.read()
        if is_converted(head):
            return True, None
        for row in FORMATS:
            if row.signature and row.end and head.startswith(row.signature) and row.end in tail:
                return False, None
        if decode:
            decode_rgb(tf.io.read_file(path))
    except tf.errors.OpError as error:
        return False, reason(error)
    return False, None


def stored_16_bits(path: str) -> np.ndarray | None:
    """The samples of a whole PNG file of 16 bits, (H, W, 3) uint16; None for other files."""
    with tf.io.gfile.GFile(path, "rb") as file:
        head = file.read(26)
    if not head.startswith(b"\x89PNG") or head[24:25] != b"\x10":
        return None
    return tf.io.decode_png(tf.io.read_file(path), channels=3, dtype=tf.uint16).numpy()


def reason(error: Exception) -> str:
    """The first line of a TensorFlow error, without the name of the op that raised it."""
    message = getattr(error, "message", None) or str(error)
    message = re.sub(r"^\{\{.*?\}\}\s*", "", message).split("\n")[0]
    return re.sub(r"\s*\[Op:\w+\].*$", "", message)
