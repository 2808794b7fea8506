"""Another process makes the same batches of every source, and imports TensorFlow late."""

from helpers.colored import write_folder, write_tfds
from helpers.paths import ROOT
from helpers.processes import python

DIGEST = """
import hashlib, sys
from simclrv2_tf import datasets
import tensorflow as tf

def digest(split, make):
    batches = make(split, batch_size=5, image_size=8, seed=7, start_step=2).take(6)
    content = [tensor.numpy().tobytes() for tensor in tf.nest.flatten(list(batches))]
    return hashlib.sha256(b"".join(content)).hexdigest()

def digests(folder, data_dir):
    packaged = datasets.open_dataset("fashion_mnist_small").split("train[:23]")
    folder = datasets.open_dataset(f"folder:{folder}").split("train")
    stored = datasets.open_dataset("color_images", data_dir).split("train")
    return [digest(packaged, datasets.pretraining_batches)] + [
        digest(split, datasets.training_batches) for split in (folder, stored)
    ]
"""


LATE = """
import sys
from simclrv2_tf import datasets
from simclrv2_tf.datasets import DataOptions, LabelOptions
assert not {"tensorflow", "keras"} & set(sys.modules), "imported with the package"
"""


def test_another_process_makes_the_same_batches(tmp_path):
    arguments = [str(write_folder(tmp_path / "images")), str(write_tfds(tmp_path / "tfds"))]
    printed = python("-c", LATE + DIGEST + "print(digests(*sys.argv[1:]))", *arguments, cwd=ROOT)
    namespace = {}
    exec(DIGEST, namespace)
    assert printed.splitlines()[-1] == str(namespace["digests"](*arguments))
