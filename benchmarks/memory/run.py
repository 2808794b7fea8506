"""Peak memory and time of NT-Xent in blocks and of pretraining in micro-batches, and their effect.

Command: python benchmarks/memory/run.py (about ten minutes on 2 cores, 24 GiB)

Every figure comes from a separate process: its peak resident memory minus its memory with
TensorFlow and inputs, after a tracing step and `STEPS` timed steps (their median). A process that
runs out of memory has no figure. Writes results.json.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import resource
import statistics
import subprocess
import sys
import time

STEPS = 3
GIB = 2**30
NT_XENT = {"width": 128}
LIMIT = (
    21 * GIB
)  # limit of a process's addresses, so that a failed step does not affect the machine
PRETRAINING = {"depth": 18, "width_multiplier": 0.5, "image_size": 64, "batch": 256}


def main() -> None:
    """Runs the measured processes one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    child = parser.parse_args().child
    if child:
        resource.setrlimit(resource.RLIMIT_AS, (LIMIT, LIMIT))
        kind, *sizes = child.split(":")
        sizes = [int(size) for size in sizes]
        if kind == "gradients":
            print(json.dumps(gradients(*sizes)))
        else:
            measure({"nt_xent": nt_xent, "pretraining": pretraining}[kind](*sizes))
        return
    # Images, then the size of blocks or micro-batches; 0 is the plain form.
    losses = [(n, size) for n in (4096, 8192) for size in (1024, 0)]
    losses += [(16384, size) for size in (256, 1024, 4096, 0)]
    batch = PRETRAINING["batch"]
    batches = [(batch, size) for size in (8, 32, 128, 0)] + [(batch // 2, 32), (batch // 2, 0)]
    results = {
        "nt_xent": {**NT_XENT, "rows": rows("nt_xent", "chunk_size", losses)},
        "pretraining": {**PRETRAINING, "rows": rows("pretraining", "micro_batch_size", batches)},
        "gradients": rows("gradients", "micro_batch_size", [(64, 8), (64, 32)]),
    }
    path = pathlib.Path(__file__).with_name("results.json")
    path.write_text(json.dumps(results, indent=2) + "\n")


def rows(kind: str, option: str, sizes) -> list[dict]:
    """Returns one row per number of images and value of `option`."""
    found = []
    for images, size in sizes:
        command = [sys.executable, __file__, f"--child={kind}:{images}:{size}"]
        done = subprocess.run(command, capture_output=True, text=True)
        row = {"images": images, option: size}
        if done.returncode == 0:
            row |= json.loads(done.stdout.splitlines()[-1])
        else:
            row["stopped"] = done.returncode
            print(done.stderr[-2000:], file=sys.stderr)
        found.append(row)
        print(kind, row, flush=True)
    return found


def measure(step) -> None:
    """Prints the additional peak memory of `step`, and its median time."""
    before = held()
    step()
    seconds = []
    for _ in range(STEPS):
        began = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - began)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    row = {
        "peak_gib": round((peak - before) / GIB, 3),
        "seconds": round(statistics.median(seconds), 3),
    }
    print(json.dumps(row))


def held() -> int:
    """Returns the resident memory of this process in bytes."""
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def nt_xent(count, chunk_size):
    """Measures loss and gradient of NT-Xent on random embeddings."""
    import tensorflow as tf

    from simclrv2_tf import objectives

    z1, z2 = (tf.random.stateless_normal((count, NT_XENT["width"]), (1, i)) for i in (1, 2))

    @tf.function(autograph=False)
    def step():
        with tf.GradientTape() as tape:
            tape.watch([z1, z2])
            loss, _ = objectives.nt_xent(z1, z2, chunk_size=chunk_size or None)
        return loss, tape.gradient(loss, [z1, z2])

    return lambda: step()[0].numpy()


def pretraining(batch, micro_batch_size):
    """Measures a step of pretraining on random views."""
    import tensorflow as tf

    size = PRETRAINING["image_size"]
    stage = pretrainer(PRETRAINING["depth"], PRETRAINING["width_multiplier"], size)
    stage.micro_batch_size = micro_batch_size or None
    views = [tf.random.stateless_uniform((batch, size, size, 3), (2, i)) for i in (1, 2)]
    labels = tf.zeros((batch,), tf.int64)

    @tf.function(autograph=False)
    def step():
        return stage.train_step((tuple(views), labels))["loss"]

    return lambda: step().numpy()


def pretrainer(depth, width_multiplier, size):
    """Makes a pretraining stage with the same random weights each time."""
    import keras

    from simclrv2_tf import heads, objectives, optimizers, resnet, stages

    keras.utils.set_random_seed(0)
    encoder = resnet.resnet(depth, width_multiplier, image_size=size)
    stage = stages.Pretrainer(
        encoder, heads.projection_head(encoder.output_shape[-1]), objectives.NTXent()
    )
    stage.compile(optimizers.LARS(0.1), jit_compile=False)
    stage.optimizer.build(stage.trainable_variables)
    return stage


def gradients(batch, micro_batch_size) -> dict[str, dict[str, float]]:
    """Compares the gradients of micro-batches with the gradients of the whole batch.

    Compares with batch norm, and with its layers in inference mode, in which the two must be equal.

    Returns:
        For each, `distance`, |a - b| / |b| over all gradients as one vector, and their `cosine`.
    """
    import numpy as np
    import tensorflow as tf

    from simclrv2_tf.batch_norm import BatchNorm

    views = [tf.random.stateless_uniform((batch, 32, 32, 3), (3, i)) for i in (1, 2)]
    data = (tuple(views), tf.zeros((batch,), tf.int64))
    found = {}
    for name in ("batch_norm", "without"):
        vectors = []
        for size in (micro_batch_size, None):
            stage = pretrainer(18, 0.25, 32)
            for layer in (*stage.encoder.layers, *stage.head.layers):
                if isinstance(layer, BatchNorm):
                    if layer.name.endswith("bn2"):  # otherwise every block starts as its shortcut
                        layer.gamma.assign(tf.ones_like(layer.gamma))
                    layer.trainable = name == "batch_norm"
            stage.micro_batch_size = size
            # Traced, so that micro-batches are a loop; for variables that train in both.
            step = tf.function(stage.loss_and_gradients, autograph=False)
            kernels = [v.path.endswith("kernel") for v in stage.trainable_variables]
            grads = [g for g, is_kernel in zip(step(data)[1], kernels, strict=True) if is_kernel]
            vectors.append(np.concatenate([np.ravel(g).astype(np.float64) for g in grads]))
        ours, theirs = vectors
        norm = np.linalg.norm(theirs)
        found[name] = {
            "distance": float(np.linalg.norm(ours - theirs) / norm),
            "cosine": float(ours @ theirs / (np.linalg.norm(ours) * norm)),
        }
    return found


if __name__ == "__main__":
    main()
