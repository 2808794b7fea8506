"""Images per second and core of the input pipeline, Pillow, and plain decoding.

Command: python benchmarks/speed/pipeline.py (about five minutes)

Each figure is the number of images divided by the processor time, over all threads, for two views
each, so that other programs have little effect. Our pipeline, Pillow's (pillow_views.py) and plain
decoding alternate within each repeat. Pillow always antialiases; ours is measured with and without
antialiasing. The table has the medians; results.json also has the smallest and largest figures.
"""

from __future__ import annotations

import argparse
import io
import itertools
import os
import pathlib
import random
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["TF_NUM_INTRAOP_THREADS"] = os.environ["TF_NUM_INTEROP_THREADS"] = "1"

import numpy as np
import PIL
import tensorflow as tf
from PIL import Image

from simclrv2_tf import datasets
from simclrv2_tf.datasets.sources import PACKAGED

if __package__:
    from speed import machine, pillow_views
else:
    import machine
    import pillow_views

HEIGHT, WIDTH, QUALITY = 375, 500, 90
SIZES = (224, 32)  # of the views of photographs, in pixels
WARM_UP = 4  # batches


def photo(rng: np.random.Generator) -> np.ndarray:
    """Makes noise with the spectrum of photographs, 1 / frequency, over a gradient."""
    rows, columns = np.fft.fftfreq(HEIGHT)[:, None], np.fft.rfftfreq(WIDTH)
    frequency = np.maximum(np.hypot(rows, columns), 1 / WIDTH)
    shared = rng.normal(size=(HEIGHT, WIDTH))
    slope = np.linspace(-1, 1, WIDTH) * rng.uniform(-1, 1) + rng.uniform(-0.5, 0.5)
    channels = []
    for _ in range(3):
        noise = 0.9 * shared + 0.4 * rng.normal(size=(HEIGHT, WIDTH))
        texture = np.fft.irfft2(np.fft.rfft2(noise) / frequency**1.25, (HEIGHT, WIDTH))
        channels.append(texture / texture.std() + slope)
    return np.clip(120 + 45 * np.stack(channels, axis=-1), 0, 255).astype(np.uint8)


def write_photos(folder: pathlib.Path, count: int) -> list[bytes]:
    """Writes `count` JPEG files and returns their contents."""
    rng = np.random.default_rng(0)
    contents = []
    (folder / "train" / "all").mkdir(parents=True)
    for index in range(count):
        file = io.BytesIO()
        Image.fromarray(photo(rng)).save(file, "JPEG", quality=QUALITY)
        contents.append(file.getvalue())
        (folder / "train" / "all" / f"{index:04}.jpg").write_bytes(file.getvalue())
    return contents


def rate(images: int, work) -> float:
    """Returns the images per processor second of `work()`."""
    began = time.process_time()
    work()
    return images / (time.process_time() - began)


def our_rate(split, size: int, batch: int, batches: int, antialias: bool = False) -> float:
    """Returns the images per processor second of a running pipeline.

    The same number of batches is in progress at the start and the end of timing.
    """
    views = datasets.pretraining_batches(
        split, batch_size=batch, image_size=size, seed=0, antialias=antialias
    )
    iterator = iter(views)

    def take(count):
        for _ in range(count):
            next(iterator)

    take(WARM_UP)
    return rate(batch * batches, lambda: take(batches))


def measure(contestants: dict, repeats: int) -> dict:
    """Returns the figures of each program; the programs alternate, and the first round warms up."""
    figures: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(repeats + 1):
        for name, contestant in contestants.items():
            figure = contestant()
            if turn:
                figures[name].append(figure)
    return {name: machine.summary(of) for name, of in figures.items()}


def packaged_case(batch: int, batches: int, repeats: int) -> dict:
    """Measures the packaged images at their own size, 28 pixels."""
    split = datasets.open_dataset(PACKAGED).split("train")
    pixels = [example["image"].numpy() for example in split.examples().take(batch)]

    def pillow():
        for _ in range(batches):
            pillow_views.two_views(map(Image.fromarray, pixels), 28, rng)

    rng = random.Random(0)
    return measure(
        {
            "ours": lambda: our_rate(split, 28, batch, batches),
            "pillow": lambda: rate(batch * batches, pillow),
        },
        repeats,
    )


def photo_case(
    folder: str, contents, size: int, antialias: bool, batch: int, batches: int, repeats: int
) -> dict:
    """Measures views of `size` pixels from JPEG files."""
    split = datasets.open_dataset(f"folder:{folder}").split("train")
    chosen = [contents[index % len(contents)] for index in range(batch * batches)]
    rng = random.Random(0)

    def opened(content):
        return Image.open(io.BytesIO(content)).convert("RGB")

    def pillow():
        for start in range(0, len(chosen), batch):
            pillow_views.two_views(map(opened, chosen[start : start + batch]), size, rng)

    return measure(
        {
            "ours": lambda: our_rate(split, size, batch, batches, antialias),
            "pillow": lambda: rate(len(chosen), pillow),
            "decoding": lambda: rate(len(chosen), lambda: [*map(tf.io.decode_jpeg, chosen)]),
            "pillow_decoding": lambda: rate(len(chosen), lambda: [*map(opened, chosen)]),
        },
        repeats,
    )


def run(photos: int, batch: int, batches: int, repeats: int) -> dict:
    """Returns the figures of all cases, and the machine."""
    # Images of 28 pixels are fast: uses more of them, for a second of timing.
    cases = {"packaged, 28 px": packaged_case(8 * batch, 2 * batches, repeats)}
    with tempfile.TemporaryDirectory() as folder:
        contents = write_photos(pathlib.Path(folder), photos)
        for size, antialias in itertools.product(SIZES, (False, True)):
            name = f"JPEG {WIDTH} x {HEIGHT}, {size} px" + ", antialiased" * antialias
            cases[name] = photo_case(folder, contents, size, antialias, batch, batches, repeats)
    return {
        "tensorflow": tf.__version__,
        "pillow": PIL.__version__,
        "kilobytes_a_file": round(sum(map(len, contents)) / len(contents) / 1000),
        "repeats": repeats,
        "images_per_second_and_core": cases,
    }


def table(results: dict) -> str:
    """Returns the medians as a Markdown table."""
    lines = [
        "| two views of | ours | Pillow | ratio | only decoding, TensorFlow and Pillow |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, figures in results["images_per_second_and_core"].items():
        ours, pillow, *decoding = (f"{figure['median']:,.0f}" for figure in figures.values())
        ratio = figures["ours"]["median"] / figures["pillow"]["median"]
        lines.append(f"| {name} | {ours} | {pillow} | {ratio:.1f} | {', '.join(decoding) or '-'} |")
    return "\n".join(lines)


def main() -> None:
    """Measures, prints the table and writes results.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batches", type=int, default=12, help="timed batches of 32 photographs")
    arguments = parser.parse_args()
    results = run(128, 32, arguments.batches, arguments.repeats)
    print(f"{machine.processor()}\n\n{table(results)}")
    machine.record("pipeline", results)


if __name__ == "__main__":
    main()
