"""Teachers for distillation: a labelled run, a Keras model or a SavedModel, as a function."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf
from etils import epath

from simclrv2_tf import official, options, run_options
from simclrv2_tf.channels import RGB
from simclrv2_tf.contents import Contents
from simclrv2_tf.errors import raised_as
from simclrv2_tf.export import load_model
from simclrv2_tf.export.model import class_names
from simclrv2_tf.network_options import NetworksOptions
from simclrv2_tf.networks import build_networks
from simclrv2_tf.weights import sources
from simclrv2_tf.weights.readers import CheckpointError


@dataclasses.dataclass(frozen=True)
class Teacher:
    """A trained classifier, only for inference.

    Attributes:
        predict: `predict(images, training=False)` maps images (b, S, S, channels) in [0, 1] to
            logits (b, C).
        num_classes: C.
        models: The networks of a run's teacher, in order; empty for other teachers.
        class_names: (C,) in the order of the logits; empty unless a labels.txt names C classes.
        channels: Channels of the images.
    """

    predict: Callable
    num_classes: int
    models: Sequence[keras.Model] = ()
    class_names: tuple[str, ...] = ()
    channels: int = RGB


def options_of(path: str) -> Mapping[str, Any]:
    """Returns the options of the run that a teacher belongs to; empty if there is none.

    Args:
        path: As for `load`: the run's folder, a `.keras` file in it, or its SavedModel hub/STEP.
    """
    folder = run_options.run_folder(path)
    return _read_options(folder) if folder else {}


def load(path: str, resnet: Callable | None = None) -> Teacher:
    """Loads the teacher at `path`, a run's networks in the current Keras dtype policy.

    Args:
        path: The folder of a run with a classifier, or of imported weights of the reference; a
            `.keras` file of a model from images to logits, such as a run's
            `image_classifier.keras`; or a SavedModel of `export.export`, or of such a model.
        resnet: Replacement of `resnet.resnet`, for the networks of a run.

    Raises:
        CheckpointError: there is no teacher, or it does not map images to logits.
        ModelError: the file or the SavedModel cannot be read.
    """
    contents = Contents(path)
    if problem := run_options.whole_run(path, "teacher"):
        raise CheckpointError(problem)
    if contents.kind == "run":
        return _from_run(path, resnet)
    if contents.kind == "saved model":
        return _from_saved_model(path)
    file = path if contents.kind == "file" and contents.keras_files else contents.image_classifier
    if file is not None:
        return _from_keras(str(file))
    raise CheckpointError(
        "`teacher` must be the folder of a labelled run, a .keras file or a SavedModel's folder. "
        f"Received: teacher={path}, which is none of these.{_import_advice(path)}"
    )


def _import_advice(path: str) -> str:
    """Returns advice to import weights of the reference."""
    found, model = official.resolve(path)
    try:
        if model is None:
            official.infer(official.Variables(found).shapes)
    except official.OfficialError:
        return ""
    return (
        " It holds weights of the reference, which do not record the layer that feeds the "
        f"classifier: import them with python -m simclrv2_tf.official --source={path} "
        "--output=FOLDER first."
    )


def _teacher(
    predict: Callable, num_classes: int, names: tuple[str, ...], channels: int, models=()
) -> Teacher:
    # Alongside a run's encoder.keras, labels.txt names the classifier's outputs.
    named = names if len(names) == num_classes else ()
    return Teacher(predict, num_classes, models, named, channels)


def _read_options(folder: epath.Path) -> dict[str, Any]:
    with _options_are_read(str(folder)):
        return run_options.read(folder)


def _options_are_read(path: str):
    rule = "`teacher` must be a run whose options can be read"
    return raised_as(CheckpointError, rule, f"Received: teacher={path}")


def _from_run(path: str, resnet: Callable | None) -> Teacher:
    held = _read_options(epath.Path(path))
    with _options_are_read(path):
        known = {name: held[name] for name in options.of(NetworksOptions) if name in held}
        config = NetworksOptions(**known)
        image_size, seed, train_mode = (held[n] for n in ("image_size", "seed", "train_mode"))
    kernel = sources.shapes(path).get("classifier/kernel")
    if kernel is None:
        raise CheckpointError(
            "`teacher` must be a run with a classifier, such as one of train_mode finetune. "
            f"Received: teacher={path}, with train_mode {train_mode}, which has none."
        )
    networks = build_networks(
        config,
        kernel[-1],
        image_size=image_size,
        seed=seed,
        channels=held.get("channels", RGB),
        resnet=resnet,
    )
    models = networks.leading_to("logits")
    sources.load(path, models)
    names = class_names(epath.Path(path))
    return _teacher(networks.image_classifier(), kernel[-1], names, networks.channels, models)


def _from_keras(path: str) -> Teacher:
    read = load_model(path, option="teacher")
    model = read.loaded
    shapes = getattr(model, "input_shape", None), getattr(model, "output_shape", None)
    if [len(shape) if isinstance(shape, tuple) else 0 for shape in shapes] != [4, 2]:
        raise CheckpointError(
            "`teacher` must map images (B, H, W, channels) to logits (B, C); a run's "
            f"image_classifier.keras does. Received: teacher={path}, which maps "
            f"{shapes[0]} to {shapes[1]}"
        )
    return _teacher(model, model.output_shape[-1], read.class_names, read.channels)


def _from_saved_model(path: str) -> Teacher:
    read = load_model(path, option="teacher")
    module, names = read.loaded, read.class_names or class_names(epath.Path(path))
    signatures = getattr(module, "signatures", {})
    signature = signatures.get("logits")
    if signature and signature.structured_outputs["logits"].shape[-1]:

        def predict(images, training=False):
            if training:
                raise ValueError("A teacher is for inference. Received: training=True")
            return signature(images=tf.cast(images, tf.float32))["logits"]

        # The signature does not keep the variables alive.
        predict.module = module  # type: ignore[attr-defined]
        classes = signature.structured_outputs["logits"].shape[-1]
        return _teacher(predict, classes, names, read.channels)
    try:
        probe = module(tf.zeros((1, 32, 32, RGB)), training=False) if callable(module) else None
    except (TypeError, ValueError):  # the module takes other arguments
        probe = None
    if probe is not None and getattr(probe, "ndim", 0) == 2:
        return _teacher(module, probe.shape[-1], names, RGB)
    raise CheckpointError(
        "`teacher` must be a SavedModel with a signature `logits`, or one that maps images to "
        f"logits (B, C) when called. Received: teacher={path}, with the signatures "
        f"{sorted(signatures)}.{_import_advice(path)}"
    )
