"""The published models: 13 architectures with 5 training methods each, and distilled models.

`released.json` has the accuracies of Tables 1 and 2 of the paper (arXiv 2006.10029) and the
addresses from the README of the released code.
"""

import dataclasses
import functools
import json
import os
import pathlib

from etils import epy

with epy.lazy_imports():
    import tensorflow as tf

_FILE = pathlib.Path(__file__).with_name("released.json")


@dataclasses.dataclass(frozen=True)
class ReleasedModel:
    """A published model, trained on ImageNet at 224 pixels, with a classifier of 1,000 classes.

    Attributes:
        name: Such as "pretrained/r50_1x_sk0".
        training: "pretrained", "finetuned_1pct", "finetuned_10pct", "finetuned_100pct",
            "supervised", "distill_1pct" or "distill_10pct".
        parameters_in_millions: Parameters of its encoder with moving statistics, as in the paper.
        top_1_accuracy: Accuracy on ImageNet's validation images, in percent; for a pretrained
            model, of linear evaluation.
        ft_proj_selector: The head's layer that feeds its classifier; None if the paper does not
        give it. saved_model, tf1_checkpoint: URLs of its TF2 SavedModel and its TF1 checkpoint's
        folder.
    """

    name: str
    training: str
    resnet_depth: int
    width_multiplier: float
    sk_ratio: float
    parameters_in_millions: int
    top_1_accuracy: float
    ft_proj_selector: int | None
    saved_model: str
    tf1_checkpoint: str


@functools.cache
def released() -> dict[str, ReleasedModel]:
    """Returns all published models by name, such as "pretrained/r50_1x_sk0" or "r50_1x_sk0"."""
    data = json.loads(_FILE.read_text())
    found = {}
    for training, kind in data["trainings"].items():
        for architecture, accuracy in kind["top_1_accuracy"].items():
            spec = data["architectures"][architecture]
            path = f"{training}/{architecture}"
            found[path] = ReleasedModel(
                name=path,
                training=training,
                **spec,
                top_1_accuracy=accuracy,
                ft_proj_selector=kind["ft_proj_selector"],
                saved_model=f"{data['saved_models']}/{path}/saved_model",
                tf1_checkpoint=f"{data['tf1_checkpoints']}/{path}",
            )
            if training == "pretrained":
                found[architecture] = found[path]
    return found


def resolve(source: str) -> tuple[str, ReleasedModel | None]:
    """Returns the path of weights: `source` itself if it exists, else the released model's.

    Returns:
        The path, and the released model with this name, or None.
    """
    path = os.path.expanduser(source)
    model = released().get(source)
    if model is None or tf.io.gfile.exists(path):
        return path, None
    return model.saved_model, model
