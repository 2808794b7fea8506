"""Classes and embeddings of images: `python -m simclrv2_tf.predict --model=... --images=...`.

Only reads the exported files of a run or an import.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import functools
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import IO, TYPE_CHECKING

import numpy as np
from etils import epath, epy

from simclrv2_tf import environment, hugging_face
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
    """Raised for predictions that cannot run as requested."""


def run(args: argparse.Namespace) -> None:
    """Runs the command line.

    Raises:
        PredictError, ModelError, DatasetError: it cannot run; nothing is written.
    """
    args.model = hugging_face.local(args.model)
    targets = _checked_targets(args.output, args.embeddings, args.overwrite)
    model = load_model(args.model)
    wanted = _checked_endpoints(model, args)
    images = datasets.open_images(
        args.images, value_range=model.value_range, channels=model.channels
    )
    # Files are only replaced at the end, so an interrupted command keeps earlier files.
    with contextlib.ExitStack() as stack:
        writers = _writers(model, args, images.num_examples, stack)
        count = 0
        for paths, found in outputs(model, images, wanted, args, quiet=bool(targets)):
            for writer in writers:
                writer(paths, found)
            count += len(paths)
        if not count:
            raise PredictError(f"No image of {args.images} can be read.")
    if targets and count < images.num_examples:
        print(f"{images.num_examples - count:,} unreadable image(s) were skipped.", flush=True)
    if args.output:
        print(f"Wrote the classes of {count:,} images to {args.output}", flush=True)
    if args.embeddings:
        print(f"Wrote {count:,} embeddings to {args.embeddings}", flush=True)


def _checked_targets(output: str | None, embeddings: str | None, overwrite: bool) -> list[str]:
    """Returns all files to write."""
    if embeddings and not embeddings.endswith((".npy", ".csv")):
        raise PredictError(f"`embeddings` must end in .npy or .csv. Received: {embeddings=!s}")
    targets = [target for target in (output, embeddings) if target]
    if embeddings and embeddings.endswith(".npy"):
        targets.append(_names_file(embeddings))
    if len({*map(os.path.abspath, targets)}) < len(targets):
        raise PredictError(
            f"Output files must have different names. Received: {', '.join(targets)}"
        )
    check_targets(targets, overwrite)
    return targets


def check_targets(targets: Sequence[str], overwrite: bool) -> None:
    """Checks that files can be written, and that none exists unless it may be replaced.

    Raises:
        PredictError: a file cannot be written, or exists.
    """
    for target in targets:
        if os.path.exists(target) and not os.path.isfile(target):
            raise PredictError(f"{target} already exists and is not a file. Give another name.")
        if os.path.exists(target) and not overwrite:
            raise PredictError(
                f"{target} already exists. Give another name, or --overwrite to replace it."
            )
        if not os.path.isdir(os.path.dirname(target) or "."):
            raise PredictError(
                f"The folder of {target} does not exist. Create it, or give another name."
            )


def _checked_endpoints(model: Model, args: argparse.Namespace) -> list[str]:
    """Returns the endpoints of the model that the command line needs."""
    check_model(model, args)
    wanted = []
    if args.output or not args.embeddings:
        if "logits" not in model.endpoints:
            raise PredictError(
                "`embeddings`, not `output`, must be given for a model without classes. "
                f"Received: model={args.model}, which gives {', '.join(sorted(model.endpoints))}"
            )
        wanted.append("logits")
    if args.embeddings:
        check_endpoint(model, args.endpoint)
        wanted.append(args.endpoint)
    return wanted


def check_model(model: Model, args: argparse.Namespace) -> None:
    """Checks that a model's input is images, and that their size is known.

    Args:
        model: The network.
        args: `model`, its path, and `image_size`.
    """
    if not model.endpoints:
        raise PredictError(
            "`model` must accept images (B, H, W, channels), and its file must keep its exported "
            "name, encoder or image_classifier, which determines its output. "
            f"Received: model={args.model}"
        )
    if not (args.image_size or model.image_size):
        raise PredictError(
            "`image_size` must be given: no file alongside the model gives the size of its "
            f"training images. Received: model={args.model}"
        )


def check_endpoint(model: Model, endpoint: str) -> None:
    """Checks that a model has an endpoint."""
    if endpoint not in model.endpoints:
        raise PredictError(
            f"`endpoint` must be one of the model's: {', '.join(sorted(model.endpoints))}. "
            f"Received: endpoint={endpoint}"
        )


def outputs(
    model: Model, images: Split, wanted: Sequence[str], args: argparse.Namespace, quiet: bool
) -> Iterator[tuple[list[str], dict[str, np.ndarray]]]:
    """Yields, per batch, the paths of the readable images and their outputs `wanted`.

    Args:
        model: The network.
        images: The images.
        wanted: Some of the network's endpoints.
        args: `model`, its path; `batch_size`; `image_size`, None for the model's own.
        quiet: Whether nothing else is printed, so that a terminal can show a bar.

    Raises:
        PredictError: an output is NaN or infinite.
    """
    progress = keras.utils.Progbar(
        -(-images.num_examples // args.batch_size), verbose=int(quiet and sys.stdout.isatty())
    )
    files, _ = images.labels()
    batches = datasets.evaluation_batches(
        images,
        batch_size=args.batch_size,
        image_size=args.image_size or model.image_size,
        antialias=model.antialias,
    )
    for number, (pixels, _, weight) in enumerate(batches):
        readable = weight.numpy() > 0
        found = model.outputs(pixels.numpy(), wanted)
        found = {name: values[readable] for name, values in found.items()}
        names = files[number * args.batch_size :][: len(readable)]
        names = names[readable[: len(names)]].tolist()
        _check_outputs(model, found, names, args.model)
        if names:
            yield names, found
        progress.add(1)


# A function of the paths and outputs of one batch.
_Writer = Callable[[list[str], dict[str, "np.ndarray"]], None]


def _writers(
    model: Model, args: argparse.Namespace, most: int, stack: contextlib.ExitStack
) -> list[_Writer]:
    """Returns the functions that write the command line's files, or print classes without any.

    Args:
        model: The network.
        args: The command line.
        most: An upper bound on the number of images.
        stack: When it closes, the new files replace existing ones.
    """
    writers: list[_Writer] = []
    if args.output or not args.embeddings:
        write_classes: Callable = _print_classes
        if args.output:
            rows = _csv(args.output, stack)
            rows.writerow(["file", "rank", "class", "probability"])
            write_classes = functools.partial(_write_classes, rows)

        def classify(paths, outputs):
            found = top_classes(outputs["logits"], model.class_names, args.top_k)
            write_classes(paths, found)

        writers.append(classify)
    if args.embeddings:
        values = _npy_rows if args.embeddings.endswith(".npy") else _csv_rows
        write = values(args.embeddings, most, stack)
        writers.append(
            lambda paths, outputs: write(paths, outputs[args.endpoint].reshape(len(paths), -1))
        )
    return writers


def _print_classes(paths, found):
    for path, best in zip(paths, found, strict=True):
        print(path, *(f"{label} {p:.3f}" for label, p in best), sep="  ", flush=True)


def _write_classes(rows, paths, found):
    for path, best in zip(paths, found, strict=True):
        rows.writerows(
            (path, rank, label, f"{probability:.6f}")
            for rank, (label, probability) in enumerate(best, start=1)
        )


def top_classes(logits, class_names: Sequence[str], top_k: int) -> list[list[tuple[str, float]]]:
    """Returns the most probable classes (name, probability) of each image, in descending order.

    Args:
        logits: (n, C).
        class_names: (C,); if empty, numbers are used.
        top_k: Number of classes, at most C.
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
                f"The model's {endpoint} is NaN or infinite for {names[0]} or another image of its "
                f"batch. Received: model={path}"
            )
    classes = outputs["logits"].shape[-1] if "logits" in outputs else 0
    if classes and model.class_names and len(model.class_names) != classes:
        raise PredictError(
            f"labels.txt alongside the model must name its {classes} classes. Received: "
            f"{len(model.class_names)} names"
        )


def _names_file(path: str) -> str:
    """Returns the file for the paths of the images whose embeddings are in `path`."""
    return path.removesuffix(".npy") + ".txt"


@contextlib.contextmanager
def _replacing(path: str, mode: str, **options) -> Iterator[IO]:
    """Opens a new file that replaces `path` at the end; an error removes it."""
    # Keeps a link, which then points to the new file.
    with whole(epath.Path(os.path.realpath(path))) as unfinished:
        try:
            with open(unfinished, mode, **options) as file:
                yield file
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise


def _csv(path: str, stack: contextlib.ExitStack):
    return csv.writer(stack.enter_context(_replacing(path, "w", newline="", encoding="utf-8")))


def _csv_rows(path: str, most: int, stack: contextlib.ExitStack):
    """Returns a function that adds a batch of embeddings to a CSV file."""
    del most
    rows, begun = _csv(path, stack), False

    def write(paths, values):
        nonlocal begun
        if not begun:
            rows.writerow(["file", *range(values.shape[1])])
        begun = True
        rows.writerows([name, *map(str, row)] for name, row in zip(paths, values, strict=True))

    return write


def _npy_rows(path: str, most: int, stack: contextlib.ExitStack):
    """Returns a function that adds embeddings to a .npy file, and their paths to its .txt file."""
    file = stack.enter_context(_replacing(path, "wb"))
    names = stack.enter_context(_replacing(_names_file(path), "w", encoding="utf-8"))
    kind: tuple = ()
    count = 0

    def header(rows):
        dtype, width = kind
        described = np.lib.format.dtype_to_descr(dtype)
        held = {"descr": described, "fortran_order": False, "shape": (rows, width)}
        np.lib.format.write_array_header_1_0(file, held)

    def write(paths, values):
        nonlocal kind, count
        if not kind:
            kind = values.dtype, values.shape[1]
            header(most)  # same length as for the actual number, which is only known at the end
        file.write(np.ascontiguousarray(values).tobytes())
        names.writelines(f"{name}\n" for name in paths)
        count += len(paths)

    def end():
        if kind:
            file.seek(0)
            header(count)

    stack.callback(end)
    return write


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m simclrv2_tf.predict",
        description="Classify or embed images with an exported network. Prints the classes "
        "without --output and --embeddings.",
        allow_abbrev=False,
    )
    model = "a run's folder, a SavedModel's folder or tar.gz, or a .keras, .onnx or .tflite "
    model += "file; or hf://OWNER/REPO"
    size = "side in pixels to crop and scale images to (default: as in training)"
    embeddings = (
        "file for the embeddings: .csv, one row per image; or .npy, with the images' paths in a "
        ".txt file alongside"
    )
    default = "(default: %(default)s)"
    endpoint = f"endpoint to use as the embedding, such as projection {default}"
    add = parser.add_argument
    home = os.path.expanduser
    add("--model", required=True, metavar="PATH", help=model)
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
    environment.start()
    return exit_status(lambda: run(args), os_error=2)


if __name__ == "__main__":
    sys.exit(main())
