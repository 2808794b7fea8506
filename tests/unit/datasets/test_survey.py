"""How many images a data set has, and how large they are, without opening it."""

import pytest
from PIL import Image

from helpers.colored import save, write_folder
from simclrv2_tf.datasets import DatasetError, open_dataset, survey
from simclrv2_tf.datasets.images import EXTENSIONS
from simclrv2_tf.datasets.survey import Survey


def test_suffixes_are_those_that_are_read():
    assert set(survey.SUFFIXES) == set(EXTENSIONS)


def layouts(root):
    """Folders in the layouts that are read, by name."""
    write_folder(root / "split")
    for label, count in enumerate((1, 2, 9, 26)):
        for number in range(count):
            save(root / "classes" / "abcd"[label] / "deep" / f"{number}.png", label, number)
            save(root / "flat" / f"{label}-{number}.png", label, number)
            save(root / "wrapped" / "in" / "abcd"[label] / f"{number}.png", label, number)
    for number in range(12):
        save(root / "table" / f"{number}.png", 0, number)
        split = root / "tables" / ("test" if number % 4 == 0 else "train")
        save(split / f"{number}.png", 0, number)
        with open(split / "metadata.csv", "a") as file:
            file.write("" if file.tell() else "file_name,label\n")
            file.write(f"{number}.png,{'xy'[number % 3 == 0]}\n")
    rows = "".join(f"{number}.png,{'xy'[number % 2]}\n" for number in range(12))
    (root / "table" / "labels.csv").write_text("file,label\n" + rows)
    return ("split", "classes", "flat", "wrapped", "table", "tables")


def test_the_count_is_that_of_the_opened_set(tmp_path):
    for layout in layouts(tmp_path):
        name = f"folder:{tmp_path / layout}"
        opened, found = open_dataset(name), survey.survey(name)
        assert found.count == opened.splits["train"], layout
        assert found.classes == opened.num_classes, layout
        assert found.unread


def test_files_that_cannot_be_read_count(tmp_path):
    """Reading all files takes as long as opening the set; who prints the count says so."""
    for number in range(12):
        save(tmp_path / f"{number}.png", 0, number)
    whole = survey.survey(f"folder:{tmp_path}")
    for number in range(4):
        (tmp_path / f"{number}.png").write_bytes(b"no image")
    damaged = survey.survey(f"folder:{tmp_path}")
    assert (damaged.count, damaged.unread) == (whole.count, True)
    assert open_dataset(f"folder:{tmp_path}").splits["train"] < damaged.count


def test_sides_are_the_shorter_ones(tmp_path):
    for number, size in enumerate([(30, 90), (200, 40), (50, 50)]):
        save(tmp_path / f"{number}.jpg", 0, number, size)
    assert survey.survey(f"folder:{tmp_path}").side == 40


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.png", {}),
        ("a.jpg", {}),
        ("progressive.jpg", {"progressive": True}),
        ("thumbnail.jpg", {"exif": b"Exif\x00\x00" + bytes(60_000)}),
        ("profile.jpg", {"icc_profile": bytes(100_000)}),
    ],
)
def test_headers_tell_the_size(tmp_path, name, options):
    path = tmp_path / name
    Image.effect_noise((123, 45), 50).convert("RGB").save(path, **options)
    assert survey.image_size(path) == (123, 45)


@pytest.mark.parametrize(
    "content",
    [b"", b"no image", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"\xff\xd8" + b"\xff" * 50],
)
def test_damaged_files_have_no_size(tmp_path, content):
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    assert survey.image_size(path) is None
    assert survey.image_size(tmp_path / "missing.jpg") is None


def test_a_folder_that_is_not_read_is_refused_as_where_it_is_opened(tmp_path):
    for name in ("images", "masks"):
        save(tmp_path / "mixed" / name / "0.png", 0, 0)
    (tmp_path / "empty").mkdir()
    for name in ("mixed", "empty"):
        said = []
        for read in (survey.survey, open_dataset):
            with pytest.raises(DatasetError) as caught:
                read(f"folder:{tmp_path / name}")
            said.append(str(caught.value))
        assert sorted(said[0].split(", ")) == sorted(said[1].split(", "))  # formats in any order


def test_what_cannot_be_counted_is_not_known(tmp_path):
    missing = f"folder:{tmp_path / 'missing'}"
    for name in ("gs://bucket/x", "folder:gs://bucket", "some_set", missing):
        assert survey.survey(name) == Survey()
    assert survey.survey("cifar10").count == 50_000 and not survey.survey("cifar10").unread
    assert (
        survey.survey("fashion_mnist_small").count
        == open_dataset("fashion_mnist_small").splits["train"]
    )
