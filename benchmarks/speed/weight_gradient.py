"""The weight gradient of convolutions: TensorFlow's kernel and matrix products, layer by layer.

Command: python benchmarks/speed/weight_gradient.py (about 2 minutes)

Measures layers of the networks in cases.py, also on larger maps. Both methods alternate in one
process with all cores; a figure is the median of several rounds.
"""

import argparse
import os
import statistics
import time

import machine

from simclrv2_tf import environment, precision

# Views, side of the padded inputs, channels in and out, side of the kernel, stride; all "VALID".
LAYERS = (
    (512, 7, 16, 16, 5, 1),
    (512, 9, 16, 16, 3, 1),
    (512, 9, 16, 32, 3, 2),
    (512, 6, 32, 32, 3, 1),
    (512, 6, 32, 64, 3, 2),
    (512, 4, 64, 64, 3, 1),
    (512, 34, 16, 16, 3, 1),
    (512, 18, 32, 32, 3, 1),
    (512, 10, 64, 64, 3, 1),
    (512, 6, 128, 128, 3, 1),
    (128, 34, 64, 64, 3, 1),
    (128, 18, 128, 128, 3, 1),
    (128, 10, 256, 256, 3, 1),
    (128, 17, 128, 256, 3, 2),
    (128, 6, 512, 512, 3, 1),
    (128, 9, 256, 512, 3, 2),
    (64, 14, 256, 512, 3, 1),
    (64, 8, 512, 512, 3, 1),
    (64, 13, 256, 1024, 3, 2),
    (64, 5, 512, 1024, 3, 1),
    (512, 32, 16, 32, 1, 2),
    (128, 32, 64, 128, 1, 2),
    (128, 16, 128, 256, 1, 2),
    (64, 24, 256, 512, 1, 2),
    (64, 12, 256, 1024, 1, 1),
    (64, 6, 512, 2048, 1, 1),
)


def measure(dtype: str, turns: int) -> dict[str, dict]:
    """Returns the milliseconds of both methods per layer, and the method that `Conv2D` uses."""
    # TensorFlow reads the variables of --avx2 when it is imported.
    import tensorflow as tf

    from simclrv2_tf import convolution, processors

    def kernel(inputs, upstream, size, stride):
        return tf.raw_ops.Conv2DBackpropFilter(
            input=inputs,
            filter_sizes=[size, size, inputs.shape[3], upstream.shape[3]],
            out_backprop=upstream,
            strides=[1, stride, stride, 1],
            padding="VALID",
        )

    def products(inputs, upstream, size, stride):
        return convolution.weight_gradient(inputs, upstream, size, stride, "VALID")

    figures = {}
    for batch, side, channels, filters, size, stride in LAYERS:
        out = (side - size) // stride + 1
        inputs = tf.cast(tf.random.normal((batch, side, side, channels)), dtype)
        upstream = tf.cast(tf.random.normal((batch, out, out, filters)), dtype)
        taken: dict[str, list[float]] = {"kernel": [], "products": []}
        ways = {"kernel": tf.function(kernel), "products": tf.function(products)}
        for turn in range(turns + 1):
            for way, function in ways.items():
                began = time.perf_counter()
                function(inputs, upstream, size, stride).numpy()
                if turn:  # the first round traces
                    taken[way].append(1000 * (time.perf_counter() - began))
        layer = convolution.Conv2D(filters, size, stride, padding="valid", dtype=dtype)
        layer.build(inputs.shape)
        with processors.faster_operations():
            used = "products" if layer.takes_products(inputs) else "kernel"
        name = f"{batch} x {side}^2, {channels} to {filters}, {size} x {size}, stride {stride}"
        medians = {way: round(statistics.median(of), 2) for way, of in taken.items()}
        figures[name] = {**medians, "used": used}
    return figures


def table(figures: dict[str, dict]) -> str:
    """Returns the figures as a Markdown table."""
    lines = [
        "| layer | kernel (ms) | products (ms) | kernel / products | used |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, row in figures.items():
        kernel, products = row["kernel"], row["products"]
        ratio = f"{kernel / products:.2f}"
        lines.append(f"| {name} | {kernel:.1f} | {products:.1f} | {ratio} | {row['used']} |")
    return "\n".join(lines)


def main() -> None:
    """Measures, prints the table and writes results.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--avx2", action="store_true", help="simulate a processor with only AVX2")
    arguments = parser.parse_args()
    label, dtype = "weight gradient", "float32"
    if arguments.avx2:
        os.environ |= machine.AVX2
        label += ", AVX2 simulated"
    elif precision.choose(False, (), precision.processor_flags())[0] == "mixed_bfloat16":
        dtype = "bfloat16"
    environment.prepare()
    figures = measure(dtype, arguments.turns)
    print(f"{label}, {dtype}, {machine.processor()}\n\n{table(figures)}")
    machine.record(f"{label}, {dtype}", {"turns": arguments.turns, "milliseconds": figures})


if __name__ == "__main__":
    main()
