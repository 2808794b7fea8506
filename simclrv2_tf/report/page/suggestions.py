"""The page of the images to label next."""

from __future__ import annotations

import dataclasses
import os
import shlex
from collections.abc import Sequence

import numpy as np

from simclrv2_tf.report.page import blocks, document, pictures

_SPRITE_BYTES = 1_500_000
_PREFIX = ""


@dataclasses.dataclass(frozen=True)
class Suggestions:
    """Images to label, in the suggested order.

    Attributes:
        model: The network for the representations, as given.
        images: The folder of the images, as given.
        table: The file of the suggestions.
        asked: Requested number of images.
        readable: Number of readable images in the folder.
        labelled: Number of images with a label, in the folder and elsewhere.
        files: (n,) paths relative to the folder.
        clusters: (n,) numbers of their clusters, from 1, the largest cluster first.
        sizes: (n,) number of images in these clusters.
        typicality: (n,) inverse of the mean distance to the nearest neighbours.
        thumbnails: (m, S, S, 1 or 3) uint8, thumbnails of the first m images.
    """

    model: str
    images: str
    table: str
    asked: int
    readable: int
    labelled: int
    files: Sequence[str]
    clusters: Sequence[int]
    sizes: Sequence[int]
    typicality: Sequence[float]
    thumbnails: np.ndarray

    @property
    def left_over(self) -> str:
        """The reason for fewer images than requested, or ""."""
        if len(self.files) == self.asked:
            return ""
        return (
            f"{self.asked:,} images were requested, but only {len(self.files):,} are suggested: "
            "all others have a label, or are copies of labelled or suggested images."
        )


@dataclasses.dataclass(frozen=True)
class _Part:
    """The source of the page's thumbnails."""

    sprite: pictures.Sprite
    prefix: str = _PREFIX


def html(found: Suggestions, written: str) -> str:
    """Returns the page, a self-contained file that makes no request.

    Args:
        found: At least one image.
        written: The time of writing, as text.
    """
    sections = [
        blocks.Section("images", "The images", _images(found)),
        blocks.Section("next", "What to do next", _next(found)),
        blocks.Section("choice", "How the images were chosen", _choice(found)),
    ]
    part = _Part(pictures.sprite(found.thumbnails, _SPRITE_BYTES))
    return document.rendered("suggestions.html", sections=sections, part=part, written=written)


def _images(found: Suggestions) -> list[blocks.Block]:
    facts = [
        blocks.Fact("Images to label", blocks.count(len(found.files)), f"listed in {found.table}"),
        blocks.Fact("Images", blocks.count(found.readable), f"readable in {found.images}"),
        blocks.Fact("Already labelled", blocks.count(found.labelled), "their clusters come last"),
    ]
    numbers = zip(found.files, found.clusters, found.sizes, strict=True)
    items = [
        blocks.Thumbnail(
            place,
            f"{place + 1}: {file}",
            (f"{place + 1}. {file}", f"cluster {cluster}, of {size:,} images"),
        )
        for place, (file, cluster, size) in enumerate(numbers)
    ][: len(found.thumbnails)]
    caption = "The most useful images first."
    if len(items) < len(found.files):
        caption += f" The first {len(items):,}; the table has all."
    said = [blocks.Text(found.left_over)] if found.left_over else []
    return [blocks.Facts(facts), *said, blocks.Thumbnails("To label", caption, items)]


def _next(found: Suggestions) -> list[blocks.Block]:
    model, images = shlex.quote(found.model), shlex.quote(found.images)
    labels = os.path.join(found.images, "labels.csv")
    return [
        blocks.Text(
            f"Fill in the column `label` of {found.table}, and save the table as {labels}. Add the "
            "rows of later tables to it: they have the same columns. Images that are not in the "
            "table are used without a label."
        ),
        blocks.Code("Train with these labels", f"simclrv2-tf finetune {model} --labels={images}"),
        blocks.Code(
            "Suggest more",
            f"simclrv2-tf suggest {model} {images} --labelled={images} --output=more.csv",
        ),
    ]


def _choice(found: Suggestions) -> list[blocks.Block]:
    return [
        blocks.Text(
            "By TypiClust (arXiv 2202.02794): k-means clusters the representations of all images "
            "into as many clusters as there will be labels, at most 500. Each of the largest "
            "clusters without a label contributes its most typical image, which has the smallest "
            "mean distance to its 20 nearest neighbours. Copies of an image are suggested once, "
            "and clusters of a few images, mostly outliers, come last."
        ),
        blocks.Text(
            "This choice is meant for the first few hundred labels. It is not a random sample: do "
            "not estimate an accuracy, or the shares of the classes, from these images. Hold out "
            "randomly drawn images for that."
        ),
    ]
