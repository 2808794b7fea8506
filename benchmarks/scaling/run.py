"""The cost of a pretraining step: computation, activation memory, and bytes between replicas.

Command: python benchmarks/scaling/run.py (about two minutes on 2 cores; no weights are made)

Writes results.json and results.md (the table of docs/scaling.md) to this folder, for the 13
networks of SimCLRv2's Table 1 (arXiv 2006.10029) at 224 pixels and a batch of 4096, on 8, 32 and
128 replicas; and checks the model against a small network on two replicas: the operations that
TensorFlow's profiler counts in the graph of a step, and the sizes of the tensors that its replicas
pass to collectives.
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
from simclrv2_tf.convolution import Conv2D

HERE = pathlib.Path(__file__).resolve().parent
FLOAT32, BFLOAT16 = 4, 2  # bytes
# Depth, width, selective kernels, in the order of Table 1.
NETWORKS = [
    *((50, width, sk) for width in (1, 2) for sk in (0.0, 0.0625)),
    *((101, width, sk) for width in (1, 2) for sk in (0.0, 0.0625)),
    *((152, width, sk) for width in (1, 2) for sk in (0.0, 0.0625)),
    (152, 3, 0.0625),
]
BATCH, REPLICAS, SIZE = 4096, (8, 32, 128), 224


@dataclasses.dataclass(frozen=True)
class Cost:
    """The costs of one network.

    Attributes:
        forward_flops: Multiplications and additions of convolutions and dense layers, for one view.
        first_flops: The same for the convolution on the images, whose input needs no gradient.
        kept_elements: Activations that the backward pass needs, for one view.
        parameters: Trainable parameters of encoder and head.
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
        """FLOPs for one view: forward, and the same again backward for weights and for inputs."""
        return 3 * self.forward_flops - self.first_flops

    def sent(self, batch: int) -> dict[str, int]:
        """Returns bytes that collectives sum or gather in a step, by purpose, and batch norm's
        calls.

        Args:
            batch: Images of the global batch.
        """
        channels, norms = sum(self.batch_norms), len(self.batch_norms)
        return {
            "gradients": FLOAT32 * self.parameters,
            # Means, then variances, and their gradients.
            "batch_norm": 4 * FLOAT32 * channels,
            "batch_norm_calls": 4 * norms,
            # Two gathered views; and backward, the sum of their gradients.
            "embeddings": 4 * FLOAT32 * batch * self.embedding,
        }


def measure(encoder: keras.Model, head: keras.Model | None, size: int) -> Cost:
    """Returns the costs of a network for images of `size` pixels, from its layers.

    Without a head, the representation is the embedding.
    """
    flops, kept, first = 0, {}, None
    channels = []
    models = [(encoder, (1, size, size, 3))]
    if head is not None:
        models.append((head, (1, encoder.output_shape[-1])))
    for model, shape in models:
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
            # The inputs of each operation's gradient.
            needed = {
                Conv2D: inputs,
                keras.layers.Dense: inputs,
                BatchNorm: inputs,
                keras.layers.ReLU: outputs,
                keras.layers.MaxPooling2D: [*inputs, *outputs],
                keras.layers.Multiply: inputs,
                resnet.MixStreams: inputs,
            }.get(type(layer), [])
            kept |= {(id(model), id(t)): math.prod(shapes[id(t)]) for t in needed}
    parameters = sum(math.prod(v.shape) for model, _ in models for v in model.trainable_variables)
    embedding = models[-1][0].outputs[-1].shape[-1]
    return Cost(flops, first, sum(kept.values()), parameters, tuple(channels), embedding)


def _shapes(model, tensors, shape):
    everything = keras.Model(model.input, tensors)
    spec = everything.compute_output_spec(keras.KerasTensor(shape))
    return {id(t): tuple(s.shape) for t, s in zip(tensors, spec, strict=True)}


def build(depth: int, width: float, sk_ratio: float, size: int, weights: bool = True):
    """Makes encoder and head; without `weights`, variables only have shapes."""
    scope = (
        contextlib.nullcontext() if weights else keras.StatelessScope(initialize_variables=False)
    )
    with scope:
        encoder = resnet.resnet(depth, width, sk_ratio=sk_ratio, image_size=size)
        return encoder, heads.projection_head(encoder.output_shape[-1])


# --- Comparison with a traced step -------------------------------------------------


def check(size: int = 32, batch: int = 8) -> dict[str, dict[str, int]]:
    """Returns predicted and counted costs of a quarter-width ResNet-50 with selective kernels.

    Returns:
        `predicted` and `counted`: `forward` and `backward`, the FLOPs of convolutions on one
        replica; `dense`, the FLOPs of matrix products in both directions; and `bytes` and `calls`,
        passed to collectives by each of two replicas.
    """
    stage = _stage(size)
    cost = measure(stage.encoder, stage.head, size)
    convolutions = measure(stage.encoder, None, size).forward_flops
    sent = cost.sent(batch)
    calls = sent.pop("batch_norm_calls")
    views = 2 * batch
    predicted = {
        "forward": views * convolutions,
        "backward": 2 * views * convolutions,
        # A product with three of the contrastive loss's blocks, of all views with all others.
        "dense": 3 * views * (cost.forward_flops - convolutions) + 6 * views**2 * cost.embedding,
        # Backward, TensorFlow's gather first gathers the number of rows of each replica, 4 bytes.
        "bytes": sum(sent.values()) + 2 * 2 * 4,
        # Two views are gathered, forward and backward (two calls); the optimizer sums all at once.
        "calls": calls + 2 * 3 + 1,
    }
    return {
        "predicted": predicted,
        "counted": {**_counted_flops(stage, size, batch), **_counted_sent(size, batch)},
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


def _counted_flops(stage, size, batch) -> dict[str, int]:
    """Counts convolutions and matrix products of the traced step with TensorFlow's profiler."""
    # Without `update`, whose gradients are partly matrix products.
    step = tf.function(stage.loss_and_gradients, autograph=False)
    graph = step.get_concrete_function(_data(size, batch)).graph
    builder = tf.compat.v1.profiler.ProfileOptionBuilder(
        tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
    )
    options = builder.with_empty_output().order_by("float_ops").build()
    counted, pending = {}, [tf.compat.v1.profiler.profile(graph, cmd="op", options=options)]
    while pending:
        node = pending.pop()
        counted[node.name] = counted.get(node.name, 0) + node.float_ops
        pending += node.children
    return {
        "forward": counted["Conv2D"],
        "backward": counted["Conv2DBackpropInput"] + counted["Conv2DBackpropFilter"],
        "dense": counted["MatMul"],
    }


def _counted_sent(size, batch) -> dict[str, int]:
    """Records what the first of two replicas passes to collectives while its step is traced."""
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
                # A gather passes this replica's part and receives all parts.
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
    distribute.make_strategy("mirrored", 2)  # logical CPUs must be created first
    checked = check()
    print(json.dumps(checked, indent=2), flush=True)
    for name, predicted in checked["predicted"].items():
        counted = checked["counted"][name]
        # For backward strided convolutions, the profiler also counts padding.
        if not predicted <= counted <= predicted * (1.05 if name == "backward" else 1):
            raise SystemExit(f"The model is wrong about {name}: {predicted} against {counted}.")
    rows = []
    for depth, width, sk_ratio in NETWORKS:
        keras.backend.clear_session()
        cost = measure(*build(depth, width, sk_ratio, SIZE, weights=False), SIZE)
        name = f"R{depth} {width}x" + "+SK" * (sk_ratio > 0)
        rows.append({"network": name, **dataclasses.asdict(cost), "replicas": per_replica(cost)})
        print(rows[-1], flush=True)
    results = {"check": checked, "batch": BATCH, "size": SIZE, "networks": rows}
    (HERE / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    (HERE / "results.md").write_text(table(rows) + "\n")


def per_replica(cost: Cost) -> dict[int, dict[str, float]]:
    """Returns the cost of a step per replica, by the number of replicas."""
    sent = cost.sent(BATCH)
    found = {}
    for replicas in REPLICAS:
        views = 2 * BATCH // replicas
        found[replicas] = {
            "teraflops": views * cost.training_flops / 1e12,
            "activations_gb": views * cost.kept_elements * BFLOAT16 / 1e9,
            "gradients_mb": _ring(sent["gradients"], replicas) / 1e6,
            "batch_norm_mb": _ring(sent["batch_norm"], replicas) / 1e6,
            # One gather, which is half of a sum, and one sum.
            "embeddings_mb": 0.75 * _ring(sent["embeddings"], replicas) / 1e6,
        }
    return found


def table(rows: list[dict]) -> str:
    """Returns one line per network; costs that depend on replicas as 8 / 32 / 128."""
    header = ["network", "parameters (M)", "TFLOP", "activations (GB)", "gradients (MB)"]
    header += ["batch norm (MB)", "batch norm calls", "embeddings (MB)"]

    def each(row, name, digits):
        return " / ".join(f"{found[name]:.{digits}f}" for found in row["replicas"].values())

    return report.table(
        header,
        [
            (
                row["network"],
                f"{row['parameters'] / 1e6:.0f}",
                each(row, "teraflops", 1),
                each(row, "activations_gb", 1),
                each(row, "gradients_mb", 0),
                each(row, "batch_norm_mb", 1),
                4 * len(row["batch_norms"]),
                each(row, "embeddings_mb", 0),
            )
            for row in rows
        ],
    )


def _ring(size: int, replicas: int) -> float:
    """Returns the bytes that each replica sends, in a ring, to sum `size` bytes over all."""
    return 2 * (replicas - 1) / replicas * size


if __name__ == "__main__":
    main()
