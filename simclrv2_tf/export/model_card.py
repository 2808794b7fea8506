"""The model card of an exported network: origin, accuracy and use."""

import os
from collections.abc import Mapping, Sequence

from simclrv2_tf import channels as channels_lib
from simclrv2_tf import hugging_face
from simclrv2_tf.contents import IMAGE_CLASSIFIER, KERAS_FILES
from simclrv2_tf.tables import table

CARD = "README.md"
_MOST_CLASSES = 20

_METRICS = {
    "label_top_1_accuracy": "top-1 accuracy",
    "label_top_5_accuracy": "top-5 accuracy",
    "loss": "cross-entropy",
    "expected_calibration_error": "expected calibration error",
    "contrast_accuracy": "contrastive accuracy",
    "contrast_loss": "contrastive loss",
}


def public(path: str) -> str:
    """Returns a path, or `folder:PATH`, for cards: absolute paths lose this machine's folders.

    A local copy of a repository on the Hugging Face Hub has its name on the Hub.
    """
    if "://" in path:
        return path
    if name := hugging_face.name_of(path):
        return name
    kind, colon, place = path.rpartition(":")
    if os.path.isabs(os.path.expanduser(place)):
        place = os.path.basename(place.rstrip("/"))
    return kind + colon + place


def model_card(
    title: str,
    about: Mapping[str, str],
    measured: Mapping[str, float],
    measured_on: str,
    licence: str,
    image_size: int,
    class_names: Sequence[str],
    output: str,
    antialias: bool = False,
    channels: int = channels_lib.RGB,
) -> str:
    """Returns the card's text, in Markdown.

    Args:
        title: Description of the network, in one line.
        about: Rows of the first table: data, recipe, and so on.
        measured: Metrics by the names of `result.json`; a card shows some of them.
        measured_on: The images on which they were measured.
        licence: A sentence about the licence.
        image_size: Side of the training images, in pixels.
        class_names: (C,) in the order of the logits; empty if unknown or without a classifier.
        output: Its output: "logits" or "representation".
        antialias: Whether the training images were resized with antialiasing.
        channels: Channels of the images.
    """
    shown = {text: f"{measured[name]:.4f}" for name, text in _METRICS.items() if name in measured}
    result = (
        f"Measured on {measured_on}:\n\n{table(['', ''], [*shown.items()])}"
        if shown
        else "Not evaluated."
    )
    file = IMAGE_CLASSIFIER if output == "logits" else KERAS_FILES[0]
    resized = "with antialiasing above twice that size" if antialias else "without antialiasing"
    classes = ""
    if class_names:
        names = ", ".join(class_names[:_MOST_CLASSES])
        more = len(class_names) - _MOST_CLASSES
        classes = f"\n\nClasses ({len(class_names)}): {names}" + f" and {more} more" * (more > 0)
        classes += ". `labels.txt` has all of them, in the order of the logits."
    return f"""# {title}

{table(("", ""), [*about.items()])}{classes}

## Accuracy

{result}

## Usage

Images are float32 in [0, 1], {channels_lib.in_words(channels)}, \
(batch, height, width, {channels}); the network was trained with {image_size} x \
{image_size} pixels, resized by bicubic interpolation {resized}.

The SavedModel (`hub/`, written by `--export_formats=saved_model`) needs no other code:

```python
import tensorflow_hub as hub  # or tf.saved_model.load

module = hub.load(path)
{output} = module(images)
endpoints = module.signatures["serving_default"](images)  # a dict of every layer's output
```

The `.keras` file:

```python
import keras
import simclrv2_tf.resnet, simclrv2_tf.heads  # register the layers

model = keras.saving.load_model("{file}")
{output} = model(images)
```

The SavedModel can be fine-tuned: gradients reach `module.trainable_variables`, and
`module(images, training=True)` updates batch norm. In Keras 3:
`keras.layers.TFSMLayer(path, call_endpoint="infer", call_training_endpoint="train")`.

## Licence

{licence}
"""
