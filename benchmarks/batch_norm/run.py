"""Step time with our fused batch norm against Keras's layer, in the same process.

Command: python benchmarks/batch_norm/run.py (about two minutes on 2 cores)
Writes results.json to this folder: medians over interleaved steps, and their ratio.
"""

import json
import pathlib
import statistics
import time
from unittest import mock

import keras
import tensorflow as tf

from simclrv2_tf import heads, objectives, optimizers, resnet, stages
from simclrv2_tf.batch_norm import BatchNorm

STEPS = 15


class KerasBatchNorm(keras.layers.BatchNormalization):
    """Keras's layer with our arguments."""

    def __init__(self, global_statistics=True, epsilon=1e-5, **kwargs):
        super().__init__(epsilon=epsilon, **kwargs)


def make_step(layer, precision, views):
    """A compiled pretraining step whose batch norms are `layer`."""
    keras.config.set_dtype_policy(precision)
    with (
        mock.patch.object(resnet, "BatchNorm", layer),
        mock.patch.object(heads, "BatchNorm", layer),
    ):
        encoder = resnet.resnet(18, 0.25, image_size=32)
        head = heads.projection_head(encoder.output_shape[-1])
    stage = stages.Pretrainer(encoder, head, objectives.NTXent())
    optimizer = optimizers.LARS(0.1)
    stage.compile(optimizer, jit_compile=False)
    optimizer.build(stage.trainable_variables)
    data = ((views, views), tf.zeros(views.shape[0], tf.int64))
    step = tf.function(lambda: stage.train_step(data)["loss"])
    step()
    return step


def main():
    """Measures both layers in both precisions."""
    views = tf.random.uniform((128, 32, 32, 3))
    rows = []
    for precision in ("float32", "mixed_bfloat16"):
        layers = {"fused": BatchNorm, "keras": KerasBatchNorm}
        steps = {name: make_step(layer, precision, views) for name, layer in layers.items()}
        seconds = {name: [] for name in steps}
        for _ in range(STEPS):
            for name, step in steps.items():
                began = time.perf_counter()
                step().numpy()
                seconds[name].append(time.perf_counter() - began)
        medians = {name: statistics.median(values) for name, values in seconds.items()}
        rows.append(
            {
                "precision": precision,
                **{f"{name}_seconds": round(value, 4) for name, value in medians.items()},
                "keras_over_fused": round(medians["keras"] / medians["fused"], 2),
            }
        )
        print(rows[-1], flush=True)
    network = "ResNet-18 0.25x, 32 x 32, cifar stem, 256 views per step, LARS"
    result = {"network": network, "steps": STEPS, "rows": rows}
    path = pathlib.Path(__file__).with_name("results.json")
    path.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
