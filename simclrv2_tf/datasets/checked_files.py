"""The image files of a folder, checked and converted before the first of them is used."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import os
import sys
import time
from collections.abc import Mapping, Sequence

import keras
import numpy as np
from absl import logging

from simclrv2_tf.datasets import conversion
from simclrv2_tf.datasets.images import inspect, stored_16_bits
from simclrv2_tf.datasets.splits import CORES

_READ_AT_ONCE = 16
_CHUNK = 10_000
_SAMPLED = 16  # files whose range is looked at
_FRACTION = 1 / 8  # of the range; less is nearly black


@dataclasses.dataclass(frozen=True)
class CheckedFiles:
    """What is known of the files of a folder.

    Attributes:
        skipped: Why a file is not read, by its path below the folder.
        converted: The PNG file that is read in place of a file, by the file's path.
    """

    skipped: dict[str, str]
    converted: dict[str, str]


def check_files(root: str, paths: Sequence[str], cache: str, decode: bool = True) -> CheckedFiles:
    """Finds damaged files, each of which is named in a warning, and converts what has to be.

    Args:
        root: The folder.
        paths: The files' paths below it.
        cache: Where converted files go, see `conversion.cache_folder`.
        decode: As for `images.inspect`.
    """
    skipped: dict[str, str] = {}
    converted: dict[str, str] = {}

    def skip(path, why):
        logging.warning("Skipping the unreadable image %s: %s", path, why)
        skipped[path] = why

    def whole(path):
        return inspect(os.path.join(root, path), decode)

    to_convert = []
    last_report = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(max_workers=_READ_AT_ONCE) as pool:
        for begin in range(0, len(paths), _CHUNK):
            part = paths[begin : begin + _CHUNK]
            for path, (is_converted, why) in zip(part, pool.map(whole, part), strict=True):
                if why:
                    skip(path, why)
                elif is_converted:
                    to_convert.append(path)
            if time.monotonic() - last_report > 10:
                last_report = time.monotonic()
                logging.info("Checked %d of %d images of %s.", begin + len(part), len(paths), root)
    if to_convert:
        print(f"Converting {len(to_convert):,} images of {root}, once, to {cache}", flush=True)
        progress = keras.utils.Progbar(
            len(to_convert), interval=1, verbose=int(sys.stdout.isatty())
        )
        files = [os.path.join(root, path) for path in to_convert]
        found = conversion.convert_files(files, cache, CORES)
        for path, (_, result) in zip(to_convert, found, strict=True):
            if isinstance(result, conversion.UnreadableError):
                skip(path, str(result))
            else:
                converted[path] = result
            progress.add(1)
    return CheckedFiles(skipped, converted)


def check_range(
    root: str,
    paths: Sequence[str],
    converted: Mapping[str, str],
    value_range: tuple[float, float] | None,
) -> None:
    """Warns where the 16-bit samples of a few files fill a fraction of their range.

    Args:
        root: The folder, for the warning.
        paths: Readable files below it.
        converted: As of `CheckedFiles`.
        value_range: As of `images.Reading`.
    """
    places = np.unique(np.linspace(0, len(paths) - 1, min(_SAMPLED, len(paths))).astype(int))
    files = [converted.get(paths[n]) or os.path.join(root, paths[n]) for n in places]
    samples = [stored_16_bits(file) for file in files]
    largest = [int(found.max()) for found in samples if found is not None]
    most = max(largest, default=0)
    if largest and value_range is None and most < _FRACTION * np.iinfo(np.uint16).max:
        logging.warning(
            "%s: 16-bit images have values up to %s of 65,535 (%d files looked at), so they are "
            "nearly black. --value_range=0,%d makes the largest value white.",
            root,
            f"{most:,}",
            len(largest),
            2 ** max(most.bit_length(), 1) - 1,
        )
    elif value_range and not largest:
        logging.warning(
            "%s: `value_range` scales 16-bit samples, and no image has any (%d files looked at).",
            root,
            len(places),
        )
