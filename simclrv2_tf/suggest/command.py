"""The command line: writes a table of suggested images, and a page that shows them."""

from __future__ import annotations

import argparse
import csv
import datetime
import io
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from etils import epath, epy

from simclrv2_tf import environment, files, hugging_face, predict
from simclrv2_tf.errors import UserError, exit_status
from simclrv2_tf.export.formats import load_model
from simclrv2_tf.options import at_least_1
from simclrv2_tf.suggest import labelled, typiclust

with epy.lazy_imports():
    import numpy as np
    import tensorflow as tf

    from simclrv2_tf import datasets
    from simclrv2_tf.datasets import splits
    from simclrv2_tf.metrics import representations
    from simclrv2_tf.report.page import pictures, suggestions

if TYPE_CHECKING:
    from simclrv2_tf.datasets import Split
    from simclrv2_tf.export import Model

# `file` and `label` are the columns of a table of labels, so the filled-in table is one.
HEADER = ("rank", "file", "label", "cluster", "cluster_size", "typicality")
_MOST_SHOWN = 1_000  # thumbnails on the page
_SIDE = 96  # of a thumbnail, in pixels


class SuggestError(UserError):
    """Raised for suggestions that cannot run as requested."""


def run(args: argparse.Namespace) -> None:
    """Runs the command line.

    Raises:
        SuggestError, PackageError, PredictError, LabelledError, ModelError, DatasetError: it cannot
        run; nothing is written.
    """
    typiclust.check_installed()
    args.model = hugging_face.local(args.model)
    table, shown = _targets(args.output)
    predict.check_targets((table, shown), args.overwrite)
    model = load_model(args.model, encoder=True)
    predict.check_model(model, args)
    predict.check_endpoint(model, args.endpoint)
    images = _opened(args.images, model)
    known = labelled.find(args.labelled, args.model)
    inside, others = known.divided(args.images, images.labels()[0].tolist())
    paths, x = _embedded(model, images, args)
    if len(paths) < images.num_examples:
        print(f"{images.num_examples - len(paths):,} unreadable image(s) were skipped.")
    inside &= {*paths}
    has_label = np.array([path in inside for path in paths], bool)
    if others:
        _, outside = _embedded(model, _opened(known.root, model).subset(others), args)
        x = np.concatenate([x, outside])
        has_label = np.concatenate([has_label, np.ones(len(outside), bool)])
    labels = int(has_label.sum())
    if labels:
        print(
            f"Already labelled: {len(inside):,} of the images, and {labels - len(inside):,} others."
        )
    if len(inside) == len(paths):
        raise SuggestError(
            f"`images` must hold an image without a label. Received: images={args.images}, whose "
            f"{len(paths):,} images all have one"
        )
    chosen = typiclust.choose(x, has_label, args.count, args.seed)
    if not chosen:
        raise SuggestError(
            "`images` must hold an image that differs from those with a label. "
            f"Received: images={args.images}"
        )
    found = suggestions.Suggestions(
        model=args.model,
        images=args.images,
        table=table,
        asked=args.count,
        readable=len(paths),
        labelled=labels,
        files=[paths[choice.row] for choice in chosen],
        clusters=[choice.cluster + 1 for choice in chosen],
        sizes=[choice.size for choice in chosen],
        typicality=[choice.typicality for choice in chosen],
        thumbnails=_thumbnails(
            images, [paths[choice.row] for choice in chosen[:_MOST_SHOWN]], args.batch_size
        ),
    )
    now = datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    text = suggestions.html(found, now)
    files.write_text(_followed(table), _csv(found))
    files.write_text(_followed(shown), text)
    if found.left_over:
        print(found.left_over)
    print(f"Wrote {len(chosen):,} images to label to {table}, with a page in {shown}", flush=True)


def _targets(output: str) -> tuple[str, str]:
    """Returns the paths of the table and of the page alongside."""
    if not output.endswith(".csv"):
        raise SuggestError(f"`output` must end in .csv. Received: {output=!s}")
    return output, output.removesuffix(".csv") + ".html"


def _followed(path: str) -> epath.Path:
    """Returns the target of a link, so that writing keeps the link."""
    return epath.Path(os.path.realpath(path))


def _opened(folder: str, model: Model) -> Split:
    return datasets.open_images(folder, value_range=model.value_range, channels=model.channels)


def _embedded(
    model: Model, images: Split, args: argparse.Namespace
) -> tuple[list[str], np.ndarray]:
    """Returns paths of the readable images, and their unit-length representations (n, d) float32.

    Raises:
        SuggestError: no image can be read.
    """
    paths: list[str] = []
    # Filled in place: a list of batches would need twice the memory.
    x = np.zeros((0, 0), np.float32)
    for names, found in predict.outputs(model, images, [args.endpoint], args, quiet=True):
        rows = found[args.endpoint].reshape(len(names), -1)
        if not len(x):
            x = np.empty((images.num_examples, rows.shape[1]), np.float32)
        x[len(paths) : len(paths) + len(names)] = representations.unit_rows(rows, np.float32)
        paths += names
    if not paths:
        raise SuggestError(f"`images` must hold a readable image. Received: {images.name}")
    return paths, x[: len(paths)]


def _thumbnails(images: Split, wanted: Sequence[str], batch: int) -> np.ndarray:
    """Makes thumbnails (n, S, S, 1 or 3) uint8 of whole images, in the order of `wanted`."""

    @splits.as_is
    def whole(example):
        small = tf.image.resize_with_pad(example["image"], _SIDE, _SIDE, antialias=True)
        return example["id"], small / 255

    found = {}
    for names, small in images.subset(wanted).examples().map(whole).batch(batch):
        for name, thumbnail in zip(names.numpy(), pictures.thumbnails(small.numpy()), strict=True):
            found[name.decode()] = thumbnail
    return np.stack([found[path] for path in wanted])


def _csv(found: suggestions.Suggestions) -> str:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(HEADER)
    columns = found.files, found.clusters, found.sizes, found.typicality
    for rank, (file, cluster, size, typical) in enumerate(zip(*columns, strict=True), start=1):
        rows.writerow([rank, file, "", cluster, size, f"{typical:.4g}"])
    return text.getvalue()


def _seed(text: str) -> int:
    """Reads a seed for scikit-learn."""
    if not 0 <= (seed := int(text)) < 2**32:
        raise argparse.ArgumentTypeError(f"must be in [0, 2^32). Received: {text}")
    return seed


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m simclrv2_tf.suggest",
        description="Suggest images to label next: typical and diverse ones, from clusters of "
        "their representations (TypiClust, arXiv 2202.02794). Needs scikit-learn: "
        "pip install 'simclrv2-tf[suggest]'.",
        allow_abbrev=False,
    )
    model = "a run's folder, a SavedModel's folder or tar.gz, or a .keras, .onnx or .tflite file"
    known = (
        "images that already have labels: the folder of a run that learned from labels, a folder "
        "of labelled images, or none (default: the labels that the model's run learned "
        "from)"
    )
    size = "side in pixels to crop and scale images to (default: as in training)"
    default = "(default: %(default)s)"
    table = f"table of the images, to fill in; a page alongside shows them {default}"
    add = parser.add_argument
    home = os.path.expanduser
    add("--model", required=True, metavar="PATH", help=model)
    add("--images", type=home, required=True, metavar="PATH", help="a folder")
    add("--count", type=at_least_1, default=100, metavar="N", help=f"images to suggest {default}")
    add("--labelled", type=home, metavar="PATH", help=known)
    add("--output", type=home, default="suggestions.csv", metavar="CSV", help=table)
    add("--seed", type=_seed, default=0, metavar="N", help=f"seed of the clusters {default}")
    add(
        "--endpoint",
        default="representation",
        metavar="NAME",
        help=f"endpoint to cluster {default}",
    )
    add("--image_size", type=at_least_1, metavar="S", help=size)
    add("--batch_size", type=at_least_1, default=64, metavar="B", help=default)
    add("--overwrite", action="store_true", help="replace existing files")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command line; returns the exit status: 0, or 2 for bad input."""
    args = _parser().parse_args(argv)
    environment.start()
    return exit_status(lambda: run(args), os_error=2)
