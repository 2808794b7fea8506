"""Reads the files of a run, finished or not, without TensorFlow, for its report."""

from __future__ import annotations

import csv
import io
import json
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from absl import logging
from etils import epath, epy

from simclrv2_tf import contents, run_options
from simclrv2_tf.errors import UserError, raised_as
from simclrv2_tf.experiments import duplicates, plan, registry, samples
from simclrv2_tf.network_options import NetworkOptions
from simclrv2_tf.options import of

with epy.lazy_imports():
    import numpy as np

    from simclrv2_tf import predictions
    from simclrv2_tf.report.page import runs

# Prefixes of the row names of pretraining and linear evaluation.
STARTS = {"linear_eval": ", pretrained", plan.RANDOM_INIT: ", random"}

_USABLE = (contents.IMAGE_CLASSIFIER, *contents.KERAS_FILES)


class RunFilesError(UserError):
    """Raised for a folder without a run, or a file of a run that cannot be read."""


def read(path: str) -> runs.Run:
    """Reads a run of one stage or of several, finished or not.

    Damaged files that the report does not require are omitted with a warning.

    Raises:
        RunFilesError: there is no run in the folder, or a `result.json` or `run.json` is damaged.
        OptionsError: a `config.json` is damaged.
    """
    with raised_as(UserError, f"The run in {path} cannot be read"):
        return _read(path)


class _Optional:
    """Reads files that the report does not require.

    Attributes:
        root: The folder of the run.
        unreadable: (file, reason) of files that could not be read so far.
    """

    def __init__(self, root: epath.Path):
        self.root = root
        self.unreadable: list[tuple[str, str]] = []

    def read(self, path: epath.Path, reader: Callable[[epath.Path], Any], missing: Any) -> Any:
        """Returns `reader(path)`, or `missing` if the file does not exist or is damaged."""
        if not path.exists():
            return missing
        try:
            return reader(path)
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            logging.warning("%s cannot be read (%s). The report omits it.", path, reason)
            self.unreadable.append((path.relative_to(self.root).as_posix(), reason))
            return missing


def _read(path: str) -> runs.Run:
    root = epath.Path(path)
    if not root.is_dir():
        raise RunFilesError(f"`run` must be the folder of a run. Received: {path}, no such folder")
    folders = _stage_folders(root)
    if not folders:
        raise RunFilesError(
            f"`run` must be the folder of a run. Received: {path}, in which no stage has started "
            "(it has no config.json)"
        )
    optional = _Optional(root)
    stages = _with_counts([_stage(root, folder, optional) for folder in folders])
    options = run_options.read(root if (root / "config.json").exists() else folders[0])
    first = folders[0]
    near_duplicates = optional.read(first / duplicates.FILE, _near_duplicates, None)
    return runs.Run(
        path,
        options,
        stages,
        optional.read(first / samples.FILE, _samples, None),
        optional.read(first / "views.png", lambda file: file.read_bytes(), None),
        optional.read(first / "skipped_images.csv", _skipped, []),
        optional.unreadable,
        near_duplicates,
    )


def _stage_folders(root: epath.Path) -> list[epath.Path]:
    """Returns the run's own folder, or the folders of its stages, in order."""
    if (root / "config.json").exists() and contents.Contents(str(root)).kind != "stages":
        options = run_options.read(root)
        if options.get("train_mode") not in plan.RUNS:
            return [root]
    order = [name for stage in plan.ORDER for name in (stage, f"{stage}_random_init")]
    found = []
    for folder in contents.Contents(str(root)).below:
        labels = re.fullmatch(r"label(?:_fraction|s_per_class)_([\d.e-]+)", folder.parent.name)
        own = folder.parent == root
        if folder.name in order and (own or labels) and (folder / "config.json").exists():
            amount = 0.0 if own else float(labels[1])
            found.append((amount, order.index(folder.name), folder))
    return [folder for _, _, folder in sorted(found)]


def _stage(root: epath.Path, folder: epath.Path, optional: _Optional) -> dict[str, Any]:
    """Returns the fields of a `runs.Stage`, except for those that depend on other stages."""
    options = run_options.read(folder)
    mode = options.get("train_mode")
    if mode not in registry.stages():
        raise RunFilesError(f"{folder} holds no stage of a run. Received: train_mode={mode!r}")
    below = folder != root
    name = folder.name if below else mode
    network = {key: options[key] for key in of(NetworkOptions) if key in options}
    module = contents.Contents(str(folder)).saved_model
    modules = [f"hub/{module.name}"] if module else []
    return {
        "name": name,
        "title": registry.stages()[mode].title + STARTS.get(name, "") * below,
        "folder": str(folder.relative_to(root)) if below else "",
        "encoder": NetworkOptions(**network).encoder_description,
        "options": options,
        "history": optional.read(folder / "history.csv", _history, []),
        "result": _json(folder / "result.json"),
        "calibration": optional.read(folder / "calibration.json", _calibration, {}),
        "record": _json(folder / "run.json"),
        "files": [file for file in _USABLE if (folder / file).exists()] + modules,
        "num_labels": optional.read(folder / "labelled_examples.txt", _listed, None),
        "predictions": optional.read(folder / predictions.NAME, predictions.read, None),
    }


def _with_counts(found: list[dict[str, Any]]) -> list[runs.Stage]:
    """Fills in fields that depend on several stages: numbers of labels and evaluated images."""
    listed: dict[str, int] = {}
    for fields in found:
        if fields["num_labels"]:
            listed.setdefault(fields["folder"].rpartition("/")[0], fields["num_labels"])
    for fields in found:
        options, examples = fields["options"], _examples(fields["record"])
        trained = examples.get(options.get("train_split", "train"))
        subset = options.get("label_fraction") or options.get("labels_per_class")
        if subset:
            fields["num_labels"] = listed.get(fields["folder"].rpartition("/")[0])
            fraction = (options.get("label_fraction") or [None])[0]
            if fraction is None and fields["num_labels"] and trained:
                fraction = fields["num_labels"] / trained
            fields["fraction"] = fraction
        elif plan.learns_from_labels(options["train_mode"], options.get("distill_alpha", 1.0)):
            fields["num_labels"] = trained
        fields["images"] = _evaluated(fields)
    counted = next((fields["images"] for fields in found if fields["calibration"]), None)
    for fields in found:
        if fields["name"] == "pretrain" and counted:
            fields["images"] = counted
    return [runs.Stage(**fields) for fields in found]


def _examples(record: Mapping[str, Any]) -> dict[str, int]:
    """Returns the number of images of each split, from `run.json`."""
    main = ((record.get("made_of") or {}).get("data") or {}).get("main") or {}
    return {name: split["examples"] for name, split in main.get("splits", {}).items()}


def _evaluated(fields: Mapping[str, Any]) -> int | None:
    """Returns the number of evaluated images; of earlier versions, from calibration or splits."""
    if fields["result"].get("images"):
        return fields["result"]["images"]
    calibration = fields["calibration"]
    own = calibration.get("student") or calibration.get(fields["options"]["train_mode"])
    if own:
        return round(sum(entry["count"] for entry in own["bins"]))
    options, record = fields["options"], fields["record"]
    images = _examples(record).get(runs.evaluated_split(options, record))
    if images and options.get("eval_steps"):
        images = min(images, options["eval_steps"] * options["eval_batch_size"])
    return images


def _json(path: epath.Path) -> dict[str, Any]:
    """Returns the JSON object in a file; empty if there is no file."""
    if not path.exists():
        return {}
    with raised_as(RunFilesError, f"{path} cannot be read"):
        return _object(path)


def _object(path: epath.Path) -> dict[str, Any]:
    held = json.loads(path.read_text())
    if not isinstance(held, dict):
        raise TypeError(f"it holds a {type(held).__name__}, not an object")
    return held


def _calibration(path: epath.Path) -> dict[str, Any]:
    """Maps a classifier's name to its calibration."""
    held = _object(path)
    numbers = {"expected_calibration_error", "top1", "bins"}
    for name, result in held.items():
        if not numbers <= result.keys() or not all(entry["count"] >= 0 for entry in result["bins"]):
            raise ValueError(f"{name} needs {', '.join(sorted(numbers))}")
    return held


def _rows(path: epath.Path) -> list[dict[str, str]]:
    """Returns the rows of a table by column."""
    return list(csv.DictReader(io.StringIO(path.read_text())))


def _history(path: epath.Path) -> list[dict[str, str]]:
    """Returns rows of numbers; empty cells were not measured."""
    rows = _rows(path)
    for row in rows:
        float(row["epoch"])
        for number in row.values():
            float(number or 0)
    return rows


def _skipped(path: epath.Path) -> list[tuple[str, str]]:
    return [(row["file"], row["reason"]) for row in _rows(path)]


def _listed(path: epath.Path) -> int:
    """Returns the number of lines of a file."""
    return len(path.read_text().splitlines())


def _samples(path: epath.Path) -> runs.Samples:
    """Returns the images whose representations are finite."""
    names = ("ids", "labels", "representations", "thumbnails")
    arrays = _arrays(path, names)
    shapes = [array.shape for array in arrays.values()]
    if [len(shape) for shape in shapes] != [1, 1, 2, 4] or len({shape[0] for shape in shapes}) > 1:
        raise ValueError(f"it needs {', '.join(names)} of the same images, but has shapes {shapes}")
    finite = np.isfinite(arrays["representations"]).all(axis=1)
    kept = {name: array[finite] for name, array in arrays.items()}
    return runs.Samples(**kept, left_out=int(np.sum(~finite)))


def _near_duplicates(path: epath.Path) -> runs.NearDuplicates:
    names = ("compared", "of", "ids", "labels", "differences", "mirrored", "thumbnails")
    arrays = _arrays(path, names)
    pairs = len(arrays["differences"])
    shapes = {name: array.shape for name, array in arrays.items()}
    expected = {"compared": (2,), "of": (2,), "ids": (pairs, 2), "labels": (pairs, 2)}
    expected["mirrored"] = (pairs,)
    shown = shapes["thumbnails"]
    if {**shapes, **expected} != shapes or len(shown) != 5 or shown[1] != 2 or shown[0] > pairs:
        raise ValueError(f"it needs {', '.join(names)} of the same pairs, but has shapes {shapes}")
    both = [tuple(map(int, arrays.pop(name))) for name in ("compared", "of")]
    return runs.NearDuplicates(*both, **arrays)


def _arrays(path: epath.Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Returns the arrays of an NPZ file by name."""
    content = path.read_bytes()
    if not zipfile.is_zipfile(io.BytesIO(content)):  # NumPy's error would be about pickles
        raise ValueError("it is not an NPZ file, or is truncated")
    with np.load(io.BytesIO(content), allow_pickle=False) as held:
        return {name: held[name] for name in names}
