"""TF1-format checkpoints as the released code would have written them, from networks of ours."""

import pathlib

import keras
import numpy as np
import tensorflow as tf

from simclrv2_tf.official import naming

SCOPES = {
    "encoder": "base_model",
    "head": "head_contrastive",
    "classifier": "head_supervised/linear_layer",
}


def reference_names(**networks) -> dict[str, keras.Variable]:
    """Variables of our models under the reference's TF1 names, counted as its code makes them."""
    found = {}
    for (part, key), variable in naming.places(**networks).items():
        if part == "classifier":
            name = f"dense/{key}"
        else:
            kind, count, slot = key
            layer = f"nl_{count}/{kind}" if part == "head" else kind
            numbered = f"_{count}" if part == "encoder" and count else ""
            name = f"{layer}{numbered}/{slot}"
        found[f"{SCOPES[part]}/{name}"] = variable
    return found


def as_reference(**networks) -> dict[str, np.ndarray]:
    """The values of `reference_names`."""
    return {name: variable.numpy() for name, variable in reference_names(**networks).items()}


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
