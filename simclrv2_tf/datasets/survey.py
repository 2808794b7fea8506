"""How many images a data set has for training and how large they are, without TensorFlow."""

from __future__ import annotations

import dataclasses
import os
import statistics
import struct
from collections.abc import Iterator, Sequence

from simclrv2_tf.datasets.sources import HELD_OUT_SPLITS, PACKAGED

# Those of `images.FORMATS`, whose file needs TensorFlow, and those of formats that may follow: a
# file too many makes a batch a little larger, and a training split that is smaller is refused.
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff")
# Files whose size is read.
_SAMPLE = 100
_HEADER_BYTES = 2**18  # a JPEG tells its size after its thumbnail and color profile
# Markers of JPEG that begin a frame, and so tell its size: SOF0 to SOF15 without DHT, JPG and DAC.
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}


@dataclasses.dataclass(frozen=True)
class Survey:
    """What is known of the training images of a data set.

    Attributes:
        count: Number of the images, at least 1; None: not known.
        side: Median of their shorter sides, in pixels; None: not known.
        classes: Number of folders of images, which are classes if they are labels.
    """

    count: int | None = None
    side: int | None = None
    classes: int = 0


# Published sets, whose files do not lie in folders.
_KNOWN = {
    PACKAGED: Survey(10_000, 28, 10),
    "cifar10": Survey(50_000, 32, 10),
    "cifar100": Survey(50_000, 32, 100),
    "imagenet2012": Survey(1_281_167, 375, 1000),
    "imagenet2012_subset/1pct": Survey(12_811, 375, 1000),
    "imagenet2012_subset/10pct": Survey(128_116, 375, 1000),
}


def survey(name: str) -> Survey:
    """Counts the training images of a data set.

    Args:
        name: As for `open_dataset`. Of a remote folder and of most other sets nothing is known.
    """
    if not name.startswith("folder:") or "://" in name:
        return _KNOWN.get(name, Survey())
    root = os.path.expanduser(name.removeprefix("folder:"))
    within = os.path.join(root, "train") if os.path.isdir(os.path.join(root, "train")) else root
    held_out = any(os.path.isdir(os.path.join(root, split)) for split in HELD_OUT_SPLITS)
    by_class: dict[str, list[str]] = {}
    for path in _images(within):
        by_class.setdefault(os.path.relpath(path, within).split(os.sep)[0], []).append(path)
    loose = [key for key, paths in by_class.items() if paths == [os.path.join(within, key)]]
    if len(loose) == len(by_class):  # no class folders
        by_class = {"": [path for key in loose for path in by_class[key]]}
    else:
        by_class = {key: paths for key, paths in by_class.items() if key not in loose}
    count = sum(
        len(paths) - (0 if held_out else _held_out(len(paths))) for paths in by_class.values()
    )
    paths = [path for paths in by_class.values() for path in paths]
    classes = 0 if "" in by_class else len(by_class)
    return Survey(count or None, _median_side(paths), classes)


def _held_out(count: int) -> int:
    """How many images of a class a folder without a held-out split does not train on."""
    return max(1, round(count / 10)) if count > 1 else 0


def _images(folder: str) -> Iterator[str]:
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if name.lower().endswith(SUFFIXES) and not name.startswith("."):
                yield os.path.join(parent, name)


def _median_side(paths: Sequence[str]) -> int | None:
    """The median of the shorter sides of about 100 files; None where none can be read."""
    sample = paths[:: max(len(paths) // _SAMPLE, 1)]
    sizes = [size for size in map(image_size, sample) if size]
    return int(statistics.median(min(size) for size in sizes)) if sizes else None


def image_size(path: str) -> tuple[int, int] | None:
    """Width and height of a PNG or JPEG file, by its header; None of other and damaged files."""
    try:
        with open(path, "rb") as file:
            header = file.read(_HEADER_BYTES)
    except OSError:
        return None
    if header.startswith(b"\x89PNG\r\n\x1a\n") and len(header) >= 24:
        return struct.unpack(">II", header[16:24])
    return _jpeg_size(header) if header.startswith(b"\xff\xd8") else None


def _jpeg_size(header: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 9 <= len(header) and header[at] == 0xFF:
        marker = header[at + 1]
        if marker in _FRAMES:
            height, width = struct.unpack(">HH", header[at + 5 : at + 9])
            return width, height
        if marker == 0xFF:  # a byte that fills
            at += 1
            continue
        at += 2 + struct.unpack(">H", header[at + 2 : at + 4])[0]
    return None
