"""Builds `fashion_mnist_small.xz`: a class-balanced part of Fashion-MNIST, small enough to package.

    python benchmarks/packaged_images/build.py FASHION_MNIST_FOLDER

The folder holds the four files of the data set as published
(https://github.com/zalandoresearch/fashion-mnist, MIT licence, see the text in the output's
folder). The packaged set has the first 1,000 training images of each class, the first 200 test
images, and as validation images the 100 training images after the first 1,000, in the order of the
published files, which mixes the classes. The output is six arrays in NumPy's format, one after the
other, compressed together: training images (10000, 28, 28) uint8 and labels (10000,) uint8, test
images (2000, 28, 28) and labels (2000,), validation images (1000, 28, 28) and labels (1000,). The
same input gives the same bytes.
"""

from __future__ import annotations

import gzip
import io
import lzma
import pathlib
import sys

import numpy as np

# The published file of each split, and the images to take per class.
SPLITS = {
    "train": ("train", slice(0, 1_000)),
    "test": ("t10k", slice(0, 200)),
    "validation": ("train", slice(1_000, 1_100)),
}
DATA = pathlib.Path(__file__).parents[2] / "simclrv2_tf" / "data"
OUTPUT = DATA / "fashion_mnist_small.xz"


def select(source: pathlib.Path) -> bytes:
    """Returns the uncompressed arrays from the folder of the published files."""
    arrays = io.BytesIO()
    for prefix, taken in SPLITS.values():
        labels = read_idx(source / f"{prefix}-labels-idx1-ubyte.gz")
        images = read_idx(source / f"{prefix}-images-idx3-ubyte.gz")
        chosen = [np.flatnonzero(labels == label)[taken] for label in range(10)]
        order = np.sort(np.concatenate(chosen))
        np.lib.format.write_array(arrays, images[order], version=(1, 0))
        np.lib.format.write_array(arrays, labels[order], version=(1, 0))
    return arrays.getvalue()


def compress(arrays: bytes) -> bytes:
    """Returns the content of the packaged file."""
    # Pixels have no alignment and mostly depend on their high bits: half the time, the same size.
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 6, "lc": 4, "pb": 0}]
    return lzma.compress(arrays, filters=filters)


def read_idx(path: pathlib.Path) -> np.ndarray:
    """Reads the IDX format: two zero bytes, type (8: uint8), number of axes, sizes, data."""
    content = gzip.decompress(path.read_bytes())
    if content[:3] != b"\x00\x00\x08":
        raise ValueError(f"`path` must be a gzipped IDX file of bytes. Received: path={path}")
    axes = content[3]
    shape = np.frombuffer(content, ">u4", count=axes, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape.astype(int))


def main() -> None:
    """Writes the packaged file."""
    if len(sys.argv) != 2:
        sys.exit(f"Usage: python {sys.argv[0]} FASHION_MNIST_FOLDER")
    content = compress(select(pathlib.Path(sys.argv[1])))
    OUTPUT.write_bytes(content)
    print(f"{OUTPUT.name}: {len(content):,} bytes")


if __name__ == "__main__":
    main()
