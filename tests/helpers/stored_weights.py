"""The same networks as every kind of weights that a path may lead to."""

import functools

import keras
import numpy as np

from simclrv2_tf import heads, resnet, weights
from simclrv2_tf.export import export

ALL = ("encoder", "head", "classifier")
KINDS = ("run", "checkpoint", "files", "pretraining's files", "file", "saved model")


@functools.cache
def built(width, num_classes, channels):
    encoder = resnet.resnet(10, width, image_size=8, blocks=(1, 1), channels=channels)
    head = heads.projection_head(encoder.output_shape[-1], 2, 8)
    classifier = heads.classifier(head.outputs[1].shape[-1], num_classes)
    return dict(zip(ALL, (encoder, head, classifier), strict=True))


def networks(seed=0, width=1 / 16, num_classes=3, channels=3):
    """Networks that differ in every weight with `seed`; built once, so use one seed at a time."""
    models = built(width, num_classes, channels)
    rng = np.random.default_rng(seed)
    for model in models.values():
        model.set_weights([rng.random(v.shape, np.float32) for v in model.weights])
    return models


def values(models):
    return {v.path: v.numpy() for model in models.values() for v in model.weights}


def save_files(directory, models):
    directory.mkdir(parents=True, exist_ok=True)
    for name, model in models.items():
        model.save(directory / f"{name}.keras")


def save_checkpoint(directory, models):
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    optimizer.build(models["encoder"].trainable_variables)
    variables = [v for model in models.values() for v in model.weights]
    store = weights.Checkpoints(str(directory), weights.named(variables, optimizer), keep=1)
    return store.save(3)


def write(kind, directory, models):
    """Saves `models` as `kind`; returns the path to give."""
    if kind == "run":
        save_checkpoint(directory / "checkpoints", models)
    elif kind == "checkpoint":
        return save_checkpoint(directory, models)
    elif kind == "files":
        save_files(directory, models)
    elif kind == "pretraining's files":
        save_files(directory / "pretrain", models)
    elif kind == "file":
        save_files(directory, models)
        return str(directory / "encoder.keras")
    else:
        layer = 1 if "head" in models and "classifier" in models else 0
        export(str(directory), *(models.get(name) for name in ALL), classifier_layer=layer)
    return str(directory)


def write_all(root):
    """Values of some networks by path, and paths by kind."""
    models = networks()
    return values(models), {kind: write(kind, root / kind, models) for kind in KINDS}
