"""Suggestions by the command line: the table, the page, and what cannot be suggested."""

import csv
import json
import shutil

import numpy as np
import pytest

from helpers.command_line import files
from helpers.predictions import SIZE, outputs_of, write_model, write_photos
from helpers.report_runs import Page
from simclrv2_tf import cli, datasets
from simclrv2_tf.config import Config
from simclrv2_tf.metrics.representations import unit_rows
from simclrv2_tf.suggest import command, typiclust

PHOTOS = 33  # that can be read


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A run that exports only .keras files, as runs with few labels do."""
    return write_model(tmp_path_factory.mktemp("models") / "model")


@pytest.fixture(scope="module")
def photos(images, tmp_path_factory):
    return write_photos(tmp_path_factory.mktemp("photos") / "photos", images)


def run(model, photos, *arguments):
    return command.main([f"--model={model}", f"--images={photos}", *map(str, arguments)])


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def as_run(model, tmp_path, **options):
    """The network's files, as a run with these options writes them."""
    root = tmp_path / "run"
    shutil.copytree(model, root)
    (root / "config.json").write_text(Config(model_dir=str(root), **options).to_json())
    return root


def test_table_and_page_are_the_choice(model, photos, tmp_path, monkeypatch, capsys, caplog):
    monkeypatch.chdir(tmp_path)
    paths, representations, *_ = outputs_of(model[1], photos)
    short = ["suggest", str(model[0]), str(photos), "--count=5", "--seed=3", "--batch_size=7"]
    assert cli.main(short) == 0
    said = capsys.readouterr().out
    assert "1 unreadable image(s) were skipped." in said and "train/dark/0.png" in caplog.text
    assert said.endswith(
        "Wrote 5 images to label to suggestions.csv, with a page in suggestions.html\n"
    )
    rows = rows_of(tmp_path / "suggestions.csv")
    assert tuple(rows[0]) == command.HEADER
    x = unit_rows(representations, np.float32)
    expected = typiclust.choose(x, np.zeros(PHOTOS, bool), 5, seed=3)
    assert [row["file"] for row in rows] == [paths[choice.row] for choice in expected]
    for rank, (row, choice) in enumerate(zip(rows, expected, strict=True), start=1):
        assert (row["rank"], row["label"]) == (str(rank), "")
        assert row["cluster"] == str(choice.cluster + 1)
        assert row["cluster_size"] == str(choice.size)
        assert float(row["typicality"]) == pytest.approx(choice.typicality, rel=1e-2)
    text = (tmp_path / "suggestions.html").read_text()
    page = Page(text)
    assert page.unclosed == [] and len(page.ids) == len({*page.ids})
    shown = [found["aria-label"] for _, found in page.tags if found.get("class") == "thumbnail"]
    assert shown == [f"{rank}: {row['file']}" for rank, row in enumerate(rows, start=1)]
    assert page.values == [5, PHOTOS, 0]
    for name, value in ((n, v) for _, found in page.tags for n, v in found.items()):
        if name in ("src", "href"):
            assert value.startswith(("#", "data:")), value[:40]
    assert "url(" not in text.partition("</style>")[0]


def test_thumbnails_are_whole_images(photos):
    wanted = ["train/light/3.png", "test/dark/1.png"]
    found = command._thumbnails(datasets.open_images(str(photos)), wanted, batch=1)
    assert found.shape == (2, 96, 96, 3) and found.dtype == np.uint8
    # Dark and light squares: whatever the size of the image, its shade is in the middle.
    assert found[0, 40:56, 40:56].mean() > found[1, 40:56, 40:56].mean() + 50


def test_a_filled_table_is_one_of_labels(model, tmp_path, images):
    """What the page says: the table becomes labels.csv; the next suggestions leave these out."""
    photos = tmp_path / "photos"
    shutil.copytree(images / "train", photos / "below")
    table = tmp_path / "first.csv"
    assert run(model[0], photos, "--count=6", f"--output={table}") == 0
    rows = rows_of(table)
    with (photos / "labels.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, command.HEADER)
        writer.writeheader()
        for row in rows:
            writer.writerow({**row, "label": row["file"].split("/")[1]})
    data = datasets.open_dataset(f"folder:{photos}")
    assert data.class_names == ("dark", "light")
    assert sum(np.sum(data.split(name).labels()[1] >= 0) for name in data.splits) == 6
    more = tmp_path / "more.csv"
    known = f"--labelled={photos}"
    assert run(model[0], photos, "--count=100", known, f"--output={more}") == 0
    assert {row["file"] for row in rows_of(more)}.isdisjoint({row["file"] for row in rows})


def test_fewer_images_than_were_asked_for(model, photos, tmp_path, capsys):
    table = tmp_path / "all.csv"
    copy = tmp_path / "photos"
    shutil.copytree(photos, copy)
    shutil.copy(copy / "train/dark/1.png", copy / "copy.png")
    assert run(model[0], copy, "--count=100", f"--output={table}") == 0
    files = [row["file"] for row in rows_of(table)]
    assert len(files) == len({*files}) == PHOTOS
    assert len({"copy.png", "train/dark/1.png"} & {*files}) == 1
    said = capsys.readouterr().out
    assert "100 images were requested, but only 33 are suggested" in said
    assert "33 are suggested" in (tmp_path / "all.html").read_text()


@pytest.mark.parametrize("known", ["run", "folder", "images elsewhere"])
def test_labelled_images_are_covered(known, model, photos, tmp_path, capsys):
    listed = [f"train/dark/{number}.png" for number in range(1, 8)]
    root, given = model[0], []
    if known == "run":
        options = {"train_mode": "finetune", "labels_per_class": 7}
        root = as_run(model[0], tmp_path, dataset=f"folder:{photos}", **options)
        (root / "labelled_examples.txt").write_text("".join(f"{name}\n" for name in listed))
        counted = "7 of the images, and 0 others"
    else:
        place = photos / "train" if known == "folder" else tmp_path / "elsewhere"
        if known == "images elsewhere":
            shutil.copytree(photos / "train", place)
        given = [f"--labelled={place}"]
        inside, others = (23, 0) if known == "folder" else (0, 23)
        counted = f"{inside} of the images, and {others} others"
    table = tmp_path / "found.csv"
    assert run(root, photos, "--count=4", *given, f"--output={table}") == 0
    assert counted in capsys.readouterr().out
    names = {row["file"] for row in rows_of(table)}
    # A copy of a labelled image is no image to label either.
    covered = (
        listed
        if known == "run"
        else [f"train/{c}/{i}.png" for c in ("dark", "light") for i in range(12)]
    )
    assert len(names) == 4 and names.isdisjoint(covered)


def test_what_a_run_has_learned_from(model, photos, tmp_path, caplog, capsys):
    data = {"dataset": f"folder:{photos}"}
    table = f"--output={tmp_path / 'a.csv'}"
    root = as_run(model[0], tmp_path, train_mode="supervised", **data)
    assert run(root, photos, "--count=2", table) == 0  # all labels of its training images
    assert "Already labelled: 23 of the images" in capsys.readouterr().out
    assert run(root, photos, "--count=2", "--labelled=none", table, "--overwrite") == 0
    assert "Already labelled" not in capsys.readouterr().out
    # A student without labels has learned its teacher's classes.
    student = tmp_path / "student"
    shutil.copytree(model[0], student)
    options = {"train_mode": "distill", "teacher": str(root), **data}
    (student / "config.json").write_text(Config(model_dir=str(student), **options).to_json())
    assert run(student, photos, "--count=2", table, "--overwrite") == 0
    assert "Already labelled: 23 of the images" in capsys.readouterr().out

    def changed(**options):
        (root / "config.json").write_text(Config(model_dir=str(root), **options).to_json())

    changed(train_mode="pretrain", **data)
    assert run(root, photos, "--count=2", table, "--overwrite") == 0
    assert "Already labelled" not in capsys.readouterr().out
    changed(train_mode="supervised", dataset="fashion_mnist_small")
    assert run(root, photos, "--count=2", table, "--overwrite") == 0
    assert "not a folder of images: no image counts as labelled" in caplog.text
    assert run(root, photos, table, f"--labelled={root}", "--overwrite") == 2
    changed(train_mode="supervised", dataset=f"folder:{tmp_path / 'moved'}")
    assert run(root, photos, table, "--overwrite") == 2
    (*_, moved) = capsys.readouterr().err.splitlines()
    assert "--labelled=FOLDER with the labelled images, or --labelled=none." in moved


def test_bad_input_is_one_line_and_nothing_is_written(model, photos, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "kept.csv").write_text("mine")
    (tmp_path / "shown.html").write_text("mine")
    (tmp_path / "empty").mkdir()
    pretrained = as_run(model[0], tmp_path, train_mode="pretrain", dataset=f"folder:{photos}")
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "1.png").write_bytes(b"no image")
    several = tmp_path / "several"
    (several / "pretrain").mkdir(parents=True)
    for folder in (several, several / "pretrain"):
        (folder / "config.json").write_text("{}")
    stopped = tmp_path / "stopped"
    (stopped / "checkpoints").mkdir(parents=True)
    (stopped / "config.json").write_text("{}")
    (stopped / "checkpoints" / "ckpt-6.index").write_bytes(b"")
    checkpoint = stopped / "checkpoints" / "ckpt-6"
    before = files(tmp_path)
    common = {"model": model[0], "images": photos, "count": 3}
    for given, message in (
        ({"output": "kept.csv"}, "kept.csv already exists"),
        ({"output": "shown.csv"}, "shown.html already exists"),
        ({"output": "a.txt"}, "`output` must end in .csv"),
        ({"output": "no/a.csv"}, "does not exist. Create it"),
        ({"model": tmp_path / "nowhere"}, "`model` must be"),
        ({"model": checkpoint}, f"It is a checkpoint: give the folder of its run, {stopped}"),
        ({"model": stopped}, "It has no exports yet"),
        ({"model": model[0] / "head.keras"}, "must accept images"),
        ({"endpoint": "tail"}, "`endpoint` must be one of"),
        ({"images": tmp_path / "nowhere"}, "existing folder or file"),
        ({"images": tmp_path / "empty"}, "must hold some"),
        ({"images": damaged}, "none of 1 can be read"),
        ({"labelled": tmp_path / "nowhere"}, "`labelled` must be the folder of a run"),
        ({"labelled": pretrained}, "must be a run that learned from labels"),
        ({"labelled": several}, "`labelled` must be one stage of a run of several"),
        (
            {"labelled": photos / "train", "images": photos / "train"},
            "whose 23 images all have one",
        ),
    ):
        arguments = [f"--{name}={value}" for name, value in (common | given).items()]
        assert command.main(arguments) == 2, given
        assert message in capsys.readouterr().err.splitlines()[-1], given
    for given in ("--count=0", "--seed=-1", f"--seed={2**32}"):
        with pytest.raises(SystemExit) as caught:
            run(model[0], photos, given)
        assert caught.value.code == 2
    assert files(tmp_path) == before
    assert run(model[0], photos, "--count=3", "--output=kept.csv", "--overwrite") == 0
    assert len(rows_of(tmp_path / "kept.csv")) == 3


def test_without_scikit_learn(model, photos, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(typiclust.importlib.util, "find_spec", lambda name: None)
    assert run(model[0], photos, f"--output={tmp_path / 'a.csv'}") == 2
    assert "pip install 'simclrv2-tf[suggest]'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_files_of_a_network_alone_are_enough(model, photos, tmp_path):
    """Without a run nothing has labels; another file of the same network chooses the same."""
    lone = tmp_path / "lone"
    lone.mkdir()
    shutil.copy(model[0] / "encoder.keras", lone)
    (lone / "inputs.json").write_text(json.dumps({"image_size": SIZE}))
    module = write_model(tmp_path / "module", ("saved_model",))[0] / "hub" / "3"
    names = []
    for place, output in ((lone / "encoder.keras", "a.csv"), (module, "b.csv")):
        assert run(place, photos, "--count=4", f"--output={tmp_path / output}") == 0
        names.append([row["file"] for row in rows_of(tmp_path / output)])
    assert names[0] == names[1]
