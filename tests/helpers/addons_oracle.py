"""Blurs images with tensorflow-addons: `python addons_oracle.py INPUTS.npz OUTPUTS.npz`.

A separate program: tensorflow-addons needs Keras 2 for `tf.keras`, which is set for a whole
process. INPUTS has `NAME/images` (B, H, W, 3), `NAME/window` and `NAME/sigmas` (B,) for every NAME;
OUTPUTS has NAME's blurred images.
"""

import importlib
import os
import sys

import numpy as np


def import_addons():
    os.environ["TF_USE_LEGACY_KERAS"] = "1"  # before TensorFlow is imported
    # The archived package imports Keras 2's internals from modules that Keras 3 has replaced.
    for module in ("engine", "engine.keras_tensor", "utils.tf_utils"):
        sys.modules[f"keras.src.{module}"] = importlib.import_module(f"tf_keras.src.{module}")
    return importlib.import_module("tensorflow_addons")


def main(inputs, outputs):
    tfa = import_addons()
    with np.load(inputs) as file:
        arrays = dict(file)
    blurred = {}
    for name in {key.rpartition("/")[0] for key in arrays}:
        window, sigmas = int(arrays[f"{name}/window"]), arrays[f"{name}/sigmas"].tolist()
        # In double precision, so that a difference is ours; and one by one, as it has one sigma for
        # all of a batch.
        images = arrays[f"{name}/images"].astype(np.float64)
        blurred[name] = np.stack(
            [
                tfa.image.gaussian_filter2d(image, window, sigma, padding="CONSTANT").numpy()
                for image, sigma in zip(images, sigmas, strict=True)
            ]
        )
    np.savez(outputs, **blurred)


if __name__ == "__main__":
    main(*sys.argv[1:])
