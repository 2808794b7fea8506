"""Evaluation on any labelled images: `python -m simclrv2_tf.evaluate --model=... --dataset=...`.

Reads an exported network, like `predict`, and writes to a separate folder:

    result.json            accuracy with its interval, balanced accuracy, calibration
    per_class.csv          images, recall with its interval, precision and F1 of each class
    confusion_matrix.csv   one row per class, one column per prediction
    predictions.csv        each image's class, predicted class, and confidence
    confusion_matrix.png, calibration.png, calibration.csv
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import io
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from etils import epath, epy

from simclrv2_tf import environment, files, hugging_face, predictions
from simclrv2_tf.datasets import sources
from simclrv2_tf.errors import UserError, exit_status
from simclrv2_tf.export.formats import load_model
from simclrv2_tf.options import at_least_1

with epy.lazy_imports():
    import keras

    from simclrv2_tf import datasets, metrics, report
    from simclrv2_tf.metrics import classification

if TYPE_CHECKING:
    from simclrv2_tf.datasets import ImageDataset, Split
    from simclrv2_tf.export import Model


class EvaluateError(UserError):
    """Raised for an evaluation that cannot run as requested."""


@dataclasses.dataclass(frozen=True)
class _Answers:
    """The answers of a model for N readable, labelled images.

    Attributes:
        ids: (N,) str.
        labels: (N,), indices of the model's classes.
        logits: (N, C) float32.
    """

    ids: np.ndarray
    labels: np.ndarray
    logits: np.ndarray

    @property
    def predictions(self) -> np.ndarray:
        return self.logits.argmax(-1)


def run(args: argparse.Namespace) -> None:
    """Runs the command line.

    Raises:
        EvaluateError, ModelError, DatasetError: it cannot run; nothing is written.
    """
    folder, name = _checked_folder(args), args.model
    args.model = hugging_face.local(args.model)
    model = load_model(args.model)
    image_size = _checked_size(model, args)
    dataset = datasets.open_dataset(
        args.dataset, args.data_dir, args.split_seed, model.value_range, model.channels
    )
    split = dataset.split(args.split or _default_split(dataset))
    places, names = _matched(model, dataset, split)
    answers = _answers(model, split, places, image_size, args.batch_size)
    result, rows, matrix = _measured(answers, names)
    source = {"model": name, "dataset": args.dataset, "split": split.name}
    result = {**source, **result, "skipped_images": dataset.num_skipped}
    _write(folder, result, rows, matrix, answers, names)
    print(_summary(result, rows), flush=True)
    print(f"\nWrote all results, with each image's prediction, to {folder}", flush=True)


def _checked_folder(args: argparse.Namespace) -> epath.Path:
    if args.output:
        folder = epath.Path(args.output)
    else:
        home = os.path.expanduser(args.model)
        if not os.path.isdir(home):
            raise EvaluateError(
                "`output` must name a folder for the results if the model is not a folder. "
                f"Received: model={args.model}"
            )
        name = args.dataset.rstrip("/").rsplit("/", 1)[-1].rpartition(":")[-1]
        folder = epath.Path(home) / "evaluations" / (name or "images")
    if (folder / "result.json").exists() and not args.overwrite:
        raise EvaluateError(
            f"`output` must be a new folder. Received: {folder}, which holds an evaluation. Give "
            "another --output, or --overwrite."
        )
    return folder


def _checked_size(model: Model, args: argparse.Namespace) -> int:
    if "logits" not in model.endpoints:
        raise EvaluateError(
            "`model` must be a classifier, with logits. "
            f"Received: model={args.model}, which gives {', '.join(sorted(model.endpoints))}"
        )
    image_size = args.image_size or model.image_size
    if not image_size:
        raise EvaluateError(
            "`image_size` must be given: no file alongside the model gives the size of its "
            f"training images. Received: model={args.model}"
        )
    return image_size


def _default_split(dataset: ImageDataset) -> str:
    """Returns the held-out split; for a folder without one, all images: none was trained on."""
    held_out, contents = dataset.default_eval_split, dataset.contents
    if held_out and not (contents and contents.held_out):
        return held_out
    unlabelled = contents.unlabelled_split if contents else None
    return "+".join(split for split in dataset.splits if split != unlabelled)


def _matched(
    model: Model, dataset: ImageDataset, split: Split
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Maps the data's labels to the model's classes; returns the map and the names.

    Classes are matched by name. If the model has no names, labels are used unchanged, and a line
    says so.
    """
    if not split.labelled or not dataset.class_names:
        raise EvaluateError(
            f"`dataset` must have labels. Received: dataset={dataset.name}, which has none in "
            f"{split.name}"
        )
    if not model.class_names:
        print(
            "The model has no class names: assuming the data's classes in their order "
            f"({', '.join(dataset.class_names[:3])}, ...).",
            flush=True,
        )
        return np.arange(dataset.num_classes), dataset.class_names
    places = {name: place for place, name in enumerate(model.class_names)}
    if unknown := [name for name in dataset.class_names if name not in places]:
        raise EvaluateError(
            f"`dataset` must only have classes of the model ({', '.join(model.class_names)}). "
            "Received: "
            f"{', '.join(unknown)} in {dataset.name}. Name the class folders like the model's "
            "classes."
        )
    return np.array([places[name] for name in dataset.class_names]), model.class_names


def _answers(
    model: Model, split: Split, places: np.ndarray, image_size: int, batch_size: int
) -> _Answers:
    batches = datasets.evaluation_batches(
        split, batch_size=batch_size, image_size=image_size, antialias=model.antialias
    )
    progress = keras.utils.Progbar(
        -(-split.num_examples // batch_size), verbose=int(sys.stdout.isatty())
    )
    labels, logits, readable = [], [], []
    for images, label, weight in batches.as_numpy_iterator():
        outputs = model.outputs(images, ["logits"])["logits"]
        labels.append(label)
        logits.append(np.asarray(outputs, np.float32))
        readable.append(weight > 0)
        progress.add(1)
    ids, _ = split.labels()
    kept, found = (np.concatenate(parts)[: len(ids)] for parts in (readable, labels))
    kept = kept & (found >= 0)
    answers = _Answers(
        ids[kept],
        places[found[kept]],
        np.concatenate(logits)[: len(ids)][kept],
    )
    if not len(answers.labels):
        raise EvaluateError(f"No labelled image of {split.name} can be read.")
    if not np.all(np.isfinite(answers.logits)):
        raise EvaluateError("The model's logits are NaN or infinite for some of the images.")
    if answers.labels.max() >= answers.logits.shape[-1]:
        raise EvaluateError(
            f"`dataset` must have at most the model's {answers.logits.shape[-1]} classes. "
            f"Received: label {answers.labels.max()}"
        )
    return answers


def _measured(answers: _Answers, names: Sequence[str]) -> tuple[dict, list[dict], np.ndarray]:
    """Returns `result.json`, the rows of the classes, and the confusion matrix."""
    num_classes = answers.logits.shape[-1]
    names = [*names, *map(str, range(len(names), num_classes))]
    right = answers.predictions == answers.labels
    accuracy = classification.wilson(int(right.sum()), len(right))
    best = np.argsort(-answers.logits, axis=-1, kind="stable")[:, :5]
    matrix = classification.confusion_matrix(answers.labels, answers.predictions, num_classes)
    rows = classification.per_class(matrix, names)
    recalls = [row["recall"] for row in rows if row["recall"] is not None]
    calibration = metrics.Calibration()
    calibration.update_state(answers.labels, answers.logits)
    result = {
        "images": len(right),
        "label_top_1_accuracy": accuracy.share,
        "label_top_1_low": accuracy.low,
        "label_top_1_high": accuracy.high,
        "label_top_5_accuracy": float(np.mean(np.any(best == answers.labels[:, None], axis=-1))),
        "balanced_accuracy": float(np.mean(recalls)),
        "expected_calibration_error": float(calibration.result()),
        "bins": calibration.bins(),
    }
    return result, rows, matrix


def _write(folder, result, rows, matrix, answers, names) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    shown = [row["class"] for row in rows]
    files.write_text(folder / "per_class.csv", _csv(list(rows[0]), [row.values() for row in rows]))
    counts = [[name, *row] for name, row in zip(shown, matrix.tolist(), strict=True)]
    files.write_text(folder / "confusion_matrix.csv", _csv(["class", *shown], counts))
    shifted = np.exp(answers.logits - answers.logits.max(-1, keepdims=True))
    confidence = 1 / shifted.sum(-1)
    columns = (answers.ids, answers.labels, answers.predictions, confidence)
    predictions.write(
        folder / predictions.NAME, predictions.Predictions(*columns, class_names=tuple(shown))
    )
    drawn = {"model": {**result, "top1": result["label_top_1_accuracy"]}}
    figure, numbers = report.reliability_figure(drawn), report.reliability_numbers(drawn)
    report.save_drawn(figure, numbers, folder, "calibration", (".png",))
    report.save_figure(report.confusion_figure(matrix, shown), folder / "confusion_matrix.png")
    files.write_text(
        folder / "result.json", files.to_json(result)
    )  # last: its presence means that all files are complete


def _csv(header, rows) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(["" if value is None else value for value in row] for row in rows)
    return text.getvalue()


_MOST_ROWS = 20


def _summary(result: dict, rows: list[dict]) -> str:
    lines = [
        f"{result['images']:,} images of {result['split']} of {result['dataset']}"
        + (f", {result['skipped_images']:,} skipped" if result["skipped_images"] else ""),
        f"top-1 accuracy {result['label_top_1_accuracy']:.4f} "
        f"(95% interval {result['label_top_1_low']:.4f} to {result['label_top_1_high']:.4f}), "
        f"mean over classes {result['balanced_accuracy']:.4f}, "
        f"calibration error {result['expected_calibration_error']:.4f}",
        "",
    ]
    worst = sorted((row for row in rows if row["images"]), key=lambda row: row["recall"])
    names = ["class", "images", "recall", "precision", "f1"]
    lines.append(report.table(names, [[row[name] for name in names] for row in worst[:_MOST_ROWS]]))
    if len(worst) > _MOST_ROWS:
        lines.append(f"The {_MOST_ROWS} classes with the lowest recall; per_class.csv has all.")
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m simclrv2_tf.evaluate",
        description="Measure accuracy, calibration and confusions of an exported classifier on "
        "labelled images, for instance on new ones. The run's own results are not changed.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    home = os.path.expanduser
    model = "a run's folder, a SavedModel's folder or tar.gz, or a .keras, .onnx or .tflite file"
    data = "a folder with class folders, or the name of a data set; classes are matched by name"
    split = (
        "split to evaluate on (default: the held-out split, or all images of a folder without one)"
    )
    output = "folder for the results (default: MODEL/evaluations/NAME)"
    default = "(default: %(default)s)"
    size = "side in pixels to crop and scale images to (default: as in training)"
    add("--model", required=True, metavar="PATH", help=model)
    add("--dataset", required=True, metavar="NAME", help=data)
    add("--split", metavar="SPLIT", help=split)
    add("--output", type=home, metavar="FOLDER", help=output)
    add("--data_dir", type=home, metavar="FOLDER", help="as for simclrv2_tf.run")
    add("--split_seed", type=int, default=0, metavar="N", help="as for simclrv2_tf.run")
    add("--image_size", type=at_least_1, metavar="S", help=size)
    add("--batch_size", type=at_least_1, default=64, metavar="B", help=default)
    add("--overwrite", action="store_true", help="replace an earlier evaluation")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command line; returns the exit status: 0, or 2 for bad input."""
    args = _parser().parse_args(argv)
    args.dataset, taken = sources.resolve(args.dataset, args.data_dir)
    if taken:
        print(taken, flush=True)
    environment.start()
    return exit_status(lambda: run(args), os_error=2)


if __name__ == "__main__":
    sys.exit(main())
