"""Checks and converts the image files of a folder before the first is used."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import os
import sys
import time
from collections.abc import Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf
from absl import logging

from simclrv2_tf import channels
from simclrv2_tf.datasets import conversion
from simclrv2_tf.datasets.images import Reading, Stored, inspect, stored
from simclrv2_tf.datasets.splits import CORES

_READ_AT_ONCE = 16
_CHUNK = 10_000
_SAMPLED = 16  # files whose range is checked
_FRACTION = 1 / 8  # of the range; less is nearly black


@dataclasses.dataclass(frozen=True)
class CheckedFiles:
    """The result of checking the files of a folder.

    Attributes:
        skipped: The reason why a file is not read, by its path below the folder.
        converted: The PNG file to read instead of a file, by the file's path.
    """

    skipped: dict[str, str]
    converted: dict[str, str]


def check_files(
    root: str, paths: Sequence[str], cache: str, reading: Reading, decodes: bool = True
) -> CheckedFiles:
    """Finds files that cannot be read, and converts files if necessary.

    Warns of each file that cannot be read, unless no file can.

    Args:
        root: The folder.
        paths: The files' paths below it.
        cache: Folder of converted files, see `conversion.cache_folder`.
        reading: How the files are read.
        decodes: As for `images.inspect`.
    """
    skipped: dict[str, str] = {}
    converted: dict[str, str] = {}

    def whole(path):
        return inspect(os.path.join(root, path), decodes, reading)

    to_convert = []
    last_report = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(max_workers=_READ_AT_ONCE) as pool:
        for begin in range(0, len(paths), _CHUNK):
            part = paths[begin : begin + _CHUNK]
            for path, (is_converted, why) in zip(part, pool.map(whole, part), strict=True):
                if why:
                    skipped[path] = why
                elif is_converted:
                    to_convert.append(path)
            if time.monotonic() - last_report > 10:
                last_report = time.monotonic()
                logging.info("Checked %d of %d images of %s.", begin + len(part), len(paths), root)
    if to_convert:
        files = [os.path.join(root, path) for path in to_convert]
        channels = reading.channels
        missing = sum(not conversion.is_converted(file, cache, channels) for file in files)
        if missing:
            images = f"{missing:,} image{'s' * (missing != 1)}"
            print(f"Converting {images} of {root}, once, to {cache}", flush=True)
        progress = keras.utils.Progbar(
            len(to_convert), interval=1, verbose=int(bool(missing) and sys.stdout.isatty())
        )
        found = conversion.convert_files(files, cache, CORES, channels)
        for path, (_, result) in zip(to_convert, found, strict=True):
            if isinstance(result, conversion.UnreadableError):
                skipped[path] = str(result)
            else:
                converted[path] = result
            progress.add(1)
    # If no file can be read, the caller's error gives the reason: many lines would hide it.
    if len(skipped) < len(paths):
        for path, why in skipped.items():
            logging.warning("Skipping the unreadable image %s: %s", path, why)
    return CheckedFiles(skipped, converted)


def describe(
    root: str, paths: Sequence[str], converted: Mapping[str, str], reading: Reading
) -> str:
    """Describes bands, bits and range of a few files.

    Warns if their 16-bit samples use only a fraction of the range.

    Args:
        root: The folder, for the warning.
        paths: Readable files below it.
        converted: As in `CheckedFiles`.
        reading: How they are read.
    """
    places = np.unique(np.linspace(0, len(paths) - 1, min(_SAMPLED, len(paths))).astype(int))
    files = [converted.get(paths[n]) or os.path.join(root, paths[n]) for n in places]
    found = [one for file in files if (one := _stored(file, reading.channels))]
    largest = [one.largest for one in found if one.bits == 16]
    most = max(largest, default=0)
    if largest and reading.value_range is None and most < _FRACTION * np.iinfo(np.uint16).max:
        logging.warning(
            "%s: 16-bit images have values up to %s of 65,535 (%d files checked), so they are "
            "nearly black. Use --value_range=0,%d to make the largest value white.",
            root,
            f"{most:,}",
            len(largest),
            2 ** max(most.bit_length(), 1) - 1,
        )
    elif reading.value_range and not largest:
        logging.warning(
            "%s: `value_range` scales 16-bit samples, but no image has any (%d files checked).",
            root,
            len(places),
        )
    kinds = sorted(
        {(channels.stored_in_words(one.bands, reading.channels), one.bits) for one in found}
    )
    described = " and ".join(f"{bands} of {bits} bits" for bands, bits in kinds)
    values = f", values up to {most:,}" if largest else ""
    return (
        f"{described}{values} ({len(found)} of {len(paths):,} files checked)" if described else ""
    )


def _stored(file: str, read: int) -> Stored | None:
    try:
        return stored(file, read)
    except tf.errors.OpError:  # reported when the file is read
        return None
