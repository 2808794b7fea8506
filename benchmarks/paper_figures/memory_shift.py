"""Compares the memory's outputs with the network's own, at the end of the runs of `memory`.

    python benchmarks/paper_figures/memory_shift.py runs/paper_figures/memory

For two sets of embeddings of the same 2,000 held-out images, by the network and by its momentum
network, prints the mean cosine between embeddings of different images: network with network, as for
negatives of the batch, and network with momentum network, as for negatives of the memory. If the
second mean is far below the first, the whole network has moved away from the memory.
"""

import argparse
import json
import pathlib

import keras
import numpy as np
import tensorflow as tf

from simclrv2_tf import datasets, networks, run_options
from simclrv2_tf import weights as checkpoints
from simclrv2_tf.network_options import NetworksOptions
from simclrv2_tf.options import of


def embeddings(models, images) -> np.ndarray:
    """Returns rows (n, d) of unit length."""
    encoder, head = models
    found = [
        head(encoder(part, training=False), training=False)[-1].numpy()
        for part in np.array_split(images, max(1, len(images) // 250))
    ]
    z = np.concatenate(found)
    return z / np.linalg.norm(z, axis=1, keepdims=True)


def of_others(first: np.ndarray, second: np.ndarray) -> float:
    """Returns the mean cosine between embeddings of `first` and of other images in `second`."""
    n = len(first)
    total = first.sum(0) @ second.sum(0) - np.sum(first * second)
    return float(total / (n * (n - 1)))


def measure(folder: pathlib.Path, images) -> dict[str, float]:
    """Returns the mean cosines of a run."""
    options = run_options.read(folder)
    config = NetworksOptions(**{k: options[k] for k in of(NetworksOptions) if k in options})
    made = [
        networks.build_networks(config, 0, image_size=options["image_size"], seed=0)
        for _ in range(2)
    ]
    own, momentum = ([x.encoder, x.head] for x in made)
    checkpoints.load(str(folder), own)
    reader = tf.train.load_checkpoint(tf.train.latest_checkpoint(str(folder / "checkpoints")))
    for model in momentum:
        for v in model.weights:
            key = f"ema/{v.path}".replace("/", ".S")  # TensorFlow's escaping
            v.assign(reader.get_tensor(f"variables/{key}/.ATTRIBUTES/VARIABLE_VALUE"))
    ours, theirs = embeddings(own, images), embeddings(momentum, images)
    return {
        "network, network": of_others(ours, ours),
        "network, momentum network": of_others(ours, theirs),
        "the same image by both": float(np.mean(np.sum(ours * theirs, axis=1))),
    }


def main() -> None:
    """Measures all runs of a sweep with a memory; prints a table, and JSON for the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sweep", type=pathlib.Path)
    arguments = parser.parse_args()
    keras.config.set_dtype_policy("float32")
    split = datasets.open_dataset("fashion_mnist_small").split("train[80%:]")
    images = np.stack([e["image"] / np.float32(255) for e in split.examples().as_numpy_iterator()])
    found: dict[str, list[dict[str, float]]] = {}
    for path in sorted(arguments.sweep.glob("*/seed_*/result.json")):
        if json.loads((path.parent / "config.json").read_text())["memory_size"]:
            found.setdefault(path.parent.parent.name, []).append(measure(path.parent, images))
    print("| setting | " + " | ".join(next(iter(found.values()))[0]) + " | seeds |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for setting, rows in found.items():
        means = [np.mean([row[name] for row in rows]) for name in rows[0]]
        print(f"| {setting} | " + " | ".join(f"{m:.2f}" for m in means) + f" | {len(rows)} |")


if __name__ == "__main__":
    main()
