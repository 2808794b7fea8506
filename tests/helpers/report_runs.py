"""Folders of runs as runs leave them, made without training, and the pages that show them."""

import csv
import html.parser
import json

import numpy as np

from simclrv2_tf.config import Config
from simclrv2_tf.experiments import plan
from simclrv2_tf.metrics.classification import wilson

METHODS = ("supervised", "fine_tuned", "self_distilled", "small_student")
NAMES = ("cat", "dog", "owl")
IMAGES = 60  # of the evaluation
VERSIONS = {"simclrv2_tf": "0.1.0", "python": "3.11.7", "tensorflow": "2.21.0"}


def run_of_stages(root, names=NAMES, ended=None, **options):
    """Writes a run of all stages with 1% and 10% of the labels; `ended` of them have a result."""
    config = Config(
        train_mode="semi_supervised", linear_evaluation=True, model_dir=str(root), **options
    )
    planned = plan.plan_stages(config)
    for place, stage in enumerate(planned):
        if ended is None or place <= ended:  # one more has begun
            has_ended = ended is None or place < ended
            write_stage(stage.config, names, 0.3 + 0.05 * place, has_ended, place)
        if place == 0 and (ended is None or ended > 0):
            (root / "config.json").write_text(config.to_json())
    return root


def run_of_one(root, names=NAMES, ended=True, **options):
    """Writes a run of one stage."""
    write_stage(Config(model_dir=str(root), **options), names, 0.7, ended)
    return root


def write_stage(config, names, top1, ended=True, seed=0):
    """Writes the files of a stage, which has read `IMAGES` evaluation images."""
    from pathlib import Path

    folder, rng = Path(config.model_dir), np.random.default_rng(seed)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(config.to_json())
    splits = {"train": {"examples": 1000}, "test": {"examples": IMAGES}}
    main = {"name": "folder:photos", "class_names": list(names), "splits": splits}
    session = {
        "began": "2026-01-02T03:04:05+00:00",
        "ended": "2026-01-02T03:14:05+00:00" if ended else None,
        "command": [
            "/opt/lib/simclrv2_tf/run.py",
            "--mode=train_then_eval",
            "--dataset=folder:a b",
        ],
        "versions": VERSIONS,
        "devices": ["CPU"],
        "replicas": 1,
        "precision": "float32",
    }
    record = {"made_of": {"data": {"main": main, "unlabelled": None}}, "sessions": [session]}
    (folder / "run.json").write_text(json.dumps(record))
    pretrains = config.train_mode == "pretrain"
    metrics = {"loss": 3.0, "seconds": 2.5}
    if pretrains:
        metrics |= {"contrast_loss": 2.5, "representation_rank": 40.0, "embedding_rank": 20.0}
        metrics |= {"probe_accuracy": 0.4} if names else {}
    rows = [{"epoch": k + 1, **{n: v / (k + 1) for n, v in metrics.items()}} for k in range(3)]
    write_table(folder / "history.csv", rows)
    if config.label_fraction and config.train_mode != "distill":
        ids = range(round(1000 * config.label_fraction[0]))
        (folder / "labelled_examples.txt").write_text("".join(f"train/{k}\n" for k in ids))
    if not ended:
        return
    labels = rng.integers(0, max(len(names), 1), IMAGES)
    right = rng.permutation(IMAGES) < round(top1 * IMAGES)
    result = {"global_step": 120, "encoder_parameters": 1234}
    if names:
        result |= {"label_top_1_accuracy": right.mean(), "label_top_5_accuracy": 1.0, "loss": 0.5}
        result |= {"expected_calibration_error": 0.0625, "images": IMAGES}
        accuracy = wilson(int(right.sum()), IMAGES)
        result |= {"label_top_1_low": accuracy.low, "label_top_1_high": accuracy.high}
    else:
        result |= {"contrast_loss": 2.5, "contrast_accuracy": 0.8}
    if pretrains:
        result |= {"representation_rank": 30.5, "representation_spread": 0.9}
        result |= {"embedding_rank": 10.5, "embedding_spread": 0.9}
        write_samples(folder / "representations.npz", labels, names, rng)
    elif names:
        predicted = np.where(right, labels, (labels + 1) % len(names))
        answers = [
            {
                "file": f"test/{k}",
                "class": names[labels[k]],
                "predicted": names[predicted[k]],
                "confidence": f"{rng.uniform(0.4, 1):.6f}",
            }
            for k in range(IMAGES)
        ]
        write_table(folder / "predictions.csv", answers)
        own = calibration(right.mean())
        kinds = {"student": own, "teacher": own}
        kinds = kinds if config.train_mode == "distill" else {config.train_mode: own}
        (folder / "calibration.json").write_text(json.dumps(kinds))
        (folder / "image_classifier.keras").write_bytes(b"network")
    (folder / "encoder.keras").write_bytes(b"network")
    (folder / "result.json").write_text(json.dumps(result))


def calibration(top1):
    """As `calibration.json` holds a classifier's, whose bins have all images."""
    empty = {"count": 0.0, "confidence": None, "accuracy": None}
    full = {"count": float(IMAGES), "confidence": 0.75, "accuracy": top1}
    bins = [
        {"lower": k / 15, "upper": (k + 1) / 15, **(full if k == 11 else empty)} for k in range(15)
    ]
    return {"top1": top1, "expected_calibration_error": 0.0625, "bins": bins}


def write_samples(path, labels, names, rng, side=32):
    count, classes = len(labels), max(len(names), 1)
    centers = rng.normal(size=(classes, 16))
    np.savez_compressed(
        path,
        ids=np.array([f"test/{k}" for k in range(count)]),
        labels=labels if names else np.full(count, -1),
        representations=(centers[labels] + 0.3 * rng.normal(size=(count, 16))).astype(np.float16),
        thumbnails=rng.integers(0, 256, (count, side, side, 3)).astype(np.uint8),
    )


def write_table(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


class Page(html.parser.HTMLParser):
    """A page, taken apart.

    Attributes:
        tags: (name, attributes) of each element, in order.
        ids: All ids.
        headings: Texts of h2 elements.
        text: All text outside of styles and scripts.
        tables: Rows of cells of each table, as (text, value); the value of a `data` element, or "".
        unclosed: Elements without an end, or ends without a beginning.
    """

    _VOID = {"meta", "link", "img", "br", "path", "circle", "rect", "use", "image"}

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.ids, self.headings, self.tables, self.unclosed = [], [], [], [], []
        self.text, self._open = "", []
        self.feed(text)
        self.close()
        self.unclosed += self._open

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.tags.append((tag, found))
        self.ids += [found["id"]] if "id" in found else []
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("th", "td"):
            self.tables[-1][-1].append(["", ""])
        elif tag == "data" and self._inside("td", "th"):
            self.tables[-1][-1][-1][1] = found["value"]
        elif tag == "h2":
            self.headings.append("")
        if tag not in self._VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self._VOID:
            self._open.pop()

    def handle_endtag(self, tag):
        if tag in self._VOID:
            return
        if not self._open or self._open[-1] != tag:
            self.unclosed.append(f"/{tag}")
        else:
            self._open.pop()

    def handle_data(self, data):
        if self._inside("style", "script"):
            return
        self.text += data
        if self._inside("td", "th"):
            self.tables[-1][-1][-1][0] += data
        if self._inside("h2"):
            self.headings[-1] += data

    def _inside(self, *tags):
        return any(tag in self._open for tag in tags)

    def table(self, *header):
        """The rows of the first table whose header begins like this, each a dict by column."""
        for rows in self.tables:
            names = [cell[0] for cell in rows[0]]
            if names[: len(header)] == list(header):
                return [dict(zip(names, map(tuple, row), strict=True)) for row in rows[1:]]
        raise AssertionError(f"no table begins with {header}: {[t[0] for t in self.tables]}")

    @property
    def values(self):
        """Every exact number of the page."""
        return [float(found["value"]) for tag, found in self.tags if tag == "data"]
