"""Reusable SavedModels for TF Hub: named endpoints, and a callable that can be fine-tuned."""

from __future__ import annotations

import dataclasses
import tarfile
import tempfile
from collections.abc import Iterator, Sequence

from absl import logging
from etils import epath, epy

from simclrv2_tf import checkpoint_files, sums
from simclrv2_tf.export.model import Model, notes
from simclrv2_tf.networks import Networks

with epy.lazy_imports():
    import keras
    import tensorflow as tf

    from simclrv2_tf import augment, resnet
    from simclrv2_tf.datasets import images as image_files


def export(
    path: str,
    encoder: keras.Model,
    head: keras.Model | None = None,
    classifier: keras.Model | None = None,
    classifier_layer: int = 0,
    predictor: keras.Model | None = None,
    output: str | None = None,
    image_size: int | None = None,
    class_names: Sequence[str] = (),
    antialias: bool = False,
    value_range: tuple[float, float] | None = None,
) -> None:
    """Writes a SavedModel that `hub.load` and `tf.saved_model.load` read without this package.

    Images are (B, H, W, C) float32 in [0, 1], of any batch size, height and width that the network
    supports. The loaded object has

    * `__call__(images, training=False)`: the endpoint named by `output`, differentiable; with
      training=True batch norm uses and updates its statistics;
    * `infer(images)` and `train(images)`, the same as two functions, for `keras.layers.TFSMLayer`;
    * `variables`, all variables; `trainable_variables`, the variables that `output` depends on;
      `regularization_losses`, empty; `weights`, the same variables as a dict by variable path,
      such as "classifier/kernel", from which `weights.load` fills a network;
    * `signatures`: "serving_default" returns a dict of all endpoints, and each endpoint has its own
      signature: "representation", and the endpoints of a head and a classifier
          (`Networks.endpoints`). "features" returns a dict of the encoder's endpoints, from "stem"
          (B, h, w, c) to "representation" (B, f). If `image_size` is known, "encoded_images"
          accepts JPEG, PNG, WebP, BMP and GIF files, (B,) string, decodes, crops and resizes them
          as in evaluation, and returns the same as "serving_default". For C other than 1 and 3 it
          accepts PNG files with C samples per pixel, or gray ones that stack the C bands
          vertically, (C * H, W);
    * assets with metadata, if known: `labels.txt`, one class name per line, and `inputs.json` with
      the side of its images in pixels, and how to resize them.

    `SHA256SUMS` in the folder has the checksums of all its files.

    `keras.Model.export` is not used: its SavedModel has frozen batch norm and cannot be called.

    Args:
        path: Folder to write, which must be empty or not exist.
        encoder: A model of `resnet.resnet`.
        head: A model of `heads.projection_head`: gives "projection" (B, d).
        classifier: A model from features (B, w) to "logits" (B, C).
        classifier_layer: The head's layer that feeds the classifier; 0 is the representation.
        predictor: A model of `heads.predictor`: gives "prediction" (B, d).
        output: The endpoint that calling the object returns. By default "logits" with a classifier,
            else "representation".
        image_size: Side of the training images, in pixels.
        class_names: (C,) in the order of the logits.
        antialias: Whether the training images were resized with antialiasing.
        value_range: The 16-bit samples that were black and white in the training images; None: 0
            and 65,535.

    Raises:
        ValueError: `classifier_layer` is not 0 without a head, `output` is not an endpoint, or the
            numbers of names and classes differ.
    """
    num_classes = 0 if classifier is None else classifier.output_shape[-1]
    if class_names and len(class_names) != num_classes:
        raise ValueError(
            f"`class_names` must name the {num_classes} classes. Received: {len(class_names)} names"
        )
    networks = Networks(encoder, head, classifier, classifier_layer, predictor)
    channels = networks.channels
    endpoints = networks.endpoints()
    names = list(endpoints.output)
    output = output or ("representation" if classifier is None else "logits")
    if output not in names:
        raise ValueError(f"`output` must be one of {names}. Received: output={output!r}")
    # Concrete functions, so that callers do not trace them again while the module is saved.
    infer = _traced(lambda images: endpoints(images, training=False), channels)
    called = networks.leading_to(output)

    def apply(images):
        for model in called:
            images = model(images, training=True)
        return images

    train = _traced(apply, channels)

    @tf.function(autograph=False)
    def call(images, training=False):
        return train(images) if training else infer(images)[output]

    def signature(*selected):
        def select(images):
            outputs = infer(images)  # unused outputs are pruned when it runs
            return {name: outputs[name] for name in selected}

        return tf.function(select, [_images(channels)], autograph=False)

    for training in (False, True):
        call.get_concrete_function(_images(channels), training=training)
    # Plain variables: Keras models in the object graph would add Keras's own saving.
    module = tf.train.Checkpoint(
        variables=[v.value for v in networks.weights],
        trainable_variables=[v.value for m in called for v in m.weights if v.trainable],
        regularization_losses=[],
        weights={v.path: v.value for v in networks.weights},
        infer=tf.function(
            lambda images: infer(images)[output], [_images(channels)], autograph=False
        ),
        train=tf.function(lambda images: train(images), [_images(channels)], autograph=False),
    )
    module.__call__ = call
    of_encoder = resnet.endpoints(encoder)
    signatures = {"serving_default": signature(*names), "features": signature(*of_encoder)}
    signatures |= {n: signature(n) for n in ("representation", *names[len(of_encoder) :])}
    if image_size:
        reading = image_files.Reading(value_range, channels=channels)
        prepare = _preparing(image_size, antialias, reading)
        files = tf.TensorSpec((None,), tf.string, "image_bytes")
        signatures["encoded_images"] = tf.function(
            lambda image_bytes: dict(infer(prepare(image_bytes))), [files], autograph=False
        )
    with tempfile.TemporaryDirectory() as folder:
        for name, text in notes(image_size, class_names, antialias, value_range, channels).items():
            file = epath.Path(folder) / name
            file.write_text(text)
            setattr(module, file.stem, tf.saved_model.Asset(str(file)))
        written = epath.Path(path)
        written.mkdir(parents=True, exist_ok=True)
        readable = checkpoint_files.folder_for_tensorflow(path)
        tf.saved_model.save(module, readable, signatures=signatures)
    sums.write(written, (member for member in _below(written) if not member.is_dir()))


def _preparing(image_size: int, antialias: bool, reading: image_files.Reading):
    """Returns a function that decodes files (B,) one by one into images (B, S, S, C)."""

    def one(encoded):
        image = image_files.decode(encoded, reading)
        return augment.evaluation_image(image, image_size, antialias)

    shape = tf.TensorSpec((image_size, image_size, reading.channels), tf.float32)
    return lambda encoded: tf.map_fn(one, encoded, fn_output_signature=shape)


def _images(channels: int) -> tf.TensorSpec:
    return tf.TensorSpec((None, None, None, channels), tf.float32, "images")


def _traced(function, channels):
    return tf.function(function, autograph=False).get_concrete_function(_images(channels))


def read(path: epath.Path) -> Model:
    """Reads a SavedModel; its endpoints are the outputs of its signature "serving_default".

    Warns if it is not in the folder of a run, because a SavedModel is a program.
    """
    if not (path.parent.parent / "config.json").exists():
        logging.warning(
            "%s is a SavedModel: its own graph runs. Load only those whose source you trust.", path
        )
    module = tf.saved_model.load(checkpoint_files.folder_for_tensorflow(str(path)))
    signatures = getattr(module, "signatures", {})
    together = signatures.get("serving_default")

    def outputs(images, names):
        # An endpoint's own signature does not compute the other endpoints.
        images = tf.constant(images)
        return {n: signatures.get(n, together)(images=images)[n].numpy() for n in names}

    names = together.structured_outputs if together else ()
    inputs = together.structured_input_signature[1] if together else {}
    shape = inputs["images"].shape if "images" in inputs else ()
    return Model.noted(path / "assets", names, outputs, tuple(shape), module)


def write_archive(folder: epath.Path, path: epath.Path, image_size: int) -> None:
    """Packs the contents of `folder`, without the folder itself, as TF Hub requires for URLs."""
    del image_size
    with path.open("wb") as file, tarfile.open(fileobj=file, mode="w:gz") as packed:
        for member in _below(folder):
            info = tarfile.TarInfo(str(member.relative_to(folder)))
            if member.is_dir():
                info.type, info.mode = tarfile.DIRTYPE, 0o755
                packed.addfile(info)
                continue
            info.size = tf.io.gfile.stat(str(member)).length
            with member.open("rb") as content:
                packed.addfile(info, content)


def read_archive(path: epath.Path) -> Model:
    """Reads the SavedModel in an archive."""
    folder = tempfile.TemporaryDirectory()
    with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:gz") as packed:
        packed.extractall(folder.name, filter="data")
    model = read(epath.Path(folder.name))
    # The folder is removed with the last reference to it, so not before the model.
    model.outputs.folder = folder  # type: ignore[attr-defined]
    return dataclasses.replace(model, loaded=None)


def _below(folder: epath.Path) -> Iterator[epath.Path]:
    for member in sorted(folder.iterdir()):
        yield member
        if member.is_dir():
            yield from _below(member)
