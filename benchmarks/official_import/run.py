"""Memory and time of importing full-size released networks: ResNet-50 + SK and ResNet-152 3x + SK.

Command: python benchmarks/official_import/run.py (a quarter of an hour on 2 cores; needs 24 GiB of
memory and 30 GiB of disk below `--work`)

Released files were not available: a separate process writes each network, encoder, head and
classifier of 1,000 classes with random weights, as a TF1-format checkpoint with the reference's
names. Then separate processes, `--runs` times each, infer and fill the networks from the checkpoint
("load"), and import it with `python -m simclrv2_tf.official` to .keras files and a SavedModel
("import"). Memory is the peak of the process, also as a multiple of the checkpoint's size, minus
the memory after importing the package ("base"). Every imported weight is compared with the
checkpoint's. Writes results.json.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
NETWORKS = {"ResNet-50 SK": (50, 1), "ResNet-152 3x SK": (152, 3)}
SK_RATIO = 0.0625
GIB = 2**30


def main() -> None:
    """Runs the measured processes one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path("runs/official_import"))
    parser.add_argument(
        "--runs", type=int, default=3, help="number of runs of each process (default: %(default)s)"
    )
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        kind, *rest = args.child
        {"base": base, "write": write, "load": load, "compare": compare}[kind](*rest)
        return
    args.work.mkdir(parents=True, exist_ok=True)
    base_gib = child("base")["gib"]
    results = {"runs": args.runs, "base_gib": round(base_gib, 2), "networks": []}
    for name, (depth, width) in NETWORKS.items():
        source, output = args.work / f"r{depth}", args.work / f"imported_r{depth}"
        shutil.rmtree(source, ignore_errors=True)
        child("write", source, depth, width)
        size = sum(file.stat().st_size for file in source.iterdir())
        loads = [child("load", source) for _ in range(args.runs)]
        imports = []
        for _ in range(args.runs):
            shutil.rmtree(output, ignore_errors=True)
            command = ["-m", "simclrv2_tf.official", f"--source={source}", f"--output={output}"]
            imports.append(run(command))
        weights = json.loads(child("compare", source, output)["output"])
        results["networks"].append(
            {
                "network": name,
                "weights": weights,
                "checkpoint_gib": round(size / GIB, 2),
                "load": figures(loads, size, base_gib),
                "import": figures(imports, size, base_gib),
            }
        )
        print(json.dumps(results["networks"][-1], indent=2), flush=True)
        shutil.rmtree(source)
        shutil.rmtree(output)
        (HERE / "results.json").write_text(json.dumps(results, indent=2) + "\n")


def figures(runs: list[dict], size: int, base_gib: float) -> dict:
    """Returns the median of each figure; memory also as a ratio to the checkpoint's size."""
    memory = statistics.median(run["gib"] for run in runs)
    return {
        "seconds": round(statistics.median(run["seconds"] for run in runs), 1),
        "gib": round(memory, 2),
        "times_the_checkpoint": round((memory - base_gib) * GIB / size, 2),
    }


def child(*arguments) -> dict:
    """Runs a function of this file in a separate process."""
    return run([__file__, "--child", *map(str, arguments)])


def run(arguments: list[str]) -> dict:
    """Returns seconds, peak memory and output of a Python process."""
    begin = time.monotonic()
    with subprocess.Popen(
        [sys.executable, *arguments], stdout=subprocess.PIPE, text=True
    ) as process:
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(arguments)} ended with status {process.returncode}")
    return {
        "seconds": time.monotonic() - begin,
        "gib": usage.ru_maxrss * 1024 / GIB,
        "output": output,
    }


def base() -> None:
    """Measures a process that only imports the package."""
    from simclrv2_tf import official  # noqa: F401


def write(folder: str, depth: str, width: str) -> None:
    """Writes the checkpoint of a network with random weights."""
    sys.path.insert(0, str(HERE.parents[1] / "tests"))
    from helpers import reference_checkpoint
    from simclrv2_tf import heads, resnet

    encoder = resnet.resnet(int(depth), float(width), SK_RATIO)
    features = encoder.output_shape[-1]
    values = reference_checkpoint.as_reference(
        encoder=encoder,
        head=heads.projection_head(features),
        classifier=heads.classifier(features, 1000),
    )
    reference_checkpoint.write_tf1(pathlib.Path(folder), values)


def load(source: str) -> None:
    """Infers the networks, builds and fills them."""
    from simclrv2_tf import official

    variables = official.Variables(source)
    official.load_weights(variables, **official.infer(variables.shapes).build())


def compare(source: str, output: str) -> None:
    """Compares every weight of the SavedModel with the checkpoint; prints the number of weights."""
    import numpy as np
    import tensorflow as tf

    from simclrv2_tf import official

    variables = official.Variables(source)
    names = official.names_by_path(variables.shapes)
    module = tf.saved_model.load(str(pathlib.Path(output) / "hub" / "0"))
    if module.weights.keys() != names.keys():
        raise SystemExit(f"{output} has other variables than {source}")
    numbers = 0
    for path, name in names.items():
        expected = variables[name]
        np.testing.assert_array_equal(module.weights[path].numpy(), expected, err_msg=path)
        numbers += expected.size
    print(numbers)


if __name__ == "__main__":
    main()
