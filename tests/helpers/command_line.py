"""Helpers of the tests that run command lines."""

import json
from pathlib import Path

import numpy as np

from helpers import small

# A network and data that take a moment.
SMALL = [
    "--resnet_depth=10",
    "--width_multiplier=0.0625",
    "--proj_out_dim=8",
    "--image_size=16",
    # By default it depends on the processor.
    "--precision=float32",
    "--train_batch_size=8",
    "--use_blur=False",
    "--learning_rate=0.1",
    "--warmup_epochs=0",
]


def result(model_dir):
    return json.loads((model_dir / "result.json").read_text())


def files(folder):
    """Everything below `folder`, with contents, to see whether anything changed."""
    return {p: p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()}


def fails(command, capsys, exports=True):
    """Runs a command that must fail for bad input; returns its one line of error."""
    assert small.run(command, exports) == 2
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1 and "Traceback" not in error, error
    return lines[0]


def keras_weights(folder, name):
    """The weights of the `.keras` file `name` of a run, as arrays."""
    import keras

    return keras.saving.load_model(folder / f"{name}.keras").get_weights()


def same(first, second):
    """Whether two lists of arrays are equal, bit for bit."""
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def change_a_weight(folder):
    """Changes a kernel in the newest checkpoint of a run, which keeps its name."""
    import tensorflow as tf

    prefix = tf.train.latest_checkpoint(str(folder / "checkpoints"))
    reader = tf.train.load_checkpoint(prefix)
    values = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
    name = next(name for name, value in values.items() if "kernel" in name and value.ndim == 4)
    values[name] = values[name] + np.float32(1e-3)
    tf.raw_ops.SaveV2(
        prefix=prefix,
        tensor_names=list(values),
        shape_and_slices=[""] * len(values),
        tensors=list(values.values()),
    )
