"""What a pretraining step costs: computation, activation memory, and bytes between replicas.

Command: python benchmarks/scaling/run.py (about five minutes on 2 cores; no weights are made)

Writes results.json and results.md beside itself, for the 13 networks of SimCLRv2's Table 1
(arXiv 2006.10029) at 224 pixels and a batch of 4096, on 8, 32 and 128 replicas; and checks the
model against a small network on two replicas: the operations that TensorFlow's profiler counts in
the graph of a step, and the sizes of the tensors that its replicas hand to collectives.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import pathlib
from unittest import mock

import keras
import tensorflow as tf

from simclrv2_tf import distribute, heads, objectives, optimizers, report, resnet, stages
from simclrv2_tf.batch_norm import BatchNorm

HERE = pathlib.Path(__file__).resolve().parent
FLOAT32, BFLOAT16 = 4, 2  # bytes
# Depth, width, selective kernels: Table 1, in its order.
NETWORKS = [
    *((50, width, sk) for width in (1, 2) for sk in (0.0, 0.0625)),
    *((101, width, sk) for width in (1, 2) for sk in (0.0, 0.0625)),
    *((152, width, sk) for width in (1, 2) for sk in (0.0, 0.0625)),
    (152, 3, 0.0625),
]
BATCH, REPLICAS, SIZE = 4096, (8, 32, 128), 224


@dataclasses.dataclass(frozen=True)
class Cost:
    """Of one network.

    Attributes:
        forward_flops: Multiplications and additions of convolutions and dense layers, for one view.
        first_flops: Those of the convolution on the images, whose input needs no gradient.
        kept_elements: Activations that the backward pass needs, for one view.
        parameters: Trainable ones of encoder and head.
        batch_norms: Channels of each batch norm, in order.
        embedding: Width d.
    """

    forward_flops: int
    first_flops: int
    kept_elements: int
    parameters: int
    batch_norms: tuple[int, ...]
    embedding: int

    @property
    def training_flops(self) -> int:
        """For one view: forward, and backward for weights and for inputs, each as much again."""
        return 3 * self.forward_flops - self.first_flops

    def sent(self, batch: int) -> dict[str, int]:
        """Bytes that collectives sum or gather in a step, by what for, and batch norm's calls.

        Args:
            batch: Images of the global batch.
        """
        channels, norms = sum(self.batch_norms), len(self.batch_norms)
        return {
            "gradients": FLOAT32 * self.parameters,
            # Means, then spreads; and the gradient of each.
            "batch_norm": 4 * FLOAT32 * channels,
            "batch_norm_calls": 4 * norms,
            # Backwards the gradients of all embeddings are summed.
            "embeddings": 2 * FLOAT32 * batch * self.embedding,
        }


def measure(encoder: keras.Model, head: keras.Model, size: int) -> Cost:
    """The costs of a network for images of `size` pixels, from its layers."""
    flops, kept, first = 0, {}, None
    channels = []
    for model, shape in ((encoder, (1, size, size, 3)), (head, (1, encoder.output_shape[-1]))):
        operations = [x for x in model._operations if not isinstance(x, keras.layers.InputLayer)]
        tensors = {id(t): t for x in operations for t in (*x._inbound_nodes[0].outputs,)}
        tensors |= {id(t): t for t in model.inputs}
        shapes = _shapes(model, list(tensors.values()), shape)
        for layer in operations:
            node = layer._inbound_nodes[0]
            inputs, outputs = node.input_tensors, node.outputs
            if isinstance(layer, keras.layers.Conv2D | keras.layers.Dense):
                positions = math.prod(shapes[id(outputs[0])][:-1])
                flops += 2 * positions * math.prod(layer.kernel.shape)
                first = flops if first is None else first
            if isinstance(layer, BatchNorm):
                channels.append(outputs[0].shape[-1])
            # What each operation's gradient is a function of.
            needed = {
                keras.layers.Conv2D: inputs,
                keras.layers.Dense: inputs,
                BatchNorm: inputs,
                keras.layers.ReLU: outputs,
                keras.layers.MaxPooling2D: [*inputs, *outputs],
                keras.layers.Multiply: inputs,
                resnet.MixStreams: inputs,
            }.get(type(layer), [])
            kept |= {(id(model), id(t)): math.prod(shapes[id(t)]) for t in needed}
    parameters = sum(
        math.prod(v.shape) for model in (encoder, head) for v in model.trainable_variables
    )
    return Cost(
        flops, first, sum(kept.values()), parameters, tuple(channels), head.outputs[-1].shape[-1]
    )


def _shapes(model, tensors, shape):
    everything = keras.Model(model.input, tensors)
    spec = everything.compute_output_spec(keras.KerasTensor(shape))
    return {id(t): tuple(s.shape) for t, s in zip(tensors, spec, strict=True)}


def build(depth: int, width: float, sk_ratio: float, size: int, weights: bool = True):
    """Encoder and head; without `weights` the variables have shapes and no values."""
    scope = (
        contextlib.nullcontext() if weights else keras.StatelessScope(initialize_variables=False)
    )
    with scope:
        encoder = resnet.resnet(depth, width, sk_ratio=sk_ratio, image_size=size)
        return encoder, heads.projection_head(encoder.output_shape[-1])


# --- The check against a step that was traced -------------------------------------------------


def check(size: int = 32, batch: int = 8) -> dict[str, dict[str, int]]:
    """Predicted and counted costs of a quarter-width ResNet-50 with selective kernels.

    Returns:
        `predicted` and `counted`, each with `flops` of a step on one replica, and with the `bytes`
        and `calls` that each of two replicas hands to collectives.
    """
    stage = _stage(size)
    cost = measure(stage.encoder, stage.head, size)
    sent = cost.sent(batch)
    calls = sent.pop("batch_norm_calls")
    return {
        "predicted": {
            "flops": 2 * batch * cost.training_flops,
            "bytes": sum(sent.values()),
            # Two views are gathered and their gradients summed; the optimizer sums all at once.
            "calls": calls + 4 + 1,
        },
        "counted": {"flops": _counted_flops(stage, size, batch), **_counted_sent(size, batch)},
    }


def _stage(size):
    encoder, head = build(50, 0.25, 0.0625, size)
    stage = stages.Pretrainer(encoder, head, objectives.NTXent())
    stage.compile(optimizers.LARS(0.1), jit_compile=False)
    stage.optimizer.build(stage.trainable_variables)
    return stage


def _data(size, batch):
    views = tf.zeros((batch, size, size, 3))
    return (views, views), tf.zeros((batch,), tf.int64)


def _counted_flops(stage, size, batch) -> int:
    """Convolutions and matrix products of the traced step, as TensorFlow's profiler counts them."""
    step = tf.function(stage.train_step, autograph=False)
    graph = step.get_concrete_function(_data(size, batch)).graph
    builder = tf.compat.v1.profiler.ProfileOptionBuilder(
        tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
    )
    options = builder.with_empty_output().order_by("float_ops").build()
    profile = tf.compat.v1.profiler.profile(graph, cmd="op", options=options)
    counted, pending = 0, [profile]
    while pending:
        node = pending.pop()
        if node.name.startswith(("Conv2D", "MatMul")):
            counted += node.float_ops
        pending += node.children
    return counted


def _counted_sent(size, batch) -> dict[str, int]:
    """What the first of two replicas hands to collectives while its step is traced."""
    strategy = distribute.make_strategy("mirrored", 2)
    with strategy.scope():
        stage = _stage(size)
    counted = {"bytes": 0, "calls": 0}
    context = tf.distribute.ReplicaContext
    originals = {"all_reduce": context.all_reduce, "all_gather": context.all_gather}

    def counting(name):
        def call(self, *args, **kwargs):
            if tf.get_static_value(self.replica_id_in_sync_group) == 0:
                tensors = [x for x in tf.nest.flatten((args, kwargs)) if tf.is_tensor(x)]
                # What a gather hands over is this replica's part; it receives all of them.
                factor = 2 if name == "all_gather" else 1
                counted["bytes"] += factor * sum(x.dtype.size * math.prod(x.shape) for x in tensors)
                counted["calls"] += 1
            return originals[name](self, *args, **kwargs)

        return call

    @tf.function(autograph=False)
    def step():
        return strategy.run(stage.train_step, args=(_data(size, batch // 2),))

    with mock.patch.multiple(context, **{name: counting(name) for name in originals}):
        step.get_concrete_function()
    return counted


# --- The table --------------------------------------------------------------------------------


def main() -> None:
    """Checks the model, then computes and writes the table."""
    distribute.make_strategy("mirrored", 2)  # logical CPUs have to come first
    checked = check()
    print(json.dumps(checked, indent=2), flush=True)
    rows = []
    for depth, width, sk_ratio in NETWORKS:
        keras.backend.clear_session()
        cost = measure(*build(depth, width, sk_ratio, SIZE, weights=False), SIZE)
        for replicas in REPLICAS:
            sent = cost.sent(BATCH)
            views = 2 * BATCH // replicas
            rows.append(
                {
                    "network": f"R{depth} {width}x" + "+SK" * (sk_ratio > 0),
                    "replicas": replicas,
                    "parameters": cost.parameters,
                    "teraflops": round(views * cost.training_flops / 1e12, 1),
                    "activations_gb": round(views * cost.kept_elements * BFLOAT16 / 1e9, 1),
                    # A ring passes on every other replica's part, twice for a sum.
                    "gradients_mb": round(_ring(sent["gradients"], replicas) / 1e6, 1),
                    "batch_norm_mb": round(_ring(sent["batch_norm"], replicas) / 1e6, 3),
                    "batch_norm_calls": sent["batch_norm_calls"],
                    "embeddings_mb": round(1.5 * _ring(sent["embeddings"] // 2, replicas) / 1e6, 2),
                }
            )
            print(rows[-1], flush=True)
    results = {"check": checked, "batch": BATCH, "size": SIZE, "rows": rows}
    (HERE / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    (HERE / "results.md").write_text(report.table(list(rows[0]), [tuple(r.values()) for r in rows]))


def _ring(size: int, replicas: int) -> float:
    """Bytes that each replica sends, in a ring, to sum `size` bytes over all of them."""
    return 2 * (replicas - 1) / replicas * size


if __name__ == "__main__":
    main()
