"""Files of a sample of representations for TensorBoard's embedding projector.

The files in the TensorBoard folder of the evaluation:

    projector_config.pbtxt   the file that TensorBoard reads first, which names the others
    representations.tsv      (n, f) numbers, one line per image
    metadata.tsv             class and file of each image, after a header; without labels, the file
    sprite.png               thumbnails of 32 x 32 pixels, row by row
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from etils import epy

from simclrv2_tf import files

with epy.lazy_imports():
    import numpy as np

    from simclrv2_tf.report.page import pictures

if TYPE_CHECKING:
    from etils import epath

CONFIG = "projector_config.pbtxt"  # the name that TensorBoard looks for
TENSOR = "representation"

_TENSORS, _METADATA, _SPRITE = "representations.tsv", "metadata.tsv", "sprite.png"
_DIGITS = 5  # digits that distinguish any two float16 numbers


def write(folder: epath.Path, sampled: Mapping[str, np.ndarray], names: Sequence[str]) -> None:
    """Writes the files to `folder`, the configuration last.

    Args:
        folder: Folder of TensorBoard's files.
        sampled: At least one image, see `samples`.
        names: Class names by label.
    """
    from tensorboard.plugins import projector

    thumbnails = sampled["thumbnails"]
    config = projector.ProjectorConfig()
    embedding = config.embeddings.add(
        tensor_name=TENSOR,
        tensor_shape=sampled["representations"].shape,
        tensor_path=_TENSORS,
        metadata_path=_METADATA,
    )
    embedding.sprite.image_path = _SPRITE
    embedding.sprite.single_image_dim.extend([thumbnails.shape[2], thumbnails.shape[1]])
    folder.mkdir(parents=True, exist_ok=True)
    tensors = io.StringIO()
    np.savetxt(tensors, sampled["representations"], f"%.{_DIGITS}g", delimiter="\t")
    files.write_text(folder / _TENSORS, tensors.getvalue())
    files.write_text(folder / _METADATA, _metadata(sampled["ids"], sampled["labels"], names))
    picture = io.BytesIO()
    # About as high as it is wide: browsers limit the sides of a texture.
    pixels = pictures.joined(thumbnails, math.ceil(math.sqrt(len(thumbnails))))
    pictures.image(pixels).save(picture, "PNG")
    with files.whole(folder / _SPRITE) as unfinished:
        unfinished.write_bytes(picture.getvalue())
    files.write_text(folder / CONFIG, str(config))


def _metadata(ids: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> str:
    """Returns one line per image. TensorBoard reads a first line with a tab as a header."""
    rows = [[name] for name in ids.tolist()]
    if (labels >= 0).any():
        classes = [names[label] if label >= 0 else "no label" for label in labels.tolist()]
        rows = [["class", "file"], *([c, *row] for c, row in zip(classes, rows, strict=True))]
    # A tab or a line break in a name would split it into two cells or lines.
    return "".join("\t".join(" ".join(cell.split()) for cell in row) + "\n" for row in rows)
