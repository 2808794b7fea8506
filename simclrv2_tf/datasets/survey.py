"""Counts the training images of a data set and measures their size, without TensorFlow."""

from __future__ import annotations

import collections
import dataclasses
import os
import statistics
import struct
from collections.abc import Sequence

from simclrv2_tf.datasets import folder_layout, folder_table
from simclrv2_tf.datasets.folder_tree import FolderTree
from simclrv2_tf.datasets.sources import PACKAGED

# The same as `images.EXTENSIONS`, whose module needs TensorFlow; a test compares them.
SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"),
    *(".heic", ".heif", ".avif", ".ppm", ".pgm", ".pnm"),
)
# Number of files whose size is read.
_SAMPLE = 100
_HEADER_BYTES = 2**18  # a JPEG has its size after its thumbnail and color profile
# Markers of JPEG that begin a frame, with its size: SOF0 to SOF15 without DHT, JPG and DAC.
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}


@dataclasses.dataclass(frozen=True)
class Survey:
    """The number and the size of a data set's training images.

    Attributes:
        count: Number of images, at least 1; None: not known.
        side: Median of their shorter sides, in pixels; None: not known.
        classes: Number of classes; 0 without labels.
        unread: Whether `count` counts file names, including files that cannot be read.
    """

    count: int | None = None
    side: int | None = None
    classes: int = 0
    unread: bool = False


# Published data sets that are not folders.
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
        name: As for `open_dataset`. Nothing is known about remote folders and most other data sets.

    Raises:
        DatasetError: A folder has no images, or a layout that cannot be read.
    """
    if not name.startswith("folder:") or "://" in name:
        return _KNOWN.get(name, Survey())
    root = os.path.expanduser(name.removeprefix("folder:"))
    try:
        tree, layout = _read(root)
    except OSError:  # reported when the images are opened
        return Survey()
    train = layout.splits[folder_layout.TRAIN]
    count = len(train)
    if not _holds_out(layout):
        counts = collections.Counter(train.values()).values()
        count -= sum(max(1, round(number / 10)) for number in counts if number > 1)
    paths = [os.path.join(tree.root, path) for path in sorted(train)]
    return Survey(count or None, _median_side(paths), len(layout.class_names), unread=count > 0)


def _read(root: str) -> tuple[FolderTree, folder_layout.Layout]:
    """Returns the folder of the images, and their layout, as in `folder.open_dataset`."""
    tree = FolderTree(root, _is_image, quiet=True)  # opening the images warns
    while inner := folder_layout.wrapped(tree, _is_image):
        tree = FolderTree(os.path.join(tree.root, inner), _is_image, quiet=True)

    def content(path: str) -> bytes:
        with open(os.path.join(tree.root, path), "rb") as file:
            return file.read()

    return tree, folder_table.layout_of(tree, _is_image, ", ".join(SUFFIXES), content)


def _holds_out(layout: folder_layout.Layout) -> bool:
    """Whether there is a folder of images to evaluate on, with labels if there are classes."""
    splits = (folder_layout.TEST, folder_layout.VALIDATION)
    apart = [label for split in splits for label in layout.splits.get(split, {}).values()]
    return bool(apart) and (not layout.class_names or any(label is not None for label in apart))


def _is_image(path: str) -> bool:
    return path.lower().endswith(SUFFIXES)


def _median_side(paths: Sequence[str]) -> int | None:
    """Returns the median of the shorter sides of about 100 files; None if none can be read."""
    sample = paths[:: max(len(paths) // _SAMPLE, 1)]
    sizes = [size for size in map(image_size, sample) if size]
    return int(statistics.median(min(size) for size in sizes)) if sizes else None


def image_size(path: str) -> tuple[int, int] | None:
    """Returns width and height of a PNG or JPEG file, from its header; None for other files."""
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
        if marker == 0xFF:  # padding
            at += 1
            continue
        at += 2 + struct.unpack(">H", header[at + 2 : at + 4])[0]
    return None
