"""Damages checkpoints, images and command lines at random, and counts the outcomes.

Command: python benchmarks/reliability/damage.py (about 5 minutes)

* Checkpoints: in the newest of two, bytes are flipped, parts are cut, or a file is removed.
  Restoring must give the values of either checkpoint or an error of ours.
* Images: JPEG and PNG files with bytes flipped, cut, or swapped. Each must be read or skipped with
  a reason, and must not end the pipeline.
* Command lines: random flags with values in their range, at its bounds, beyond them and of another
  type. Each must give a configuration, the same after a round trip through config.json, or one line
  per problem; nothing is written.
"""

import argparse
import collections
import contextlib
import datetime
import io
import itertools
import json
import logging
import pathlib
import random
import shutil
import tempfile

import hypothesis
import numpy as np
from hypothesis import strategies

from simclrv2_tf import environment

environment.prepare()

import tensorflow as tf  # noqa: E402
from PIL import Image  # noqa: E402

from simclrv2_tf import datasets, heads, options, weights  # noqa: E402
from simclrv2_tf.config import Config  # noqa: E402
from simclrv2_tf.config.config import flag_options  # noqa: E402
from simclrv2_tf.errors import UserError  # noqa: E402
from simclrv2_tf.experiments import early  # noqa: E402

RESULTS = pathlib.Path(__file__).with_name("results.json")


def mutated(content: bytes, draw: random.Random) -> bytes:
    """Flips up to 8 bits of `content`, cuts or zeroes a part, truncates it, or swaps two parts."""
    kind = draw.choice(("flip", "cut out", "cut off", "swap", "zeros"))
    changed = bytearray(content)
    first, second = sorted(draw.randrange(len(content)) for _ in range(2))
    if kind == "flip":
        for _ in range(draw.randint(1, 8)):
            changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    elif kind == "cut out":
        del changed[first:second]
    elif kind == "cut off":
        del changed[first:]
    elif kind == "swap":
        size = min(second - first, len(content) - second)
        changed[first : first + size], changed[second : second + size] = (
            changed[second : second + size],
            changed[first : first + size],
        )
    else:
        changed[first:second] = bytes(second - first)
    return bytes(changed)


def checkpoints(count: int, draw: random.Random) -> dict[str, int]:
    """Counts the outcomes of restoring after damage to the newest of two checkpoints."""
    model = heads.projection_head(64)
    variables = weights.named(model.weights)
    tally: collections.Counter = collections.Counter()
    with tempfile.TemporaryDirectory() as parent:
        whole = pathlib.Path(parent) / "whole"
        store = weights.Checkpoints(str(whole), variables, keep=2)
        values = {}
        for step in (1, 2):
            for variable in model.weights:
                variable.assign(np.random.default_rng(step).normal(size=variable.shape))
            store.save(step)
            values[step] = [variable.numpy() for variable in model.weights]
        folder = pathlib.Path(parent) / "damaged"
        for _ in range(count):
            shutil.copytree(whole, folder)
            file = folder / draw.choice(
                ("ckpt-2.index", "ckpt-2.data-00000-of-00001", "checkpoint")
            )
            if draw.random() < 0.1:
                file.unlink()
            else:
                file.write_bytes(mutated(file.read_bytes(), draw))
            for variable in model.weights:
                variable.assign(tf.zeros_like(variable))
            try:
                restored = weights.Checkpoints(str(folder), variables, keep=2).restore()
            except weights.CheckpointError:
                tally["refused in one line"] += 1
            except Exception as error:
                tally[f"traceback: {type(error).__name__}"] += 1
            else:
                found = [variable.numpy() for variable in model.weights]
                same = {
                    step: all(map(np.array_equal, found, held)) for step, held in values.items()
                }
                name = {1: "the older one restored", 2: "the newest restored whole"}
                wrong = "wrong weights" if restored else "nothing restored"
                tally[next((name[step] for step in (2, 1) if same[step]), wrong)] += 1
            shutil.rmtree(folder)
    return dict(tally)


def images(count: int, draw: random.Random) -> dict[str, int]:
    """Counts the outcomes of reading mutated images."""
    tally: collections.Counter = collections.Counter()
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (8, 8, 3), np.uint8).repeat(9, 0).repeat(7, 1)
    with tempfile.TemporaryDirectory() as parent:
        folder = pathlib.Path(parent)
        originals = []
        for kind, mode in (("JPEG", "RGB"), ("JPEG", "L"), ("PNG", "RGBA"), ("PNG", "P")):
            file = io.BytesIO()
            Image.fromarray(pixels).convert(mode).save(file, kind)
            originals.append((kind.lower().replace("jpeg", "jpg"), file.getvalue()))
        for index in range(count):
            suffix, content = draw.choice(originals)
            (folder / f"{index:05}.{suffix}").write_bytes(mutated(content, draw))
        suffix, content = originals[0]
        (folder / f"whole.{suffix}").write_bytes(content)
        try:
            data = datasets.open_dataset(f"folder:{folder}")
            tally["skipped when opened"] = data.num_skipped
            for split in data.splits:
                for batch in datasets.evaluation_batches(
                    data.split(split), batch_size=64, image_size=16
                ):
                    tally["read"] += int(tf.reduce_sum(batch[2]))
            tally["skipped when read"] = data.num_skipped - tally["skipped when opened"]
        except Exception as error:
            tally[f"traceback: {type(error).__name__}"] += 1
    return dict(tally)


VALUES = (
    *("", "0", "1", "-1", "1e400", "nan", "inf", "true", "False", "None", "1,2", ",", "0.5", "\0"),
    *(
        "train",
        "train[:10%]",
        "train[",
        "folder:",
        "folder:/",
        "../..",
        "a/b",
        "[x]",
        "*",
        "~",
        "ü",
    ),
    *("pretrain", "distill", "finetune", "semi_supervised", "eval", "adam", "lars", "v1", "cifar"),
    *("999999999999999999999", "0x10", "1_000", " 8 ", "--seed", "=", "{}", "'", '"', "\n"),
)


def _values(declared: options.Option) -> strategies.SearchStrategy[str]:
    """Draws values of an option as text: in its range, at its bounds, and beyond them."""
    bounds = {declared.minimum, declared.maximum, declared.below, 0} - {None}
    near = [bound + step for bound in bounds for step in (-1, 0, 1, 0.5)]
    numbers = {
        bool: strategies.booleans(),
        int: strategies.integers(-2, 300) | strategies.integers(),
        float: strategies.floats(0, 1) | strategies.floats(),
        str: strategies.sampled_from(VALUES),
    }
    one = strategies.sampled_from(declared.choices or near) | numbers[declared.kind]
    if declared.many:
        one = strategies.lists(one, min_size=1, max_size=3).map(lambda x: ",".join(map(str, x)))
    return one.map(str)


def _flags() -> strategies.SearchStrategy[list[str]]:
    """Draws a flag as typed, mostly with a value of its type."""
    known = flag_options()
    hostile = strategies.sampled_from(VALUES) | strategies.text(max_size=8)
    names = strategies.sampled_from(
        [*known, "flagfile", "no_such_flag", "", "distill.temperature", "help_", "x.y"]
    )
    forms = strategies.sampled_from(["--{}={}"] * 6 + ["--{} {}", "--no{}", "-{}={}", "{}{}"])

    def typed(name, form, value):
        return form.format(name, value).split(" ", 1)

    def of(name):
        values = strategies.one_of(_values(known[name]), hostile) if name in known else hostile
        return strategies.builds(typed, strategies.just(name), forms, values)

    usual = strategies.sampled_from(list(known)).flatmap(
        lambda name: strategies.builds(
            typed, strategies.just(name), strategies.just("--{}={}"), _values(known[name])
        )
    )
    return usual | usual | names.flatmap(of)


def command_lines(count: int, draw: random.Random) -> dict[str, int]:
    """Counts the outcomes of random flags with random values."""
    tally: collections.Counter = collections.Counter()

    def outcome(arguments):
        try:
            with contextlib.redirect_stderr(io.StringIO()):
                config = Config.from_argv(["run", *arguments])
                early.check(config)
        except (UserError, OSError) as error:
            lines = error.lines if isinstance(error, UserError) else [str(error)]
            said = lines and all(line.strip() for line in lines)
            return "refused, a line for each problem" if said else "wrong: an empty message"
        except SystemExit:
            return "help"
        same = Config.from_json(config.to_json()) == config
        return "a configuration" if same else "wrong: not the same after config.json"

    with tempfile.TemporaryDirectory() as folder:

        @hypothesis.seed(draw.randrange(2**32))
        @hypothesis.settings(
            max_examples=count,
            deadline=None,
            database=None,
            phases=[hypothesis.Phase.generate],
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        @hypothesis.given(strategies.lists(_flags(), min_size=1, max_size=5))
        def meet(lines):
            arguments = [f"--model_dir={folder}/run", *itertools.chain(*lines)]
            try:
                found = outcome(arguments)
            except Exception as error:
                found = f"traceback: {type(error).__name__}"
                print(type(error).__name__, error, arguments, flush=True)
            tally[found] += 1

        meet()
        tally["folders made"] = len(list(pathlib.Path(folder).iterdir()))
    return dict(tally)


def table(sessions: list[dict]) -> str:
    """Returns the counts of each session as a Markdown table."""
    lines = ["| session | damaged | count | outcome |", "| --- | --- | --- | --- |"]
    for session in sessions:
        for name, found in session.items():
            if isinstance(found, dict):
                counts = ", ".join(f"{what}: {n}" for what, n in found.items() if what != "tried")
                lines.append(f"| {session['date']} | {name} | {found['tried']:,} | {counts} |")
    return "\n".join(lines)


def main() -> None:
    """Runs all damage, prints the table and adds a session to results.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoints", type=int, default=200)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--command_lines", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    kinds = {
        "checkpoints": (checkpoints, arguments.checkpoints),
        "images": (images, arguments.images),
        "command lines": (command_lines, arguments.command_lines),
    }
    results = {
        name: {"tried": count, **function(count, random.Random(arguments.seed))}
        for name, (function, count) in kinds.items()
    }
    held = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    date = f"{datetime.datetime.now():%Y-%m-%d %H:%M}"
    held.setdefault("damage", []).append({"date": date, "seed": arguments.seed, **results})
    print(table(held["damage"][-1:]))
    RESULTS.write_text(json.dumps(held, indent=2) + "\n")


if __name__ == "__main__":
    main()
