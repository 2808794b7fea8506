"""Memory of the input pipeline: its peak while the consumer waits, and the documented bound.

Command: python benchmarks/reliability/pipeline_memory.py (about a minute)

Each row is a process that draws views of the packaged images while the consumer waits several times
for seconds, as in an evaluation. The peak is the process's additional memory.
"""

import json
import pathlib
import subprocess
import sys
import time

RESULTS = pathlib.Path(__file__).with_name("results.json")
CASES = ((256, 28), (1024, 64), (4096, 64), (256, 224))  # batch, pixels


def peak(key: str) -> float:
    """Returns Linux's memory of this process in MB: `VmHWM`, the peak, or `VmRSS`."""
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) / 1e3


def measure(batch: int, size: int) -> dict[str, float]:
    """Draws views in this process, and waits."""
    from simclrv2_tf import datasets
    from simclrv2_tf.datasets import pipelines

    split = datasets.open_dataset("fashion_mnist_small").split("train")
    next(iter(datasets.pretraining_batches(split, batch_size=8, image_size=size, seed=0)))
    before = peak("VmRSS")
    views = 2 * batch * size * size * 3 * 4
    at_once, prefetched = pipelines.buffers(views)
    batches = iter(datasets.pretraining_batches(split, batch_size=batch, image_size=size, seed=0))
    for _ in range(4):
        next(batches)
        time.sleep(3)
    return {
        "batch": batch,
        "pixels": size,
        "megabytes_a_batch": views / 1e6,
        "made_at_once": at_once,
        "finished": prefetched,
        "bound_megabytes": (3 * at_once + prefetched + 3) * views / 1e6,
        "peak_megabytes": peak("VmHWM") - before,
    }


def table(rows: list[dict[str, float]]) -> str:
    """Returns the rows as a Markdown table."""
    lines = [
        "| batch | pixels | views (MB) | in progress, finished | bound (MB) | peak (MB) |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        lines.append(
            f"| {row['batch']:,} | {row['pixels']} | {row['megabytes_a_batch']:.0f} | "
            f"{row['made_at_once']}, {row['finished']} | {row['bound_megabytes']:,.0f} | "
            f"{row['peak_megabytes']:,.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measures, prints the table and writes results.json."""
    if len(sys.argv) > 1:
        print(json.dumps(measure(*map(int, sys.argv[1:]))))
        return
    rows = []
    for case in CASES:
        command = [sys.executable, __file__, *map(str, case)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
    print(table(rows))
    held = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    held["pipeline memory"] = rows
    RESULTS.write_text(json.dumps(held, indent=2) + "\n")


if __name__ == "__main__":
    main()
