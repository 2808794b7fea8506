"""What did it learn? A map of the representations, and nearest neighbours."""

from __future__ import annotations

import colorsys

import numpy as np

from simclrv2_tf.kept_results import kept_results
from simclrv2_tf.metrics import neighbours, principal_components, t_sne
from simclrv2_tf.metrics.representations import unit_rows
from simclrv2_tf.report.page import blocks
from simclrv2_tf.report.page.blocks import Thumbnail
from simclrv2_tf.report.page.runs import PRETRAIN, Run, Samples

QUESTION = "What did it learn?"
_LEAST = 3  # images for a map
_ROWS, _SHOWN = 10, 6
_KEPT = 10  # neighbours, to measure how many the map keeps
_MOST_COLORS = 20  # classes with a color on a map
_OTHERS, _GRAY = -2, "#999999"  # label and color of classes without an own color
# Okabe and Ito, then Tol's muted colors: distinguishable with any color vision.
_PALETTE = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#A89A00", "#882255",
    "#7A7A7A", "#332288", "#44AA99", "#117733",
)  # fmt: skip


def answer(run: Run, prefix: str) -> list[blocks.Block] | None:
    """Returns the map and the neighbours of some images; None without pretraining."""
    if run.stage(PRETRAIN) is None:
        return None
    samples = run.samples
    if samples is None:
        return [
            blocks.Text(
                "This section needs representations.npz, which the evaluation of pretraining "
                "writes."
            )
        ]
    if len(samples.ids) < _LEAST:
        left_out = f" {_left_out(samples)}" if samples.left_out else ""
        return [
            blocks.Text(
                f"This section needs {_LEAST} images; representations.npz holds "
                f"{len(samples.ids)}.{left_out}"
            )
        ]
    names = run.class_names
    nearest = samples.nearest(_SHOWN)
    found: list[blocks.Block] = [_map(samples, names)]
    if samples.left_out:
        found.append(blocks.Text(_left_out(samples)))
    labelled = samples.labels >= 0
    if labelled.any():
        same = samples.labels[nearest[:, 0]] == samples.labels
        counts = np.bincount(samples.labels[labelled])
        chance = np.sum((counts / counts.sum()) ** 2)
        found.append(
            blocks.Text(
                f"Of {labelled.sum():,} images, {same[labelled].mean():.0%} have a nearest "
                f"neighbour of their own class; chance is {chance:.0%}. Neighbours of another "
                "class have a frame and a cross."
            )
        )
    rows = [
        (
            Thumbnail(index, _described(samples, names, index), [_class(samples, names, index)]),
            [
                Thumbnail(
                    other,
                    _described(samples, names, other),
                    wrong=bool(labelled[index] and samples.labels[other] != samples.labels[index]),
                )
                for other in nearest[index].tolist()
            ],
        )
        for index in _queries(samples)
    ]
    caption = (
        "Test images, and the images with the most similar representations (cosine), the nearest "
        "first."
    )
    return [*found, blocks.Neighbours("Nearest neighbours", caption, rows)]


def _left_out(samples: Samples) -> str:
    number = samples.left_out
    images = "1 image is" if number == 1 else f"{number:,} images are"
    return f"{images} omitted, because the representation is not finite."


def _queries(samples: Samples) -> list[int]:
    """Returns the first image of each class, or evenly spaced ones; at most 10."""
    classes, first = np.unique(samples.labels, return_index=True)
    first = first[classes >= 0]
    if not len(first):
        first = np.linspace(0, len(samples.ids) - 1, min(_ROWS, len(samples.ids))).astype(int)
    return first[np.linspace(0, len(first) - 1, min(_ROWS, len(first))).astype(int)].tolist()


def _name(names: list[str], label: int) -> str:
    return names[label] if label < len(names) else str(label)


def _class(samples: Samples, names: list[str], index: int) -> str:
    label = int(samples.labels[index])
    return _name(names, label) if label >= 0 else ""


def _described(samples: Samples, names: list[str], index: int) -> str:
    return ", ".join(filter(None, [_class(samples, names, index), str(samples.ids[index])]))


@kept_results(most=4)
def _placed(representations: np.ndarray) -> tuple[np.ndarray, str]:
    """Returns the points of the map (n, 2), and a description of the method."""
    rows = unit_rows(representations)
    if t_sne.fits(rows) and t_sne.installed():
        points = t_sne.t_sne_plane(rows)
        how = (
            "by t-SNE of unit-length rows, which keeps neighbours together. Distances between "
            "groups, and their sizes, have little meaning."
        )
    else:
        points, explained = principal_components.principal_plane(rows)
        how = (
            "along the two directions in which they vary most (PCA of unit-length rows). These "
            f"have {explained.sum():.0%} of the variance: distant points differ, but near points "
            "may differ too."
        )
    k = min(_KEPT, len(rows) - 1)
    kept = neighbours.share_kept(rows, points, k)
    how += (
        f" Of the {k} nearest neighbours of an image, {kept:.0%} are among the {k} nearest points."
    )
    if t_sne.fits(rows) and not t_sne.installed():
        how += " Install openTSNE (pip install 'simclrv2-tf[map]') for a map by t-SNE."
    return points, how


def _map(samples: Samples, names: list[str]) -> blocks.Map:
    points, how = _placed(samples.representations)
    low, high = points.min(0), points.max(0)
    scale = 100 / max(high[0] - low[0], 1e-12)  # one scale for both axes, to compare distances
    places = np.round(scale * (points - low), 1)
    height = round(float(scale * (high[1] - low[1])), 1)
    labels, known, others = _named(samples.labels)
    groups = []
    for label in np.unique(labels).tolist():
        shown = [
            blocks.Point(
                index,
                float(places[index, 0]),
                round(height - float(places[index, 1]), 1),
                _described(samples, names, index),
            )
            for index in np.flatnonzero(labels == label).tolist()
        ]
        if label in known:
            own = color(known.index(label), len(known))
            groups.append(blocks.Group(_name(names, label), own, shown))
        elif label == _OTHERS:
            groups.append(blocks.Group("other classes", _GRAY, shown))
        else:
            groups.append(blocks.Group("no label", "currentColor", shown))
    caption = f"Representations of {len(places):,} test images, one point each, {how}"
    if others:
        caption += f" The {len(known)} most frequent classes have a color; the others are gray."
    alt = f"Map of {len(places):,} representations" + (", colored by class" if known else "")
    return blocks.Map(alt, caption, groups, height)


def _named(labels: np.ndarray) -> tuple[np.ndarray, list[int], int]:
    """Returns the labels for a map with a color for each of the most frequent classes.

    Returns:
        The labels (n,), `_OTHERS` for the other classes; the classes with a color, in ascending
        order; and the number of other classes.
    """
    classes, counts = np.unique(labels[labels >= 0], return_counts=True)
    known = np.sort(classes[np.argsort(-counts, kind="stable")[:_MOST_COLORS]])
    shown = np.where((labels < 0) | np.isin(labels, known), labels, _OTHERS)
    return shown, known.tolist(), len(classes) - len(known)


def color(place: int, number: int) -> str:
    """Returns the color of one of `number` classes; hues around the circle for more than 12."""
    if number <= len(_PALETTE):
        return _PALETTE[place]
    # Alternating lightness distinguishes neighbours on the circle.
    red, green, blue = colorsys.hls_to_rgb(place / number, (0.42, 0.58)[place % 2], 0.65)
    return f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}"
