"""TF1-format checkpoints as the released code would have written them, from networks of ours."""

import pathlib

import numpy as np
import tensorflow as tf

from simclrv2_tf.official import naming


def as_reference(**networks) -> dict[str, np.ndarray]:
    """Weights of our models under the reference's TF1 names, counted as its code creates them."""
    scopes = {
        "encoder": ("base_model", naming._encoder_places),
        "head": ("head_contrastive", naming._head_places),
        "classifier": ("head_supervised/linear_layer", naming._classifier_places),
    }
    found = {}
    for part, model in networks.items():
        scope, places = scopes[part]
        for key, variable in places(model).items():
            if part == "classifier":
                name = f"dense/{key}"
            else:
                kind, count, slot = key
                layer = f"nl_{count}/{kind}" if part == "head" else kind
                numbered = f"_{count}" if part == "encoder" and count else ""
                name = f"{layer}{numbered}/{slot}"
            found[f"{scope}/{name}"] = variable.numpy()
    return found


def write_tf1(folder: pathlib.Path, values: dict[str, np.ndarray]) -> str:
    """A TF1-format checkpoint: names and tensors, with no graph of objects."""
    folder.mkdir(parents=True)
    prefix = str(folder / "model.ckpt-7")
    tf.raw_ops.SaveV2(
        prefix=prefix,
        tensor_names=list(values),
        shape_and_slices=[""] * len(values),
        tensors=list(values.values()),
    )
    (folder / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-7"\n')
    return prefix
