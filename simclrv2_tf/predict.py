"""Classes and embeddings of images: `python -m simclrv2_tf.predict --model=... --images=...`.

Reads whatever a run or an import leaves behind; nothing of the training is needed.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import os
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from simclrv2_tf import environment
from simclrv2_tf.config import at_least_1

if TYPE_CHECKING:
    import numpy as np

    from simclrv2_tf.datasets import Split

_EMBEDDING_FILES = (".npy", ".csv")
_OUTPUTS = {"encoder": "representation", "image_classifier": "logits"}


class PredictError(ValueError):
    """Predictions that cannot be made as asked; the message is meant for the user."""


@dataclasses.dataclass(frozen=True)
class Model:
    """An exported network.

    Attributes:
        endpoints: What it can give: "logits", "representation" and so on, as far as the file has
            them.
        outputs: Images (B, S, S, 3) float32 in [0, 1], and some of `endpoints`, to (B, ...) arrays
            by name.
        image_size: S; None where the file does not tell.
        class_names: (C,); empty where nobody knows.
    """

    endpoints: tuple[str, ...]
    outputs: Callable[[np.ndarray, Sequence[str]], Mapping[str, np.ndarray]]
    image_size: int | None
    class_names: tuple[str, ...]


def load(path: str) -> Model:
    """Loads a network from any file that `artifacts` lists.

    Args:
        path: The folder of a run or of an import, which stands for the newest SavedModel in it;
            the folder of a SavedModel or its tar.gz; a .keras, .onnx or .tflite file.

    Raises:
        PredictError: there is no such file, it cannot be read, or its runtime is not installed.
    """
    from etils import epath

    from simclrv2_tf.export import INPUTS_FILE, LABELS_FILE

    found = _find(epath.Path(path))
    read = _READERS[found.suffix] if found.is_file() else _saved_model
    try:
        endpoints, outputs, notes = read(found)
    except PredictError:
        raise
    except Exception as error:  # whatever the runtimes raise on a damaged file
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise PredictError(
            f"`model` must be readable ({reason}). Received: model={path}"
        ) from error
    labels, inputs = notes / LABELS_FILE, notes / INPUTS_FILE
    return Model(
        tuple(endpoints),
        outputs,
        json.loads(inputs.read_text())["image_size"] if inputs.exists() else None,
        tuple(labels.read_text().splitlines()) if labels.exists() else (),
    )


def _find(path):
    """The file or SavedModel folder that `path` leads to."""
    if path.is_file() and path.suffix in _READERS:
        return path
    if (path / "saved_model.pb").exists():
        return path
    modules = [module.parent for module in path.glob("hub/*/saved_model.pb")]
    modules = [module for module in modules if module.name.isdigit()]  # the others are unfinished
    if modules:
        return max(modules, key=lambda module: int(module.name))
    runs = [
        str(file.parent) for deep in ("*", "*/*") for file in path.glob(f"{deep}/encoder.keras")
    ]
    advice = f" In it there are {', '.join(sorted(runs)[:3])}." if runs else ""
    raise PredictError(
        "`model` must be a run's folder, a SavedModel's folder or tar.gz, or a .keras, .onnx or "
        f".tflite file. Received: model={path}{advice}"
    )


def _keras(path):
    import keras

    import simclrv2_tf.resnet  # noqa: F401  (Keras reads a file's layers if they are known)

    model = keras.saving.load_model(str(path), compile=False)
    if len(getattr(model, "input_shape", None) or ()) != 4:
        raise PredictError(
            "`model` must take images (B, H, W, 3), as encoder.keras and image_classifier.keras "
            f"do. Received: model={path}, which takes {model.input_shape}"
        )
    name = _name_by_file(path, model.name)
    return [name], lambda images, _: {name: model(images, training=False).numpy()}, path.parent


def _saved_model(path):
    import tensorflow as tf

    module = tf.saved_model.load(str(path))
    together = module.signatures["serving_default"]

    def outputs(images, names):
        found = {}
        for name in names:
            # Its own signature computes, and hands over, no more than that.
            signature = module.signatures[name] if name in module.signatures else together
            found[name] = signature(images=tf.constant(images))[name].numpy()
        return found

    return together.structured_outputs, outputs, path / "assets"


def _archive(path):
    from etils import epath

    folder = tempfile.TemporaryDirectory()
    with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:gz") as packed:
        packed.extractall(folder.name, filter="data")
    endpoints, outputs, notes = _saved_model(epath.Path(folder.name))
    outputs.folder = folder  # which is removed with it
    return endpoints, outputs, notes


def _onnx(path):
    try:
        import onnxruntime
    except ImportError:
        raise PredictError(
            "`model` needs the package onnxruntime, which is not installed: pip install "
            f"'simclrv2-tf[onnx]'. Received: model={path}"
        ) from None
    session = onnxruntime.InferenceSession(str(path))
    (given,), name = session.get_inputs(), _name_by_file(path)
    return [name], lambda images, _: {name: session.run(None, {given.name: images})[0]}, path.parent


def _litert(path):
    import numpy as np

    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        import tensorflow as tf

        Interpreter = tf.lite.Interpreter
    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    (given,), (made,) = interpreter.get_input_details(), interpreter.get_output_details()
    name = _name_by_file(path)
    height, width = given["shape"][1:3]

    def outputs(images, _):
        if images.shape[1:3] != (height, width):
            raise PredictError(
                f"`image_size` must be {height}, the only one that {path} takes. "
                f"Received: image_size={images.shape[1]}"
            )
        found = []
        for image in images:  # its shape is that of one
            interpreter.set_tensor(given["index"], image[None])
            interpreter.invoke()
            found.append(interpreter.get_tensor(made["index"])[0])
        return {name: np.stack(found)}

    return [name], outputs, path.parent


# Each gives the endpoints there are, `Model.outputs`, and the folder of what is known of them.
_READERS = {".keras": _keras, ".onnx": _onnx, ".tflite": _litert, ".gz": _archive}


def _name_by_file(path, model_name=""):
    """What a file of one output gives, which its name tells, or that of the model in it."""
    for stem in (path.stem, model_name):
        if stem in _OUTPUTS:
            return _OUTPUTS[stem]
    raise PredictError(
        f"`model` must be called {' or '.join(_OUTPUTS)}, as it was exported: its name tells what "
        f"it gives. Received: model={path}"
    )


def batches(
    model: Model, images: Split, endpoints: Sequence[str], image_size: int, batch_size: int
) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
    """Yields what the network makes of images, batch by batch.

    Args:
        images: Made by `datasets.open_images`.
        endpoints: Which of the model's.
        image_size: Side that they are cropped and scaled to, as in evaluation.
        batch_size: Images at once.

    Yields:
        Paths below the folder (n,), and the endpoints' arrays (n, ...) by name, of those images of
        each batch that can be read; of the others a warning is logged.
    """
    from simclrv2_tf import datasets

    paths, _ = images.labels()
    given = datasets.evaluation_batches(images, batch_size=batch_size, image_size=image_size)
    for number, (pixels, _, weight) in enumerate(given):
        readable = weight.numpy() > 0
        outputs = model.outputs(pixels.numpy(), endpoints)
        here = paths[number * batch_size : (number + 1) * batch_size]
        yield (
            here[readable[: len(here)]],
            {name: value[readable] for name, value in outputs.items()},
        )


def top_classes(logits, class_names: Sequence[str], top_k: int) -> list[list[tuple[str, float]]]:
    """The most probable classes (name, probability) of each image, the first one first.

    Args:
        logits: (n, C).
        class_names: (C,); empty: classes are called by their number.
        top_k: How many, at most C.
    """
    import numpy as np

    logits = np.asarray(logits, np.float64)
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    probabilities = exponentials / exponentials.sum(-1, keepdims=True)
    order = np.argsort(-probabilities, axis=-1, kind="stable")[:, :top_k]
    names = class_names or [str(number) for number in range(logits.shape[-1])]
    return [
        [(names[k], float(row[k])) for k in best]
        for row, best in zip(probabilities, order, strict=True)
    ]


def run(args: argparse.Namespace) -> None:
    """Carries out the command line.

    Raises:
        PredictError, DatasetError: it cannot be carried out; nothing is written.
    """
    output, embeddings_file = map(_expanded, (args.output, args.embeddings))
    if embeddings_file and not embeddings_file.endswith(_EMBEDDING_FILES):
        raise PredictError(
            "`embeddings` must end in .npy or .csv. Received: embeddings=" + embeddings_file
        )
    targets = [target for target in (output, embeddings_file) if target]
    if embeddings_file and embeddings_file.endswith(".npy"):
        targets.append(_names_file(embeddings_file))
    if len({*map(os.path.abspath, targets)}) < len(targets):
        raise PredictError(f"Each file must have a name of its own. Received: {', '.join(targets)}")
    for target in targets:
        if os.path.exists(target) and not args.overwrite:
            raise PredictError(
                f"{target} is there already. Give another name, or --overwrite to replace it."
            )
        if not os.path.isdir(os.path.dirname(target) or "."):
            raise PredictError(f"There is no folder for {target}. Make it, or give another name.")
    model = load(_expanded(args.model))
    image_size = args.image_size or model.image_size
    if image_size is None:
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

    import keras
    import numpy as np

    from simclrv2_tf import datasets

    images = datasets.open_images(args.images)
    # A progress bar redraws its line, which makes a file or a pipe unreadable.
    progress = keras.utils.Progbar(
        -(-images.num_examples // args.batch_size),
        verbose=int(bool(targets) and sys.stdout.isatty()),
    )
    paths, embeddings, rows = [], [], []
    for names, outputs in batches(model, images, wanted, image_size, args.batch_size):
        for endpoint, values in outputs.items():
            if not np.all(np.isfinite(values)):
                raise PredictError(
                    f"The model's {endpoint} is NaN or infinite for {names[0]} or an image soon "
                    f"after it. Received: model={args.model}"
                )
        paths += names.tolist()
        if args.embeddings:
            embeddings.append(outputs[args.endpoint].reshape(len(names), -1))
        if "logits" in outputs:
            classes = outputs["logits"].shape[-1]
            if model.class_names and len(model.class_names) != classes:
                raise PredictError(
                    f"labels.txt beside the model must name its {classes} classes. Received: "
                    f"{len(model.class_names)} names"
                )
            best = top_classes(outputs["logits"], model.class_names, args.top_k)
            for name, found in zip(names, best, strict=True):
                rows += [(name, rank, *one) for rank, one in enumerate(found, start=1)]
                if not targets:
                    print(name, *(f"{label} {p:.3f}" for label, p in found), sep="  ", flush=True)
        progress.add(1)
    if not paths:
        raise PredictError(f"No image of {args.images} can be read.")
    if targets and len(paths) < images.num_examples:
        print(f"{images.num_examples - len(paths):,} unreadable image(s) were skipped.", flush=True)
    if output:
        with open(output, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["file", "rank", "class", "probability"])
            writer.writerows((*row[:3], f"{row[3]:.6f}") for row in rows)
        print(f"{len(paths):,} images' classes in {output}", flush=True)
    if embeddings_file:
        _write_embeddings(embeddings_file, paths, np.concatenate(embeddings))
        print(f"{len(paths):,} embeddings in {embeddings_file}", flush=True)


def _expanded(path: str | None) -> str | None:
    return path and os.path.expanduser(path)


def _names_file(path: str) -> str:
    """Where the paths of the images go whose embeddings are in `path`."""
    return path.removesuffix(".npy") + ".txt"


def _write_embeddings(path: str, names: Sequence[str], values: np.ndarray) -> None:
    import numpy as np

    if path.endswith(".npy"):
        np.save(path, values)
        with open(_names_file(path), "w", encoding="utf-8") as file:
            file.writelines(f"{name}\n" for name in names)
        return
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["file", *range(values.shape[1])])
        writer.writerows([name, *map(str, row)] for name, row in zip(names, values, strict=True))


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
    endpoint = "what counts as the embedding, such as projection (default: %(default)s)"
    parser.add_argument("--model", required=True, metavar="PATH", help=model)
    parser.add_argument("--images", required=True, metavar="PATH", help="a folder, or one image")
    parser.add_argument("--output", metavar="CSV", help="file for the classes")
    parser.add_argument("--embeddings", metavar="FILE", help=embeddings)
    parser.add_argument("--endpoint", default="representation", metavar="NAME", help=endpoint)
    parser.add_argument(
        "--top_k", type=at_least_1, default=5, metavar="K", help="classes (default: %(default)s)"
    )
    parser.add_argument("--image_size", type=at_least_1, metavar="S", help=size)
    parser.add_argument(
        "--batch_size", type=at_least_1, default=64, metavar="B", help="(default: %(default)s)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command line; returns the exit status: 0, or 2 for bad input."""
    args = _parser().parse_args(argv)
    environment.prepare()
    from simclrv2_tf.datasets import DatasetError

    try:
        run(args)
    except (PredictError, DatasetError, OSError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
