"""Evaluation of an exported classifier on labelled images that are not its run's."""

import csv
import json
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

from helpers.command_line import files
from helpers.predictions import CLASSES, SIZE, write_model, write_photos
from simclrv2_tf import augment, datasets, evaluate


def run(*arguments):
    return evaluate.main([str(argument) for argument in arguments])


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("models") / "model")


@pytest.fixture(scope="module")
def photos(images, tmp_path_factory):
    """Images in folders of two of the model's three classes, which sort otherwise than there."""
    source = write_photos(tmp_path_factory.mktemp("source") / "photos", images)
    root = tmp_path_factory.mktemp("photos") / "mine"
    for shade, name in (("dark", CLASSES[2]), ("light", CLASSES[0])):
        (root / name).mkdir(parents=True)
        for split in ("train", "test"):
            for path in (source / split / shade).glob("*.png"):
                shutil.copy(path, root / name / f"{split}{path.name}")
    return root


@pytest.fixture(scope="module")
def expected(model, photos):
    """By path below `photos`: the model's probabilities."""
    networks, found = model[1], {}
    for path in sorted(photos.rglob("*.png")):
        if path.read_bytes() == b"no image":
            continue
        pixels = datasets.decode_rgb(tf.io.read_file(str(path)))
        hidden = networks.head(networks.encoder(augment.evaluation_image(pixels, SIZE)[None]))[1]
        probabilities = keras.ops.softmax(networks.classifier(hidden)).numpy()[0]
        found[f"{path.parent.name}/{path.name}"] = probabilities
    return found


def test_numbers_are_those_of_each_image(model, photos, expected, capsys, caplog):
    root, _ = model
    before = files(root)
    assert run(f"--model={root}", f"--dataset=folder:{photos}", "--batch_size=7") == 0
    out = capsys.readouterr().out
    folder = root / "evaluations" / "mine"
    found = {row["file"]: row for row in rows(folder / "predictions.csv")}
    assert found.keys() == expected.keys() and len(found) == 33
    hits = 0
    for name, probabilities in expected.items():
        row = found[name]
        assert row["class"] == name.split("/")[0]
        assert row["predicted"] == CLASSES[probabilities.argmax()]
        assert float(row["confidence"]) == pytest.approx(probabilities.max(), abs=2e-5)
        hits += row["class"] == row["predicted"]
    result = json.loads((folder / "result.json").read_text())
    assert result["label_top_1_accuracy"] == hits / 33 and result["label_top_5_accuracy"] == 1
    assert result["label_top_1_low"] < hits / 33 < result["label_top_1_high"]
    assert result["images"] == 33 and result["skipped_images"] == 1
    assert sum(entry["count"] for entry in result["bins"]) == 33
    by_class = {row["class"]: row for row in rows(folder / "per_class.csv")}
    assert list(by_class) == list(CLASSES) and by_class["bee"]["recall"] == ""
    matrix = {row.pop("class"): row for row in rows(folder / "confusion_matrix.csv")}
    for label in CLASSES:
        for predicted in CLASSES:
            pairs = [(row["class"], row["predicted"]) for row in found.values()]
            assert int(matrix[label][predicted]) == pairs.count((label, predicted))
    recalls = [float(row["recall"]) for row in by_class.values() if row["recall"]]
    assert result["balanced_accuracy"] == pytest.approx(np.mean(recalls))
    assert {path.suffix for path in folder.iterdir()} == {".json", ".csv", ".png"}
    points = rows(folder / "calibration.csv")
    filled = [entry for entry in result["bins"] if entry["count"]]
    assert [float(r["accuracy (0 to 1)"]) for r in points] == [e["accuracy"] for e in filled]
    assert "33 images of train+test of" in out and "1 skipped" in out and "95% interval" in out
    assert "Skipping the unreadable image" in caplog.text
    after = files(root)
    assert {path: after[path] for path in before} == before  # the run's own files stay


def test_an_evaluation_is_not_overwritten(model, photos, tmp_path, capsys):
    common = [f"--model={model[0]}", f"--dataset=folder:{photos}", f"--output={tmp_path / 'a'}"]
    assert run(*common, "--split=test") == 0
    first = (tmp_path / "a" / "result.json").read_text()
    capsys.readouterr()
    assert run(*common) == 2
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("Error: ")]
    assert "`output` must be a new folder" in line
    assert (tmp_path / "a" / "result.json").read_text() == first
    assert run(*common, "--overwrite") == 0
    assert json.loads((tmp_path / "a" / "result.json").read_text())["images"] == 33


def test_a_path_names_a_folder(model, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(photos.parent)
    command = ["--split=test", f"--model={model[0]}", f"--output={tmp_path / 'a'}"]
    assert run(*command, f"--dataset={photos.name}") == 0
    result = json.loads((tmp_path / "a" / "result.json").read_text())
    assert result["dataset"] == f"folder:{photos.name}"


@pytest.mark.parametrize(
    "kind, says",
    [
        ("unlabelled", "`dataset` must have labels"),
        ("other classes", "Received: dog in folder:"),
        ("encoder", "`model` must be a classifier"),
        ("a file", "`output` must name a folder"),
        ("nothing", "`model` must be a run's folder"),
    ],
)
def test_bad_input_is_one_line(kind, says, model, photos, tmp_path, capsys):
    root, data = model[0], photos
    if kind == "unlabelled":
        data = photos / CLASSES[0]
    elif kind == "other classes":
        data = shutil.copytree(photos, tmp_path / "data")
        (data / CLASSES[0]).rename(data / "dog")
    path = {"encoder": root / "encoder.keras", "nothing": tmp_path / "nowhere"}.get(kind, root)
    path = root / "image_classifier.keras" if kind == "a file" else path
    output = [] if kind == "a file" else [f"--output={tmp_path / 'out'}"]
    assert run(f"--model={path}", f"--dataset=folder:{data}", *output) == 2
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("Error: ")]
    assert says in line and not (tmp_path / "out").exists()


def test_a_model_without_names_takes_the_labels_as_they_are(model, photos, tmp_path, capsys):
    root = shutil.copytree(model[0], tmp_path / "model")
    (root / "labels.txt").unlink()
    (root / "SHA256SUMS").unlink()
    shutil.rmtree(root / "hub")
    command = [f"--model={root}", f"--dataset=folder:{photos}", f"--output={tmp_path / 'out'}"]
    assert run(*command) == 0
    assert "The model has no class names" in capsys.readouterr().out
    classes = {row["class"] for row in rows(tmp_path / "out" / "predictions.csv")}
    assert classes == {CLASSES[0], CLASSES[2]}
