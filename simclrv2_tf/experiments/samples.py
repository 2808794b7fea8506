"""Writes representations of some evaluation images, with thumbnails, for the report's map.

`representations.npz` holds, for at most 1,000 images, in the order of the split:

    ids              (n,) str
    labels           (n,) int64, -1 without a label
    representations  (n, f) float16, the encoder's output
    thumbnails       (n, 32, 32, 1 or 3) uint8, cropped as for evaluation
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from etils import epy

from simclrv2_tf import files
from simclrv2_tf.experiments import projector

with epy.lazy_imports():
    import keras
    import numpy as np
    import tensorflow as tf

    from simclrv2_tf import augment
    from simclrv2_tf.datasets import splits
    from simclrv2_tf.experiments import duplicates
    from simclrv2_tf.report.page import pictures

if TYPE_CHECKING:
    from simclrv2_tf.experiments.stage import StageRun

FILE = "representations.npz"

_MOST = 1_000  # images
_SIDE = 32  # of a thumbnail, in pixels
_LARGEST = 65_504  # largest float16: a map cannot show infinity


def write(run: StageRun, encoder: keras.Model) -> None:
    """Writes `representations.npz` of the evaluation images. All workers call it; the chief writes.

    With `embedding_projector`, also writes TensorBoard's files. Writes nothing if no image can be
    read.

    Args:
        run: The stage's run, whose seed draws the images.
        encoder: Model from images (B, S, S, C) to representations (B, f).
    """
    if run.replicas > 1:
        encoder = _copy(run, encoder)
    sampled = _sampled(run, encoder) if run.is_chief else {}
    if not sampled:
        return
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **sampled)
    with files.whole(run.directory.named(FILE)) as unfinished:
        unfinished.write_bytes(buffer.getvalue())
    if run.config.embedding_projector:
        folder = run.directory.evaluation_logs
        projector.write(folder, sampled, run.data.main.class_names)
        print(f"  representations for TensorBoard's Projector tab in {folder}", flush=True)


def _copy(run: StageRun, encoder: keras.Model) -> keras.Model:
    """Returns an encoder without distributed variables, because reading these needs all workers."""
    copy = run.build_networks(0).encoder
    copy.set_weights([variable.numpy() for variable in encoder.weights])
    return copy


def _sampled(run: StageRun, encoder: keras.Model) -> dict[str, np.ndarray]:
    config = run.config

    @splits.as_is
    def crop(example):
        image = example["image"]
        cropped = augment.evaluation_image(image, config.image_size, bool(config.antialias))
        return example["id"], example["label"], cropped

    # The evaluation batch of one replica, which is known to fit in memory.
    batch = max(config.eval_batch_size // run.replicas, 1)
    drawn = duplicates.drawn(run.eval_split, config.seed, _MOST).examples().take(_MOST)
    ids: list[str] = []
    labels, representations, thumbnails = [], [], []
    for names, label, images in drawn.map(crop, num_parallel_calls=splits.CORES).batch(batch):
        ids += [name.decode() for name in names.numpy()]
        labels.append(label.numpy())
        # Not traced: a few batches take less time than tracing the encoder.
        found = keras.ops.convert_to_numpy(encoder(images, training=False))
        representations.append(np.clip(found, -_LARGEST, _LARGEST).astype(np.float16))
        thumbnails.append(_small(images))
    if not ids:
        return {}
    return {
        "ids": np.array(ids, np.str_),
        "labels": np.concatenate(labels),
        "representations": np.concatenate(representations),
        "thumbnails": np.concatenate(thumbnails),
    }


def _small(images: tf.Tensor) -> np.ndarray:
    """Makes thumbnails of images (B, S, S, C) in [0, 1]: gray for one or two channels, else RGB."""
    return pictures.thumbnails(tf.image.resize(images, (_SIDE, _SIDE), antialias=True).numpy())
