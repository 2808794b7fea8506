"""Converts image files that TensorFlow does not read, or reads wrongly, once to PNG files.

These are TIFF, HEIC, AVIF and GIF files, BMP files with a palette, and all other formats that
Pillow reads. Pixels are rotated by their EXIF orientation and composited over white; samples keep
their 8 or 16 bits. Training reads the PNG files from a cache. Images of other bands than gray and
RGB keep all bands unchanged.
"""

import concurrent.futures
import hashlib
import importlib.util
import io
import os
import re
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf
from etils import epath
from PIL import Image, ImageOps, TiffImagePlugin, UnidentifiedImageError

from simclrv2_tf.channels import COLORS, RGB, other_bands
from simclrv2_tf.datasets.images import MOST_PIXELS, over_white
from simclrv2_tf.errors import UserError
from simclrv2_tf.files import flush

_VERSION = 2  # of the converted files: another version is another file
_BITS_PER_SAMPLE, _PHOTOMETRIC, _EXTRA_SAMPLES, _SAMPLE_FORMAT = 258, 262, 338, 339  # TIFF 6.0
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _CMYK, _UNSIGNED, _ALPHA = 0, 1, 2, 5, 1, (1, 2)
_DESCRIPTION = 270
_TIFF, _BIG_TIFF = (b"II*\0", b"MM\0*"), (b"II+\0", b"MM\0+")
_PNG = b"\x89PNG"
_ORIENTATION = 0x0112  # of EXIF
# Contents of files that only have the name of an image, by their first bytes.
_OTHERS = (
    (b"version https://git-lfs", "it is a pointer of Git LFS: 'git lfs pull' gets the image"),
    (b"<", "it is text, such as an HTML page, not an image"),
    (b"{", "it is text, such as JSON, not an image"),
    (b"%PDF", "it is a PDF document"),
    (b"PK\3\4", "it is a ZIP archive"),
    (b"\x1f\x8b", "it is a gzip archive"),
    (b"\xff\x0a", "it is JPEG XL, which is not read"),
    (b"\0\0\0\x0cJXL ", "it is JPEG XL, which is not read"),
)
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


class UnreadableError(UserError):
    """Raised for a file that cannot be converted; gives the reason."""


def cache_folder(data_dir: str | None) -> str:
    """Returns the folder of the converted files: inside `data_dir`, or in the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.join(data_dir or os.path.join(cache, "simclrv2_tf"), "converted")


def convert_files(
    paths: Sequence[str], cache: str, workers: int, channels: int = RGB
) -> Iterator[tuple[str, str | UnreadableError]]:
    """Converts files that have not been converted before.

    Args:
        paths: The files, which may be remote.
        cache: The folder of the converted files.
        workers: Files converted in parallel; each holds an image in memory.
        channels: As for `images.Reading`.

    Yields:
        Each path, in order, with the path of its PNG file or why there is none.
    """

    def convert(path):
        try:
            return _converted(path, cache, channels)
        except UnreadableError as error:
            return error

    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        yield from zip(paths, pool.map(convert, paths), strict=True)


def is_converted(path: str, cache: str, channels: int) -> bool:
    """Whether `convert_files` has already converted this version of a file."""
    return _target(path, cache, channels).exists()


def _target(path: str, cache: str, channels: int) -> epath.Path:
    stat = tf.io.gfile.stat(path)
    held: tuple = (_VERSION, os.path.abspath(path), stat.length, stat.mtime_nsec)
    if channels not in COLORS:
        held += (channels,)
    name = hashlib.sha256(repr(held).encode("utf-8", "surrogateescape")).hexdigest()
    return epath.Path(cache) / name[:2] / f"{name}.png"


def _converted(path: str, cache: str, channels: int) -> str:
    file = _target(path, cache, channels)
    if not file.exists():
        with tf.io.gfile.GFile(path, "rb") as opened:
            content = opened.read()
        pixels = read_pixels(content) if channels in COLORS else read_bands(content, channels)
        if channels not in COLORS:
            # PNG has at most four samples a pixel. In one of gray, TensorFlow's own operation reads
            # any number of bands, compressed, and any viewer shows them.
            pixels = np.concatenate(np.split(pixels, channels, axis=-1))
        file.parent.mkdir(parents=True, exist_ok=True)
        # A separate file: several processes may convert one folder at the same time.
        unfinished = file.parent / f"unfinished-{os.getpid()}-{file.name}"
        unfinished.write_bytes(tf.io.encode_png(pixels).numpy())
        flush(unfinished)
        unfinished.replace(file)
    return str(file)


def read_pixels(content: bytes) -> np.ndarray:
    """Reads an image file with Pillow or, if Pillow would lose samples, with tifffile.

    Returns:
        (H, W, 1) or (H, W, 3), uint8 or uint16, turned as displayed and over white.

    Raises:
        UnreadableError: The bytes are not a complete image, or not gray or RGB of at most 16 bits.
    """
    _register_heic(content)
    try:
        with Image.open(io.BytesIO(content)) as image:
            _check_size(*image.size)
            if isinstance(image, TiffImagePlugin.TiffImageFile):
                tags = image.tag_v2
                bits = tags.get(_BITS_PER_SAMPLE, (1,))
                sample_format = tags.get(_SAMPLE_FORMAT, (_UNSIGNED,))
                extra, kind = tags.get(_EXTRA_SAMPLES, ()), tags.get(_PHOTOMETRIC)
                _check_bands(bits, extra, sample_format, kind)
                _check_channels(str(tags.get(_DESCRIPTION, "")), len(bits))
                # Pillow reduces 16 bits in several bands to 8, and leaves white at 0 in one band.
                if max(bits) > 8 and (len(bits) > 1 or kind != _BLACK_IS_ZERO):
                    return _read_tiff(content)
            image.load()
            if content.startswith(_PNG) and content[24] == 16:
                return _read_deep_png(content, image)
            return _pixels(ImageOps.exif_transpose(image))
    except UnreadableError:
        raise
    except UnidentifiedImageError:
        if content[:4] in _TIFF:
            return _read_tiff(content)
        raise _unidentified(content) from None
    # For a damaged file Pillow and its libraries raise exceptions of any kind.
    except Exception as error:
        raise _damaged(error) from error


def read_bands(content: bytes, channels: int) -> np.ndarray:
    """Reads the bands of a TIFF or PNG file, none of them as color or transparency.

    A TIFF file has the bands in one page, interleaved or planar, or one band per page.

    Returns:
        (H, W, `channels`), uint8 or uint16, turned as displayed.

    Raises:
        UnreadableError: The bytes are not a complete image, or have another number of bands, more
            than 16 bits, or floating-point numbers.
    """
    if content[:4] in (*_TIFF, *_BIG_TIFF):
        return _read_tiff_bands(content, channels)
    _register_heic(content)
    try:
        with Image.open(io.BytesIO(content)) as image:
            bands = RGB if image.mode == "P" else len(image.getbands())
            if bands != channels:
                raise UnreadableError(other_bands(bands, channels))
            if not content.startswith(_PNG):
                raise UnreadableError("bands are only read from TIFF and PNG files")
            orientation = image.getexif().get(_ORIENTATION, 1)
            is_deep = content[24] == 16
        dtype = tf.uint16 if is_deep else tf.uint8  # Pillow reduces 16 bits to 8
        return _turned(tf.io.decode_png(content, channels=0, dtype=dtype).numpy(), orientation)
    except UnreadableError:
        raise
    except UnidentifiedImageError:
        raise _unidentified(content) from None
    except Exception as error:  # as in `read_pixels`
        raise _damaged(error) from error


def _read_tiff_bands(content: bytes, channels: int) -> np.ndarray:
    tifffile = _import("tifffile", "This TIFF file")
    try:
        with tifffile.TiffFile(io.BytesIO(content)) as opened:
            series, page = opened.series[0], opened.pages[0]
            axes, shape = series.axes, series.shape
            # Interleaved, planar (S), one page per band (any other axis), or a single band.
            place = {"YX": -1, "YXS": 2}.get(axes, 0 if axes[1:] == "YX" else None)
            if place is None:
                raise UnreadableError(f"its axes are {axes}, but only YXS, SYX and CYX are read")
            bands = 1 if place < 0 else shape[place]
            if bands != channels:
                raise UnreadableError(other_bands(bands, channels))
            # The converted file stacks the bands vertically and has this size.
            _check_size(page.imagewidth, page.imagelength * bands)
            if series.dtype not in (np.uint8, np.uint16):
                raise UnreadableError("its samples are not integers of 8 or 16 bits")
            samples = np.moveaxis(series.asarray(), place, -1)
            tag = page.tags.get("Orientation")
    except UnreadableError:
        raise
    except Exception as error:  # as in `read_pixels`
        raise _damaged(error) from error
    if page.photometric == _WHITE_IS_ZERO:
        samples = ~samples
    return _turned(samples, int(tag.value) if tag else 1)


def _register_heic(content: bytes) -> None:
    if content[4:8] == b"ftyp" and content[8:12] in _HEIC_BRANDS:
        _import("pillow_heif", "HEIC").register_heif_opener()


def _unidentified(content: bytes) -> UnreadableError:
    if not content:
        return UnreadableError("it is empty")
    if not any(content):
        return UnreadableError("it only holds zeros, as after an interrupted download")
    said = next((what for start, what in _OTHERS if content.lstrip().startswith(start)), None)
    return UnreadableError(said or "Pillow does not recognize it as an image")


def _damaged(error: Exception) -> UnreadableError:
    message = str(error).split("\n")[0] or type(error).__name__
    if message.startswith("decoder error"):  # mostly from libtiff
        message = f"it is damaged, or has a compression that Pillow does not read ({message})"
    return UnreadableError(message)


def _read_deep_png(content: bytes, image: Image.Image) -> np.ndarray:
    """Reads a PNG file of 16 bits, which Pillow reduces to 8 if it has colors or alpha."""
    channels = 4 if image.has_transparency_data else 3
    samples = tf.io.decode_png(content, channels=channels, dtype=tf.uint16).numpy()
    if channels == 4:
        samples = _over_white(samples[..., :3], samples[..., 3:], is_multiplied=False)
    return _turned(samples, image.getexif().get(_ORIENTATION, 1))


def _pixels(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I"):  # gray of 16 bits, or in 32
        samples = np.asarray(image)
        if samples.min(initial=0) < 0 or samples.max(initial=0) > np.iinfo(np.uint16).max:
            raise UnreadableError("its samples have more than 16 bits")
        return samples.astype(np.uint16)[..., None]
    if image.mode == "F":
        raise UnreadableError("its samples are floating-point numbers")
    if image.has_transparency_data:
        rgba = np.asarray(image.convert("RGBA"))
        return over_white(rgba[..., :3], rgba[..., 3:]).numpy()
    return np.asarray(image.convert("RGB"))


def _check_bands(bits, extra, sample_format, kind) -> None:
    """Rejects bands and samples of a TIFF file that do not fit a gray or an RGB image.

    Args:
        bits: Bits of each band.
        extra: Meaning of each band beyond the colors.
        sample_format: Sample format of each band, or of all bands.
        kind: The photometric interpretation.
    """
    if set(sample_format) != {_UNSIGNED} or max(bits) > 16:
        raise UnreadableError("its samples are not integers of at most 16 bits")
    colors = len(bits) - len(extra)
    # A fourth band without a meaning may be near infrared, and is not transparency.
    bands = colors if set(extra) <= set(_ALPHA) and len(extra) < 2 else len(bits)
    if bands not in (1, 3) and not (bands == 4 and kind != _RGB):  # 4: CMYK
        raise UnreadableError(other_bands(bands, RGB))


def _check_channels(description: str, bands: int) -> None:
    """Rejects a microscopy file with one page per channel, of which only one would be read."""
    said = re.search(r"^channels=(\d+)|\bSizeC=\"(\d+)\"", description, re.MULTILINE)
    if not said or (channels := int(said[1] or said[2])) <= bands:
        return
    how = f"use --channels={channels} to read them"
    if channels in COLORS:
        how = "save them as the samples of one RGB image"
    raise UnreadableError(f"each of its {channels} channels is a separate page: {how}")


def _read_tiff(content: bytes) -> np.ndarray:
    tifffile = _import("tifffile", "This TIFF file")
    try:
        with tifffile.TiffFile(io.BytesIO(content)) as opened:
            page = opened.pages[0]
            _check_size(page.imagewidth, page.imagelength)
            bits = (page.bitspersample,) * page.samplesperpixel
            _check_bands(bits, page.extrasamples, (page.sampleformat,), page.photometric)
            _check_channels(page.description, len(bits))
            if page.photometric not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _CMYK) and not (
                page.photometric == tifffile.PHOTOMETRIC.YCBCR
                and page.compression == tifffile.COMPRESSION.JPEG  # decoded to RGB
            ):
                kind = tifffile.PHOTOMETRIC(page.photometric).name
                raise UnreadableError(f"colors stored as {kind} in {max(bits)} bits are not read")
            samples = page.asarray()
            if page.planarconfig == tifffile.PLANARCONFIG.SEPARATE:
                samples = np.moveaxis(samples, 0, -1)
            tag = page.tags.get("Orientation")
    except UnreadableError:
        raise
    except Exception as error:  # as for Pillow, from a damaged file
        raise _damaged(error) from error
    if samples.dtype not in (np.uint8, np.uint16):
        raise UnreadableError("its samples are not integers of 8 or 16 bits")
    samples = samples.reshape(*samples.shape[:2], -1)
    if page.photometric == _WHITE_IS_ZERO:
        samples = ~samples
    if page.photometric == _CMYK:
        samples = _rgb_of_cmyk(samples)
    elif page.extrasamples:
        is_multiplied = page.extrasamples[0] == _ALPHA[0]
        samples = _over_white(samples[..., :-1], samples[..., -1:], is_multiplied)
    return _turned(samples, int(tag.value) if tag else 1)


def _rgb_of_cmyk(samples: np.ndarray) -> np.ndarray:
    """Converts CMYK to RGB without a color profile, like Pillow; ignores bands after K."""
    white = np.iinfo(samples.dtype).max
    light = (white - samples[..., :4].astype(np.float64)) / white
    return np.rint(light[..., :3] * light[..., 3:] * white).astype(samples.dtype)


def _over_white(color: np.ndarray, alpha: np.ndarray, is_multiplied: bool) -> np.ndarray:
    white = np.iinfo(color.dtype).max
    share = alpha.astype(np.float64) / white
    product = color.astype(np.float64) * (1 if is_multiplied else share)
    return np.clip(np.rint(product + white * (1 - share)), 0, white).astype(color.dtype)


def _turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Same as `orientation.turned`, for NumPy."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels


def _check_size(width: int, height: int) -> None:
    if width * height > MOST_PIXELS:
        raise UnreadableError(
            f"an image may have at most {MOST_PIXELS:,} pixels, and this one has {height} x {width}"
        )


def _import(package: str, what: str):
    if importlib.util.find_spec(package) is None:
        raise UnreadableError(
            f"{what} needs the package {package.replace('_', '-')}: pip install "
            "'simclrv2-tf[photos]'"
        )
    return importlib.import_module(package)
