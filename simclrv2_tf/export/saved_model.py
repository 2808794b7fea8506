"""Reusable SavedModels for TF Hub: named endpoints, and a callable that can be fine-tuned."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence

from etils import epath, epy

from simclrv2_tf.export import endpoints
from simclrv2_tf.export.model import INPUTS_FILE, LABELS_FILE, Model, inputs_json, labels_txt

with epy.lazy_imports():
    import keras
    import tensorflow as tf

    from simclrv2_tf import resnet


def export(
    path: str,
    encoder: keras.Model,
    head: keras.Model | None = None,
    classifier: keras.Model | None = None,
    classifier_layer: int = 0,
    output: str | None = None,
    image_size: int | None = None,
    class_names: Sequence[str] = (),
) -> None:
    """Writes a SavedModel that `hub.load` and `tf.saved_model.load` read without this package.

    Images are (B, H, W, 3) float32 in [0, 1], of any batch size, height and width that the
    network can take. The loaded object has

    * `__call__(images, training=False)`: the endpoint named by `output`, differentiable; with
      training=True batch norm uses and updates its statistics;
    * `infer(images)` and `train(images)`, the same as two functions, as
      `keras.layers.TFSMLayer` wants them;
    * `variables`, all of them; `trainable_variables`, those that `output` depends on;
      `regularization_losses`, empty; `weights`, the same variables as a dict by variable path,
      such as "classifier/kernel", from which `weights.load` fills a network;
    * `signatures`: "serving_default" gives a dict of all endpoints, each of these its own (where
      the model is there): "representation"; "projection1", "projection2", ..., what the hidden
      layers of the head give; "projection", the embedding; "logits". "features" gives those of
      the encoder, from "stem" (B, h, w, c) to "representation" (B, f).

    Files that say how to use it are among its assets: `labels.txt`, a class name in each line, and
    `inputs.json` with the side of its images in pixels, each where it is known.

    `keras.Model.export` is not used: what it writes has frozen batch norm and cannot be called.

    Args:
        path: Folder to write, which must not exist or be empty.
        encoder: A model of `resnet.resnet`.
        head: A model of `heads.projection_head`: gives "projection" (B, d).
        classifier: From features (B, w) to "logits" (B, C).
        classifier_layer: Which hidden of the head feeds the classifier; 0 is the representation.
        output: What calling the object returns: an endpoint's name. By default "logits" with a
            classifier, else "representation".
        image_size: Side of the images it was trained with, in pixels.
        class_names: (C,) what its logits stand for.

    Raises:
        ValueError: `classifier_layer` is not 0 without a head, `output` is not an endpoint, or
            there are not as many names as classes.
    """
    names = endpoints.checked_names(encoder, head, classifier, classifier_layer, class_names)
    output = output or ("representation" if classifier is None else "logits")
    if output not in names:
        raise ValueError(f"`output` must be one of {names}. Received: output={output!r}")
    # Concrete functions: what calls them while the module is saved does not trace them again.
    infer = _traced(endpoints.outputs(encoder, head, classifier, classifier_layer))
    called = endpoints.models_to(output, encoder, head, classifier, classifier_layer)

    def apply(images):
        for model in called:
            images = model(images, training=True)
        return images

    train = _traced(apply)

    @tf.function(autograph=False)
    def call(images, training=False):
        return train(images) if training else infer(images)[output]

    def signature(*selected):
        def select(images):
            outputs = infer(images)  # what is left out is pruned when it runs
            return {name: outputs[name] for name in selected}

        return tf.function(select, [_images()], autograph=False)

    for training in (False, True):
        call.get_concrete_function(_images(), training=training)
    # Plain variables: Keras models in the object graph would bring Keras's own saving along.
    models = [model for model in (encoder, head, classifier) if model is not None]
    weights = [v for model in models for v in model.weights]
    module = tf.train.Checkpoint(
        variables=[v.value for v in weights],
        trainable_variables=[v.value for m in called for v in m.weights if v.trainable],
        regularization_losses=[],
        weights={v.path: v.value for v in weights},
        infer=tf.function(lambda images: infer(images)[output], [_images()], autograph=False),
        train=tf.function(lambda images: train(images), [_images()], autograph=False),
    )
    module.__call__ = call
    signatures = {
        "serving_default": signature(*names),
        "features": signature(*resnet.endpoints(encoder)),
        "representation": signature("representation"),
        **{name: signature(name) for name in names if name not in resnet.endpoints(encoder)},
    }
    with tempfile.TemporaryDirectory() as folder:
        files = {
            LABELS_FILE: labels_txt(class_names),
            INPUTS_FILE: inputs_json(image_size) if image_size else "",
        }
        for name, text in files.items():
            if text:
                file = epath.Path(folder) / name
                file.write_text(text)
                setattr(module, file.stem, tf.saved_model.Asset(str(file)))
        tf.saved_model.save(module, path, signatures=signatures)


def read(path: epath.Path) -> Model:
    """Reads a SavedModel; its endpoints are the outputs of its signature "serving_default"."""
    module = tf.saved_model.load(str(path))
    signatures = getattr(module, "signatures", {})
    together = signatures.get("serving_default")

    def outputs(images, names):
        found = {}
        for name in names:
            # The endpoint's own signature computes, and hands over, no more than the endpoint.
            signature = signatures.get(name, together)
            found[name] = signature(images=tf.constant(images))[name].numpy()
        return found

    names = together.structured_outputs if together else ()
    return Model.noted(path / "assets", names, outputs, module)


def _images() -> tf.TensorSpec:
    return tf.TensorSpec((None, None, None, 3), tf.float32, "images")


def _traced(function):
    return tf.function(function, autograph=False).get_concrete_function(_images())
