"""The page of the images that are suggested to be labelled next."""

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
    """Images to label, in the order in which they are suggested.

    Attributes:
        model: The network that represents the images, as it was named.
        images: The folder of the images, as it was named.
        table: The file of the suggestions.
        asked: How many were asked for.
        readable: Number of images of the folder that can be read.
        labelled: Number of images with a label: of the folder, and others.
        files: (n,) paths below the folder.
        clusters: (n,) numbers of their clusters, from 1, the largest one first.
        sizes: (n,) images in these clusters.
        typicality: (n,) one over the mean distance to the nearest neighbours.
        thumbnails: (m, S, S, 1 or 3) uint8, of the first m.
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
        """Why there are fewer than were asked for; "" where there are not."""
        if len(self.files) == self.asked:
            return ""
        return (
            f"{self.asked:,} images were asked for, and {len(self.files):,} are suggested: every "
            "other one has a label, or equals one that has a label or is suggested."
        )


@dataclasses.dataclass(frozen=True)
class _Part:
    """What the thumbnails of the page refer to."""

    sprite: pictures.Sprite
    prefix: str = _PREFIX


def html(found: Suggestions, written: str) -> str:
    """Returns the page, which needs no other file and makes no request.

    Args:
        found: At least one image.
        written: When it is written, in words.
    """
    sections = [
        blocks.Section("images", "The images", _images(found)),
        blocks.Section("next", "What to do next", _next(found)),
        blocks.Section("choice", "How they were chosen", _choice(found)),
    ]
    part = _Part(pictures.sprite(found.thumbnails, _SPRITE_BYTES))
    return document.rendered("suggestions.html", sections=sections, part=part, written=written)


def _images(found: Suggestions) -> list[blocks.Block]:
    facts = [
        blocks.Fact("Images to label", blocks.count(len(found.files)), f"listed in {found.table}"),
        blocks.Fact("Images", blocks.count(found.readable), f"that can be read in {found.images}"),
        blocks.Fact("Labelled already", blocks.count(found.labelled), "whose clusters come last"),
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
    caption = "The most useful first."
    if len(items) < len(found.files):
        caption += f" The first {len(items):,}; the table has all."
    said = [blocks.Text(found.left_over)] if found.left_over else []
    return [blocks.Facts(facts), *said, blocks.Thumbnails("To label", caption, items)]


def _next(found: Suggestions) -> list[blocks.Block]:
    model, images = shlex.quote(found.model), shlex.quote(found.images)
    labels = os.path.join(found.images, "labels.csv")
    return [
        blocks.Text(
            f"Fill in the column label of {found.table}, and save it as {labels}. Add the rows of "
            "later tables to it: they have the same columns. Images that the table leaves out are "
            "used without a label."
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
            "By TypiClust (arXiv 2202.02794): the representations of all images are clustered by "
            "k-means, into as many clusters as there will be labels, at most 500. Each of the "
            "largest clusters without a label gives its most typical image, the one that is "
            "nearest to its 20 nearest neighbours on average. Copies of an image are suggested "
            "once, and clusters of a few images, which are mostly outliers, come last."
        ),
        blocks.Text(
            "The images are chosen for the first hundreds of labels. A choice is no random sample: "
            "do not estimate an accuracy, or the shares of the classes, from these images. Hold "
            "out images that were drawn at random."
        ),
    ]
