"""Where does it fail? Confusions, the most confident mistakes, and labels that look wrong."""

from __future__ import annotations

import dataclasses

import numpy as np

from simclrv2_tf.metrics import classification
from simclrv2_tf.predictions import Predictions
from simclrv2_tf.report.confusion import confusion_figure
from simclrv2_tf.report.page import blocks, pictures
from simclrv2_tf.report.page.blocks import Thumbnail
from simclrv2_tf.report.page.runs import Run, Samples

QUESTION = "Where does it fail?"
_MOST_CONFUSIONS, _MOST_MISTAKES = 8, 12
_MOST_CLASSES, _ENDS = 100, 10  # of a matrix and a table; rows at each end of a longer table
_NEIGHBOURS, _AGREE = 10, 8  # to decide that a label looks wrong


def answer(run: Run, prefix: str) -> list[blocks.Block] | None:
    """Returns the mistakes of the best classifier with predictions; None without labels."""
    if not run.class_names and not run.evaluated:
        return None
    predicting = [stage for stage in run.evaluated if stage.predictions is not None]
    if not predicting:
        return [
            blocks.Text(
                "This section needs predictions.csv, which an evaluation on labelled images writes."
            )
        ]
    stage = dataclasses.replace(run, stages=predicting).best
    found = stage.predictions
    known = {*found.class_names} <= {*run.class_names}
    names = run.class_names if known else list(found.class_names)
    places = {name: place for place, name in enumerate(names)}
    # Indices among the names that occur become indices among all classes.
    among_all = np.array([places[name] for name in found.class_names], np.int64)
    labels, predicted = among_all[found.labels], among_all[found.predicted]
    return [
        blocks.Text(f"Classifier: {stage.in_words}. Test images: {len(found.ids):,}."),
        *_confusions(labels, predicted, names, f"{prefix}-confusion"),
        *_images(found, run.samples),
    ]


def _confusions(
    labels: np.ndarray, predicted: np.ndarray, names: list[str], prefix: str
) -> list[blocks.Block]:
    """Returns the matrix, the most frequent confusions and the recall of classes.

    With many classes, a matrix would need much memory and be unreadable.
    """
    pairs, counts = classification.confusion_counts(labels, predicted, len(names))
    images = np.bincount(labels, minlength=len(names))
    answers = np.bincount(predicted, minlength=len(names))
    right = np.bincount(labels[labels == predicted], minlength=len(names))
    rows = classification.by_class(right, images, answers, names)
    worst = sorted((row for row in rows if row["images"]), key=lambda row: row["recall"])
    found: list[blocks.Block] = []
    if len(names) <= _MOST_CLASSES:
        matrix = classification.confusion_matrix(labels, predicted, len(names))
        found.append(blocks.Figures([_matrix(matrix, names, worst, prefix)], wide=True))
    else:
        found.append(
            blocks.Text(
                f"The confusion matrix is only drawn for up to {_MOST_CLASSES} classes. These "
                f"images have {len(names):,}."
            )
        )
    wrong = pairs[:, 0] != pairs[:, 1]
    pairs, counts = pairs[wrong], counts[wrong]
    order = np.argsort(-counts, kind="stable")[:_MOST_CONFUSIONS]
    cells = [
        (
            names[label],
            names[answer],
            blocks.count(count),
            blocks.share(count / int(images[label])),
        )
        for (label, answer), count in zip(
            pairs[order].tolist(), counts[order].tolist(), strict=True
        )
    ]
    if cells:
        header = ["class", "predicted", "images", "of the class"]
        found.append(blocks.Table("The most frequent confusions", header, cells))
    return [*found, _recalls(worst)]


def _matrix(matrix: np.ndarray, names: list[str], worst: list[dict], prefix: str) -> blocks.Figure:
    alt = "Confusion matrix: for each class, the share of its images with each prediction."
    if worst:
        alt += f" {worst[0]['class']} is recognized least often, {worst[0]['recall']:.0%}."
    svg = pictures.inline_svg(_drawn, [matrix.tolist(), names], prefix, alt)
    least = min(10 + 2 * len(names), 60)
    return blocks.Figure(svg, alt, "", "Rows are classes, columns are predictions.", least)


def _recalls(worst: list[dict]) -> blocks.Table:
    """Returns recall and precision of all classes, or of both ends; the lowest recall first."""
    title = "Recall and precision of each class, the lowest recall first"
    if len(worst) > _MOST_CLASSES:
        worst = worst[:_ENDS] + worst[-_ENDS:]
        title = f"Recall and precision of the {_ENDS} classes with the lowest recall, and of the "
        title += f"{_ENDS} with the highest"
    header = ["class", "images", "recall", "95% interval", "precision"]
    cells = [
        (
            row["class"],
            blocks.count(row["images"]),
            blocks.share(row["recall"]),
            f"{100 * row['recall_low']:.1f} to {100 * row['recall_high']:.1f}%",
            blocks.share(row["precision"]),
        )
        for row in worst
    ]
    return blocks.Table("", header, cells, folded=title)


def _drawn(values):
    matrix, names = values
    return confusion_figure(np.array(matrix), names)


def _images(predictions: Predictions, samples: Samples | None) -> list[blocks.Block]:
    """Returns confident mistakes, and labels that look wrong, among images with a thumbnail."""
    if samples is None:
        return [
            blocks.Text(
                "Thumbnails of mistakes need representations.npz, which pretraining in the same "
                "run writes."
            )
        ]
    rows = {name: row for row, name in enumerate(predictions.ids.tolist())}
    sampled = [
        (index, rows[name]) for index, name in enumerate(samples.ids.tolist()) if name in rows
    ]
    if not sampled:
        return [blocks.Text("Thumbnails of mistakes need images that are in both files.")]
    right = predictions.right
    mistakes = [(index, row) for index, row in sampled if not right[row]]
    mistakes.sort(key=lambda pair: -predictions.confidence[pair[1]])
    if not mistakes:
        return [
            blocks.Text(f"All {len(sampled):,} images with a thumbnail are classified correctly.")
        ]

    def shown(pairs):
        return [_thumbnail(predictions, index, row) for index, row in pairs[:_MOST_MISTAKES]]

    caption = (
        f"Of {len(sampled):,} images with a thumbnail: the class, what was predicted instead, and "
        "the confidence."
    )
    found: list[blocks.Block] = [
        blocks.Thumbnails("The most confident mistakes", caption, shown(mistakes), True)
    ]
    doubtful = _doubtful(predictions, samples, dict(sampled), mistakes)
    if doubtful:
        caption = (
            f"The classifier and at least {_AGREE} of the {_NEIGHBOURS} nearest neighbours agree "
            "on another class. Check these images before you trust the label or the classifier."
        )
        wrong = blocks.Thumbnails("Labels that look wrong", caption, shown(doubtful), judged=True)
        return [*found, wrong]
    return [
        *found,
        blocks.Text(
            f"All labels of these images look right: the classifier and at least {_AGREE} of the "
            f"{_NEIGHBOURS} nearest neighbours never agree on another class."
        ),
    ]


def _doubtful(
    predictions: Predictions,
    samples: Samples,
    rows: dict[int, int],
    mistakes: list[tuple[int, int]],
) -> list[tuple[int, int]]:
    """Returns mistakes whose neighbours have the predicted class, the most confident first."""
    nearest = samples.nearest(_NEIGHBOURS)

    def agreeing(index, row):
        labels = [predictions.labels[rows[other]] for other in nearest[index] if other in rows]
        return sum(label == predictions.predicted[row] for label in labels)

    return [pair for pair in mistakes if agreeing(*pair) >= _AGREE]


def _thumbnail(predictions: Predictions, index: int, row: int) -> Thumbnail:
    names = predictions.class_names
    label, predicted = names[predictions.labels[row]], names[predictions.predicted[row]]
    confidence = f"{predictions.confidence[row]:.0%}"
    alt = f"{label}, predicted as {predicted}, {predictions.ids[row]}"
    return Thumbnail(index, alt, [label, f"→ {predicted}", confidence])
