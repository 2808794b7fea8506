"""A program that stands in for `simclrv2_tf.run`: it leaves a run's files, and trains nothing.

`python -m helpers.sweep_cell FLAGS`. A file `break` in the current folder says how a cell breaks: a
line "PART STATUS MESSAGE" for those whose folder has PART in its name. A cell with the part "slow"
in its folder's name writes `began` into its folder and waits for a signal.
"""

import contextlib
import json
import signal
import sys
import time
from pathlib import Path

from simclrv2_tf.config import Config
from simclrv2_tf.experiments import record


def main(flags):
    config = Config.from_argv(["run", *flags])
    folder = Path(config.model_dir)
    with contextlib.suppress(FileNotFoundError):
        for line in Path("break").read_text().splitlines():
            part, status, message = line.split(" ", 2)
            if part in str(folder):
                print(f"Starting\nError: {message}\nlast words", flush=True)
                return int(status)
    folder.mkdir(parents=True, exist_ok=True)
    if "slow" in str(folder):
        return wait(folder)
    accuracy = 0.5 + config.learning_rate / 10 + 0.01 * config.seed
    splits = {"train": {"examples": 100}, "test": {"examples": 50}}
    files = {
        "config.json": config.to_json(),
        "result.json": json.dumps({"label_top_1_accuracy": accuracy, "images": 50}),
        "run.json": json.dumps({"made_of": {"data": {"main": {"name": "d", "splits": splits}}}}),
        "history.csv": "epoch,loss,seconds\n1,0.5,30.0\n2,0.25,30.0\n",
    }
    for name, text in files.items():
        (folder / name).write_text(text)
    record.RunRecord(folder).finish(record.identity(config), "done")
    return 0


def wait(folder):
    def end(number, _):
        (folder / "ended").write_text(signal.Signals(number).name)
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, end)
    (folder / "began").touch()
    time.sleep(600)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
