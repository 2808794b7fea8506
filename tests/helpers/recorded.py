"""Networks whose weights and outputs are recorded from the reference."""

import numpy as np

from helpers import oracle
from simclrv2_tf import heads, official, resnet


def networks(recorded):
    """Encoder, head and classifier of the recorded options, at random weights."""
    encoder = resnet.resnet(
        depth=int(recorded["depth"]),
        width_multiplier=float(recorded["width"]),
        sk_ratio=float(recorded["sk_ratio"]),
        se_ratio=float(recorded["se_ratio"]),
        image_size=int(recorded["image_size"]),
    )
    width = encoder.output_shape[-1]
    head = heads.projection_head(
        width, int(recorded["num_proj_layers"]), int(recorded["proj_out_dim"])
    )
    classifier = heads.classifier(width, int(recorded["num_classes"]))
    return encoder, head, classifier


def loaded(recorded):
    """The same at the recorded weights."""
    models = networks(recorded)
    official.load_weights(oracle.numbered(recorded, "weights"), *models)
    return models


def assert_close(got, expected, relative, noise=0.0, name=""):
    error = np.max(np.abs(np.asarray(got) - expected))
    bound = max(relative * np.max(np.abs(expected)), 10 * noise)
    assert error <= bound, f"{name}: off by {error}, allowed {bound}"


def gradients_and_statistics(recorded, models):
    """What a training pass must give by path, and how far rounding moves it.

    They travel through `load_weights` into `models`, which are changed, so that the comparison
    needs no second mapping of names.
    """
    noises = {}
    for kind in ("grads", "after_step"):
        for key in recorded:
            if key.startswith(f"noise/{kind}/"):
                noises[key.split("/", 3)[3]] = float(recorded[key])
    names = {**oracle.numbered(recorded, "grads"), **oracle.numbered(recorded, "after_step")}
    assert set(names) == set(oracle.numbered(recorded, "weights"))
    official.load_weights(names, *models)
    expected = {v.path: np.array(v) for model in models for v in model.weights}
    official.load_weights({k: np.full(v.shape, noises[k]) for k, v in names.items()}, *models)
    allowed = {v.path: float(np.max(np.array(v))) for model in models for v in model.weights}
    return expected, allowed
