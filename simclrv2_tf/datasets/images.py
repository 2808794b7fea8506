"""Image files: their formats, and decoding to gray, RGB or bands."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from simclrv2_tf.channels import COLORS, RGB, other_bands
from simclrv2_tf.datasets.orientation import jpeg_orientation, turned

# A few hundred kilobytes can decode to gigabytes; 16,384 x 16,384 RGB pixels are 0.8 GB.
MOST_PIXELS = 2**28
_MOST_16_BITS = 2**16 - 1
_SMALL_JPEG = 2**20  # bytes; no JPEG of this size decodes to that many pixels
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_SAMPLES = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}  # per pixel, by the color type
_PNG_HEADER = 26  # bytes, up to the color type
# In units of 2^-16, as in Pillow. The sum is 1, so that the luma of a gray pixel is its gray.
_LUMA = (19595, 38470, 7471)


def _checked_size(height: tf.Tensor, width: tf.Tensor) -> tf.Operation:
    """Fails for an image that would fill the memory, before decoding it."""
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
    # So alpha is read only if a file has it: a color type with the alpha bit, or a tRNS chunk,
    # whose length is at most 256.
    encoded, bits, color_type = _png_header(encoded)
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


def _png_header(encoded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns a PNG file of checked size, and its bytes for bits per sample and color type."""
    # Zeros, because the error of a position beyond the end of a truncated file would hold its
    # bytes.
    padded = tf.strings.join([encoded, bytes(_PNG_HEADER)])
    header = tf.strings.substr(padded, 0, _PNG_HEADER)
    bits, color_type = (tf.strings.substr(header, place, 1) for place in (24, 25))
    sizes = tf.io.decode_raw(tf.strings.substr(header, 16, 8), tf.int32, little_endian=False)
    with tf.control_dependencies([_checked_size(sizes[1], sizes[0])]):
        return tf.identity(encoded), bits, color_type


def _to_8_bits(samples: tf.Tensor, value_range: tuple[float, float] | None = None) -> tf.Tensor:
    """Scales 16-bit samples, of which `value_range` are black and white, to uint8."""
    low, high = value_range or (0, _MOST_16_BITS)
    scaled = (tf.cast(samples, tf.float32) - low) * (255 / (high - low))
    return tf.cast(tf.round(tf.clip_by_value(scaled, 0, 255)), tf.uint8)


def _decode_webp(encoded: tf.Tensor, reading: Reading) -> tf.Tensor:
    del reading
    # Keep the file's own channels: the operation rejects others.
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
        channels: C of the image: 1 (gray), 3 (RGB), or the number of bands that files have.
    """

    value_range: tuple[float, float] | None = None
    oriented: bool = True
    channels: int = RGB


def _always(head: bytes) -> bool:
    del head
    return True


def _is_unusual_bmp(head: bytes) -> bool:
    # TensorFlow reads a palette's indices as gray, and drops alpha.
    bits, compression = head[28:30], head[30:34]
    return (bits, compression) != (b"\x18\0", bytes(4))


def _is_unusual_webp(head: bytes) -> bool:
    # An extended file with an animation, or with EXIF data, possibly with an orientation.
    return head[12:16] == b"VP8X" and bool(head[20] & 0x0A) if len(head) > 20 else False


def _is_unusual_png(head: bytes) -> bool:
    # ImageMagick writes the EXIF data of a photo as text.
    return b"eXIf" in head or b"Raw profile type exif" in head


class ImageFormat(NamedTuple):
    """A format of image files.

    Attributes:
        suffixes: Endings of file names, in lower case.
        signature: The first bytes of every file; None for formats without a fixed signature.
        end: Bytes that the last 64 of every complete file hold, and compressed data cannot; None if
            only decoding shows whether a file is complete.
        decode: Decodes a file's bytes, () string, according to a `Reading`, to (H, W, 3) uint8;
            None to use TensorFlow's function.
        is_converted: Whether TensorFlow does not read, or reads wrongly, a file with these first
            and last bytes, so that `conversion` makes a PNG file of it.
    """

    suffixes: tuple[str, ...]
    signature: bytes | None = None
    end: bytes | None = None
    decode: Callable[[tf.Tensor, Reading], tf.Tensor] | None = None
    is_converted: Callable[[bytes], bool] = lambda head: False


_HEAD = 4096  # bytes
_PIXELS, _MOST_HEAD = b"IDAT", 2**20  # of a PNG file; color profiles come before its pixels

FORMATS = (
    ImageFormat(
        (".jpg", ".jpeg", ".jpe", ".jfif"), b"\xff\xd8\xff", end=b"\xff\xd9", decode=_decode_jpeg
    ),
    ImageFormat(
        (".png",),
        _PNG,
        end=b"IEND",
        decode=_decode_png,
        is_converted=_is_unusual_png,
    ),
    ImageFormat((".webp",), b"RIFF", decode=_decode_webp, is_converted=_is_unusual_webp),
    ImageFormat((".bmp",), b"BM", is_converted=_is_unusual_bmp),
    # TensorFlow makes transparent pixels black.
    ImageFormat((".gif",), b"GIF8", is_converted=_always),
    # TIFF, HEIC, AVIF and other formats of Pillow.
    ImageFormat(
        (".tif", ".tiff", ".heic", ".heif", ".avif", ".ppm", ".pgm", ".pnm"), is_converted=_always
    ),
)
EXTENSIONS = tuple(suffix for row in FORMATS for suffix in row.suffixes)
AS_STORED = Reading()


def is_converted(head: bytes) -> bool:
    """Whether a file with these first and last bytes is converted before TensorFlow reads it."""
    signed = (row for row in FORMATS if row.signature and head.startswith(row.signature))
    return next(signed, FORMATS[-1]).is_converted(head)


def decode(encoded: tf.Tensor, reading: Reading = AS_STORED) -> tf.Tensor:
    """Decodes an image file, () string, to (H, W, C) uint8, C being `reading.channels`.

    With 3 channels same as `decode_rgb`; with 1, the luma of its result. With others, the file must
    have that many bands, none of them a color or transparency: a PNG file with that many samples
    per pixel, or a gray one that stacks the bands vertically, as `conversion` writes it for a TIFF
    file.

    Raises:
        tf.errors.OpError: The bytes are not a complete image, or have other bands.
    """
    if reading.channels in COLORS:
        return as_color(decode_rgb(encoded, reading), reading.channels)
    return _decode_bands(encoded, reading)


def as_color(image: tf.Tensor, channels: int) -> tf.Tensor:
    """Converts gray or RGB, (H, W, 1 or 3) uint8, to gray or RGB: (H, W, `channels`) uint8.

    Gray is the luma (ITU-R 601-2), rounded as by Pillow.
    """
    if image.shape[-1] == channels:
        return image
    if channels == RGB:
        return tf.repeat(image, RGB, axis=-1)
    luma = tf.reduce_sum(tf.cast(image, tf.int32) * _LUMA, axis=-1, keepdims=True)
    return tf.cast((luma + 2**15) // 2**16, tf.uint8)


def _decode_bands(encoded: tf.Tensor, reading: Reading) -> tf.Tensor:
    channels = reading.channels
    encoded, bits, _ = _png_header(encoded)
    rule = f"an image of {channels} bands must be a PNG file with as many samples per pixel, or a "
    rule += "gray one that stacks the bands vertically"
    is_png = tf.strings.substr(encoded, 0, len(_PNG)) == _PNG
    with tf.control_dependencies([tf.debugging.Assert(is_png, [rule])]):
        encoded = tf.identity(encoded)

    def samples(dtype):
        image = tf.io.decode_png(encoded, channels=0, dtype=dtype)
        return _to_8_bits(image, reading.value_range) if dtype == tf.uint16 else image

    image = tf.cond(bits == b"\x10", lambda: samples(tf.uint16), lambda: samples(tf.uint8))
    height, width, bands = tf.unstack(tf.shape(image))

    def below_each_other():
        right = (bands == 1) & (height % channels == 0)
        with tf.control_dependencies([tf.debugging.Assert(right, [rule, "this one has", bands])]):
            planes = tf.reshape(image, (channels, height // channels, width))
        return tf.transpose(planes, (1, 2, 0))

    image = tf.cond(bands == channels, lambda: image, below_each_other)
    return tf.ensure_shape(image, (None, None, channels))


def decode_rgb(encoded: tf.Tensor, reading: Reading = AS_STORED) -> tf.Tensor:
    """Decodes an image file, () string, to 8-bit RGB, (H, W, 3) uint8.

    Reads files of `FORMATS` that need no conversion, and others that TensorFlow reads. Gray becomes
    RGB, transparency is composited over white, CMYK is converted, 16-bit samples v become v / 257
    or are scaled by `reading.value_range`, and the EXIF orientation of a JPEG file is applied. An
    animation gives its first frame.

    Raises:
        tf.errors.OpError: The bytes are not a complete image.
    """

    if tf.executing_eagerly():  # eagerly, an error is the operation's own, in one line
        return _decode_rgb(encoded, reading)
    return _traced(reading, FORMATS, MOST_PIXELS, _SMALL_JPEG)(encoded)


@functools.lru_cache(maxsize=8)
def _traced(reading: Reading, *constants):
    """Returns one function for all pipelines of a process, because tracing it is slow."""
    del constants  # part of the cache's key
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
    """Returns `decode` of the result of `read`, and True; a black image and False if damaged.

    An operation that fails stops a pipeline, and `ignore_errors` on the whole pipeline would lose
    the position of the example. So each example is a data set of its own, followed by the black
    image.
    """
    return (
        tf.data.Dataset.from_tensors(0)
        .map(tf.autograph.experimental.do_not_convert(lambda _: (decode(read(), reading), True)))
        .ignore_errors()
        .concatenate(tf.data.Dataset.from_tensors((black(reading.channels), False)))
        .take(1)
        .get_single_element()
    )


def black(channels: int = RGB) -> tf.Tensor:
    """Makes the image that replaces an unreadable one: (32, 32, `channels`) uint8, all zero."""
    return tf.zeros((32, 32, channels), tf.uint8)


def inspect(
    path: str, decodes: bool = True, reading: Reading = AS_STORED
) -> tuple[bool, str | None]:
    """Checks the first and the last bytes of a file.

    Args:
        path: The file.
        decodes: Whether to decode a file if these bytes do not show whether it is complete.
        reading: How the file will be read.

    Returns:
        Whether the file needs conversion; and the reason why it cannot be read, None if it can be
        read or if only the conversion will show it.
    """
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            head = file.read(_HEAD)
            while head.startswith(_PNG) and _PIXELS not in head and len(head) < _MOST_HEAD:
                if not (more := file.read(_HEAD)):
                    break
                head += more
            file.seek(max(0, file.size() - _HEAD))  # EXIF may come after the pixels of a PNG file
            tail = file.read()
        if is_converted(head + tail) or not (reading.channels in COLORS or head.startswith(_PNG)):
            return True, None  # the conversion counts the bands of other formats
        if reading.channels not in COLORS:
            bands = _PNG_SAMPLES.get(head[25]) if len(head) >= _PNG_HEADER else None
            if bands not in (None, reading.channels):
                return False, other_bands(bands, reading.channels)
        for row in FORMATS:
            if (
                row.signature
                and row.end
                and head.startswith(row.signature)
                and row.end in tail[-64:]
            ):
                return False, None
        if decodes:
            decode(tf.io.read_file(path), reading)
    except tf.errors.OpError as error:
        return False, reason(error)
    return False, None


class Stored(NamedTuple):
    """The samples of a complete file.

    Attributes:
        bands: Number of bands, including transparency.
        bits: Bits of each sample.
        largest: The largest 16-bit color sample; 0 for other files.
    """

    bands: int
    bits: int
    largest: int = 0


def stored(path: str, channels: int = RGB) -> Stored:
    """Returns the samples of a complete file, which is read without conversion or is converted.

    Args:
        path: The file.
        channels: As in `Reading`; with 1 and 3, transparency is not a color.
    """
    content = tf.io.read_file(path)
    head = content.numpy()[:_PNG_HEADER]
    if not head.startswith(_PNG):
        is_jpeg = head.startswith(FORMATS[0].signature)
        is_gray = is_jpeg and int(tf.image.extract_jpeg_shape(content)[2]) == 1
        return Stored(1 if is_gray else RGB, 8)
    bands, bits = _PNG_SAMPLES.get(head[25], RGB), head[24]
    if bits < 16:
        return Stored(bands, bits)
    read = RGB if channels in COLORS else 0  # 0: all channels of the file
    samples = tf.io.decode_png(content, channels=read, dtype=tf.uint16)
    return Stored(bands, bits, int(tf.reduce_max(tf.cast(samples, tf.int32))))


def reason(error: Exception) -> str:
    """Returns a TensorFlow error in one line, without the name of the op that raised it."""
    message = getattr(error, "message", None) or str(error)
    message = re.sub(r"^\{\{.*?\}\}\s*", "", message)
    if said := re.search(r"Summarized data: (.*)", message, re.DOTALL):  # from an assertion
        lines = (re.sub(r"^b'(.*)'$", r"\1", line) for line in said[1].splitlines())
        return re.sub(r"\s*\[Op:\w+\].*$", "", " ".join(lines))
    if "Invalid JPEG data" in message:
        return "it is not a complete JPEG file of 8 bits, baseline or progressive"
    return re.sub(r"\s*\[Op:\w+\].*$", "", message.split("\n")[0])
