"""Classes and embeddings of images: `python -m simclrv2_tf.predict --model=... --images=...`.

Reads the files of a run or an import; nothing of the training is needed.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import os
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from etils import epath, epy

from simclrv2_tf import environment
from simclrv2_tf.errors import UserError, exit_status
from simclrv2_tf.export.formats import load_model
from simclrv2_tf.files import whole
from simclrv2_tf.options import at_least_1

with epy.lazy_imports():
    import keras

    from simclrv2_tf import datasets

if TYPE_CHECKING:
    from simclrv2_tf.datasets import Split
    from simclrv2_tf.export import Model


class PredictError(UserError):
    """Predictions cannot be made as asked."""


def run(args: argparse.Namespace) -> None:
    """Carries out the command line.

    Raises:
        PredictError, ModelError, DatasetError: it cannot be carried out; nothing is written.
    """
    targets = _checked_targets(args.output, args.embeddings, args.overwrite)
    model = load_model(args.model)
    wanted = _checked_endpoints(model, args)
    images = datasets.open_images(args.images)
    with contextlib.ExitStack() as stack:
        to_csv = _ClassesFile(args.output, stack) if args.output else None
        to_embeddings = _embeddings_file(args.embeddings, stack)
        count = 0
        for names, outputs in _predict(model, images, wanted, args, shown=bool(targets)):
            count += len(names)
            if "logits" in outputs:
                best = top_classes(outputs["logits"], model.class_names, args.top_k)
                if to_csv:
                    to_csv.add(names, best)
                elif not to_embeddings:
                    _print_classes(names, best)
            if to_embeddings:
                to_embeddings.add(names, outputs[args.endpoint].reshape(len(names), -1))
        if not count:
            raise PredictError(f"No image of {args.images} can be read.")
    if targets and count < images.num_examples:
        print(f"{images.num_examples - count:,} unreadable image(s) were skipped.", flush=True)
    if args.output:
        print(f"{count:,} images' classes in {args.output}", flush=True)
    if args.embeddings:
        print(f"{count:,} embeddings in {args.embeddings}", flush=True)


def _checked_targets(output: str | None, embeddings: str | None, overwrite: bool) -> list[str]:
    """All files that will be written."""
    if embeddings and not embeddings.endswith((".npy", ".csv")):
        raise PredictError(f"`embeddings` must end in .npy or .csv. Received: {embeddings=!s}")
    targets = [target for target in (output, embeddings) if target]
    if embeddings and embeddings.endswith(".npy"):
        targets.append(_names_file(embeddings))
    if len({*map(os.path.abspath, targets)}) < len(targets):
        raise PredictError(f"Each file must have a name of its own. Received: {', '.join(targets)}")
    for target in targets:
        if os.path.exists(target) and not overwrite:
            raise PredictError(
                f"{target} is there already. Give another name, or --overwrite to replace it."
            )
        if not os.path.isdir(os.path.dirname(target) or "."):
            raise PredictError(f"There is no folder for {target}. Make it, or give another name.")
    return targets


def _checked_endpoints(model: Model, args: argparse.Namespace) -> list[str]:
    """The endpoints of the model that the command line asks for."""
    if not model.endpoints:
        raise PredictError(
            "`model` must take images (B, H, W, 3), and a file must be called encoder or "
            "image_classifier, as it was exported: its name tells what it gives. "
            f"Received: model={args.model}"
        )
    if not (args.image_size or model.image_size):
        raise PredictError(
            "`image_size` must be given: nothing beside the model says what images it was trained "
            f"with. Received: model={args.model}"
        )
    wanted = []
    if args.output or not args.embeddings:
        if "logits" not in model.endpoints:
            raise PredictError(
                "`embeddings`, and no `output`, must be given for a model without classes. "
                f"Received: model={args.model}, which gives {', '.join(sorted(model.endpoints))}"
            )
        wanted.append("logits")
    if args.embeddings:
        if args.endpoint not in model.endpoints:
            raise PredictError(
                f"`endpoint` must be one of {', '.join(sorted(model.endpoints))}, what the model "
                f"gives. Received: endpoint={args.endpoint}"
            )
        wanted.append(args.endpoint)
    return wanted


def _predict(
    model: Model, images: Split, wanted: Sequence[str], args: argparse.Namespace, shown: bool
) -> Iterator[tuple[list[str], dict[str, np.ndarray]]]:
    """Paths and outputs of the readable images, batch by batch; a progress bar where `shown`."""
    # A progress bar redraws its line, which makes a file or a pipe unreadable.
    progress = keras.utils.Progbar(
        -(-images.num_examples // args.batch_size), verbose=int(shown and sys.stdout.isatty())
    )
    files, _ = images.labels()
    batches = datasets.evaluation_batches(
        images, batch_size=args.batch_size, image_size=args.image_size or model.image_size
    )
    for number, (pixels, _, weight) in enumerate(batches):
        readable = weight.numpy() > 0
        outputs = model.outputs(pixels.numpy(), wanted)
        outputs = {name: values[readable] for name, values in outputs.items()}
        names = files[number * args.batch_size :][: len(readable)]
        names = names[readable[: len(names)]]
        if len(names):
            _check_outputs(model, outputs, names, args.model)
            yield names.tolist(), outputs
        progress.add(1)


def _print_classes(names: Sequence[str], best: Sequence[Sequence[tuple[str, float]]]) -> None:
    for name, found in zip(names, best, strict=True):
        print(name, *(f"{label} {p:.3f}" for label, p in found), sep="  ", flush=True)


def top_classes(logits, class_names: Sequence[str], top_k: int) -> list[list[tuple[str, float]]]:
    """The most probable classes (name, probability) of each image, the first one first.

    Args:
        logits: (n, C).
        class_names: (C,); empty: classes are called by their number.
        top_k: How many, at most C.
    """
    logits = np.asarray(logits, np.float64)
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    probabilities = exponentials / exponentials.sum(-1, keepdims=True)
    order = np.argsort(-probabilities, axis=-1, kind="stable")[:, :top_k]
    names = class_names or [str(number) for number in range(logits.shape[-1])]
    pairs = zip(probabilities, order, strict=True)
    return [[(names[k], float(row[k])) for k in best] for row, best in pairs]


def _check_outputs(model, outputs, names, path):
    for endpoint, values in outputs.items():
        if not np.all(np.isfinite(values)):
            raise PredictError(
                f"The model's {endpoint} is NaN or infinite for {names[0]} or an image soon after "
                f"it. Received: model={path}"
            )
    classes = outputs["logits"].shape[-1] if "logits" in outputs else 0
    if classes and model.class_names and len(model.class_names) != classes:
        raise PredictError(
            f"labels.txt beside the model must name its {classes} classes. Received: "
            f"{len(model.class_names)} names"
        )


def _names_file(path: str) -> str:
    """The file of the paths of the images whose embeddings are in `path`."""
    return path.removesuffix(".npy") + ".txt"


class _CsvFile:
    """A CSV file that is written batch by batch, and replaces an earlier one when it is whole."""

    def __init__(self, path: str, stack: contextlib.ExitStack):
        unfinished = stack.enter_context(whole(epath.Path(path)))
        file = stack.enter_context(open(unfinished, "w", newline="", encoding="utf-8"))
        self.writer = csv.writer(file)


class _ClassesFile(_CsvFile):
    """The most probable classes of each image, a row for each class."""

    def __init__(self, path: str, stack: contextlib.ExitStack):
        super().__init__(path, stack)
        self.writer.writerow(["file", "rank", "class", "probability"])

    def add(self, names: Sequence[str], best: Sequence[Sequence[tuple[str, float]]]) -> None:
        for name, found in zip(names, best, strict=True):
            for rank, (label, probability) in enumerate(found, start=1):
                self.writer.writerow([name, rank, label, f"{probability:.6f}"])


class _EmbeddingsCsv(_CsvFile):
    """A row for each image."""

    _begun = False

    def add(self, names: Sequence[str], values: np.ndarray) -> None:
        if not self._begun:
            self.writer.writerow(["file", *range(values.shape[1])])
            self._begun = True
        self.writer.writerows(
            [name, *map(str, row)] for name, row in zip(names, values, strict=True)
        )


class _EmbeddingsNpy:
    """One array (n, d), with the images' paths in a text file beside it."""

    def __init__(self, path: str, stack: contextlib.ExitStack):
        names = stack.enter_context(whole(epath.Path(_names_file(path))))
        self._names = stack.enter_context(open(names, "w", encoding="utf-8"))
        values = stack.enter_context(whole(epath.Path(path)))
        self._file = stack.enter_context(open(values, "w+b"))
        self._count = 0

    def add(self, names: Sequence[str], values: np.ndarray) -> None:
        self._names.writelines(f"{name}\n" for name in names)
        self._count += len(values)
        header = np.lib.format.header_data_from_array_1_0(values)
        # NumPy leaves room in the header for the first axis to grow.
        self._file.seek(0)
        np.lib.format.write_array_header_1_0(
            self._file, {**header, "shape": (self._count, *values.shape[1:])}
        )
        self._file.seek(0, os.SEEK_END)
        self._file.write(np.ascontiguousarray(values).tobytes())


def _embeddings_file(path: str | None, stack: contextlib.ExitStack):
    if path is None:
        return None
    return (_EmbeddingsNpy if path.endswith(".npy") else _EmbeddingsCsv)(path, stack)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m simclrv2_tf.predict",
        description="Classes and embeddings of images by an exported network. Without --output "
        "or --embeddings the classes are printed.",
        allow_abbrev=False,
    )
    model = "a run's folder, a SavedModel's folder or tar.gz, or a .keras, .onnx or .tflite file"
    size = "side in pixels that images are cropped and scaled to (default: as in training)"
    embeddings = (
        "file for the embeddings: .csv, a row for each image; or .npy, with the images' paths in "
        "a .txt beside it"
    )
    default = "(default: %(default)s)"
    endpoint = f"what counts as the embedding, such as projection {default}"
    add = parser.add_argument
    home = os.path.expanduser
    add("--model", type=home, required=True, metavar="PATH", help=model)
    add("--images", required=True, metavar="PATH", help="a folder, or one image")
    add("--output", type=home, metavar="CSV", help="file for the classes")
    add("--embeddings", type=home, metavar="FILE", help=embeddings)
    add("--endpoint", default="representation", metavar="NAME", help=endpoint)
    add("--top_k", type=at_least_1, default=5, metavar="K", help=f"classes {default}")
    add("--image_size", type=at_least_1, metavar="S", help=size)
    add("--batch_size", type=at_least_1, default=64, metavar="B", help=default)
    add("--overwrite", action="store_true", help="replace existing files")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command line; returns the exit status: 0, or 2 for bad input."""
    args = _parser().parse_args(argv)
    environment.prepare()
    return exit_status(lambda: run(args), os_error=2)


if __name__ == "__main__":
    sys.exit(main())
