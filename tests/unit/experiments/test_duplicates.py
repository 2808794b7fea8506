"""`near_duplicates.npz`: what is compared, of folders of files."""

import types

import numpy as np
import pytest
from etils import epath
from PIL import Image

from simclrv2_tf import datasets
from simclrv2_tf.experiments import duplicates, run_files


def photograph(rng, size):
    """Smooth shapes, as of a photograph, (H, W, 3) uint8."""
    coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8))
    return coarse.resize(size, Image.BICUBIC)


@pytest.fixture
def run(tmp_path):
    """A run on a folder of 30 training and 6 test images; three of the latter are copies."""
    rng = np.random.default_rng(0)
    for index in range(30):
        path = tmp_path / "photos" / "train" / ("cat" if index % 2 else "dog") / f"{index:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        photograph(rng, (90, 60)).save(path)
    test = tmp_path / "photos" / "test" / "cat"
    test.mkdir(parents=True)
    for index in range(3):
        photograph(rng, (90, 60)).save(test / f"other{index}.png")
    with Image.open(tmp_path / "photos" / "train" / "cat" / "03.png") as image:
        image.save(test / "again.jpg", quality=70)
        (test.parent / "dog").mkdir()
        image.resize((45, 30)).save(test.parent / "dog" / "small.png")
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(test / "mirrored.webp", quality=80)
    data = datasets.open_dataset(f"folder:{tmp_path / 'photos'}")
    return types.SimpleNamespace(
        eval_split=data.split("test"),
        train_split=data.split("train"),
        config=types.SimpleNamespace(seed=0),
        directory=types.SimpleNamespace(named=lambda name: epath.Path(tmp_path) / name),
    )


def test_copies_are_listed_with_their_classes(run, tmp_path):
    duplicates.write(run)
    found = run_files._near_duplicates(run.directory.named(duplicates.FILE))
    assert (found.compared, found.of) == ((6, 30), (6, 30))
    pairs = {tuple(pair) for pair in found.ids.tolist()}
    assert pairs == {
        ("test/cat/again.jpg", "train/cat/03.png"),
        ("test/cat/mirrored.webp", "train/cat/03.png"),
        ("test/dog/small.png", "train/cat/03.png"),
    }
    assert found.ids[found.mirrored, 0].tolist() == ["test/cat/mirrored.webp"]
    names = ["cat", "dog"]
    classes = [tuple(names[label] for label in pair) for pair in found.labels]
    assert sorted(classes) == [("cat", "cat"), ("cat", "cat"), ("dog", "cat")]
    assert found.thumbnails.shape == (3, 2, 32, 32, 3)
    assert np.all(np.diff(found.differences) >= 0)


def test_a_part_of_many_images_is_compared(run, monkeypatch):
    monkeypatch.setattr(duplicates, "MOST", (3, 7))
    duplicates.write(run)
    found = run_files._near_duplicates(run.directory.named(duplicates.FILE))
    assert (found.compared, found.of) == ((3, 7), (6, 30))


def test_files_of_other_shapes_are_refused(run):
    duplicates.write(run)
    path = run.directory.named(duplicates.FILE)
    with np.load(path) as held:
        arrays = dict(held)
    arrays["ids"] = arrays["ids"][:1]
    with path.open("wb") as file:
        np.savez(file, **arrays)
    with pytest.raises(ValueError, match="same pairs"):
        run_files._near_duplicates(path)
    path.write_bytes(b"none")
    with pytest.raises(ValueError, match="not an NPZ file"):
        run_files._near_duplicates(path)
