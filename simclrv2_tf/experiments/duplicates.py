"""Finds evaluation images that look like training images, for the report.

`near_duplicates.npz` holds

    compared      (2,) int64, number of compared evaluation and training images
    of            (2,) int64, number of all evaluation and training images
    ids           (n, 2) str, pairs of evaluation and training images, the most similar first
    labels        (n, 2) int64, -1 without a label
    differences   (n,) float64, see `metrics.near_duplicates`
    mirrored      (n,) bool, whether one image is the mirror image of the other
    thumbnails    (at most 12, 2, 32, 32, 1 or 3) uint8, thumbnails of the first pairs
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from etils import epy

from simclrv2_tf import files

with epy.lazy_imports():
    import numpy as np

    from simclrv2_tf import augment
    from simclrv2_tf.datasets import splits
    from simclrv2_tf.metrics import near_duplicates
    from simclrv2_tf.report.page import pictures

if TYPE_CHECKING:
    from simclrv2_tf import datasets
    from simclrv2_tf.experiments.stage import StageRun

FILE = "near_duplicates.npz"

# Limits on the images that are read again, which bound the time.
MOST = (1_000, 10_000)
_SIDE = 32  # of a thumbnail, in pixels
_SHOWN = 12
_BATCH = 256


def write(run: StageRun) -> None:
    """Compares evaluation with training images and writes `near_duplicates.npz`.

    Only the chief calls it. If no evaluation image or no training image can be read, writes
    nothing.
    """
    both = run.eval_split, run.train_split
    (ids, labels, images), (bank_ids, bank_labels, bank) = (
        _read(drawn(split, run.config.seed, most), most)
        for split, most in zip(both, MOST, strict=True)
    )
    if not ids or not bank_ids:
        return
    pairs = near_duplicates.find(_smaller(images), _smaller(bank))
    shown = [(images[pair.query], bank[pair.bank]) for pair in pairs[:_SHOWN]]
    names = [(ids[pair.query], bank_ids[pair.bank]) for pair in pairs]
    classes = [(labels[pair.query], bank_labels[pair.bank]) for pair in pairs]
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        compared=np.array([len(ids), len(bank_ids)]),
        of=np.array([split.num_examples for split in both]),
        ids=np.array(names, np.str_).reshape(-1, 2),
        labels=np.array(classes, np.int64).reshape(-1, 2),
        differences=np.array([pair.difference for pair in pairs], np.float64),
        mirrored=np.array([pair.mirrored for pair in pairs], bool),
        thumbnails=np.array(shown, np.uint8).reshape(-1, 2, *images.shape[1:]),
    )
    with files.whole(run.directory.named(FILE)) as unfinished:
        unfinished.write_bytes(buffer.getvalue())


def drawn(split: datasets.Split, seed: int, most: int) -> datasets.Split:
    """Draws at most `most` images by a seed; returns the split itself if it is read in order."""
    if split.num_examples <= most or not split.reads_by_id:
        return split
    ids, _ = split.labels()
    return split.subset(np.random.default_rng(seed).choice(ids, most, replace=False).tolist())


def _read(split: datasets.Split, most: int) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Returns ids, labels and thumbnails (n, S, S, 1 or 3) uint8 of the first `most` images."""

    @splits.as_is
    def small(example):
        image = augment.evaluation_image(example["image"], _SIDE, True)
        return example["id"], example["label"], image

    read = split.examples().take(most).map(small, num_parallel_calls=splits.CORES).batch(_BATCH)
    ids: list[str] = []
    labels, images = [], []
    for names, label, batch in read:
        ids += [name.decode() for name in names.numpy()]
        labels.append(label.numpy())
        images.append(pictures.thumbnails(batch.numpy()))
    if not ids:
        return [], np.zeros(0, np.int64), np.zeros((0, _SIDE, _SIDE, 1), np.uint8)
    return ids, np.concatenate(labels), np.concatenate(images)


def _smaller(images: np.ndarray) -> np.ndarray:
    """Returns the compared values: gray means of 2 x 2 pixels, with little compression noise."""
    gray = images.mean(-1, keepdims=True, dtype=np.float32)
    corners = (gray[:, row::2, column::2] for row in range(2) for column in range(2))
    return sum(corners) / 4
