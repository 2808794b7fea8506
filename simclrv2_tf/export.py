"""Reusable SavedModels for TF Hub: named endpoints, and a callable that can be fine-tuned."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence

import keras
import tensorflow as tf

from simclrv2_tf import heads, resnet

LABELS_FILE = "labels.txt"
INPUTS_FILE = "inputs.json"
_IMAGES = tf.TensorSpec((None, None, None, 3), tf.float32, "images")


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
      such as "classifier/kernel", from which `checkpoints.load` fills a network;
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
    if classifier is not None and head is None and classifier_layer != 0:
        raise ValueError(
            "`classifier_layer` must be 0 without a head. "
            f"Received: classifier_layer={classifier_layer}"
        )
    num_classes = 0 if classifier is None else classifier.output_shape[-1]
    if class_names and len(class_names) != num_classes:
        raise ValueError(
            f"`class_names` must name the {num_classes} classes. Received: {len(class_names)} names"
        )
    output = output or ("representation" if classifier is None else "logits")
    features = resnet.features(encoder)

    def endpoints(images, training):
        outputs = dict(features(images, training=training))
        hiddens = [outputs["representation"]]
        if head is not None:
            hiddens = head(outputs["representation"], training=training)
            outputs |= {f"projection{k}": hidden for k, hidden in enumerate(hiddens[1:-1], start=1)}
            outputs["projection"] = hiddens[-1]
        if classifier is not None:
            outputs["logits"] = classifier(hiddens[classifier_layer], training=training)
        return outputs

    encoder_names = resnet.endpoints(encoder)
    names = [*encoder_names]
    if head is not None:
        names += [f"projection{k}" for k in range(1, len(head.outputs) - 1)] + ["projection"]
    names += ["logits"] * (classifier is not None)
    if output not in names:
        raise ValueError(f"`output` must be one of {names}. Received: output={output!r}")
    # Concrete functions: what calls them while the module is saved does not trace them again.
    infer = _traced(lambda images: endpoints(images, training=False))

    def signature(*selected):
        def select(images):
            outputs = infer(images)  # what is left out is pruned when it runs
            return {name: outputs[name] for name in selected}

        return tf.function(select, [_IMAGES], autograph=False)

    # What is called depends on no more than it has to: training the representation must not move
    # the head's statistics.
    if output == "logits" and classifier_layer:
        called = [encoder, heads.up_to(head, classifier_layer), classifier]
    elif output == "logits":
        called = [encoder, classifier]
    elif output.startswith("projection"):
        called = [encoder, heads.up_to(head, int(output.removeprefix("projection") or -1))]
    else:
        called = [keras.Model(encoder.input, encoder.get_layer(output).output)]

    def apply(images):
        for model in called:
            images = model(images, training=True)
        return images

    train = _traced(apply)

    @tf.function(autograph=False)
    def call(images, training=False):
        return train(images) if training else infer(images)[output]

    for training in (False, True):
        call.get_concrete_function(_IMAGES, training=training)
    # Plain variables: Keras models in the object graph would bring Keras's own saving along.
    weights = [
        v for model in (encoder, head, classifier) if model is not None for v in model.weights
    ]
    module = tf.train.Checkpoint(
        variables=[v.value for v in weights],
        trainable_variables=[v.value for m in called for v in m.weights if v.trainable],
        regularization_losses=[],
        weights={v.path: v.value for v in weights},
        infer=tf.function(lambda images: infer(images)[output], [_IMAGES], autograph=False),
        train=tf.function(lambda images: train(images), [_IMAGES], autograph=False),
    )
    module.__call__ = call
    with tempfile.TemporaryDirectory() as folder:
        files = {
            LABELS_FILE: "".join(f"{name}\n" for name in class_names),
            INPUTS_FILE: image_size and inputs_json(image_size),
        }
        for name, text in files.items():
            if text:
                file = os.path.join(folder, name)
                with open(file, "w", encoding="utf-8") as opened:
                    opened.write(text)
                setattr(module, name.split(".")[0], tf.saved_model.Asset(file))
        tf.saved_model.save(
            module,
            path,
            signatures={
                "serving_default": signature(*names),
                "features": signature(*encoder_names),
                "representation": signature("representation"),
                **{name: signature(name) for name in names if name not in encoder_names},
            },
        )


def inputs_json(image_size: int) -> str:
    """What `inputs.json` says of the images: how to crop and scale them as in evaluation."""
    return json.dumps({"image_size": image_size, "range": [0, 1], "channels": "RGB"}) + "\n"


def _traced(function):
    return tf.function(function, autograph=False).get_concrete_function(_IMAGES)
