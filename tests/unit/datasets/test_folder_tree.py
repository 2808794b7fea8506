"""Links and odd names in a folder: every image is read once, whatever leads to it."""

import os

import numpy as np
import pytest
from PIL import Image

from simclrv2_tf import datasets
from simclrv2_tf.datasets.folder_tree import FolderTree


def images(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for index, name in enumerate(names):
        Image.fromarray(np.full((4, 4, 3), index, np.uint8)).save(folder / name)


@pytest.fixture
def root(tmp_path):
    """Two classes of ten images, in train and test, in a folder `root`."""
    for split in ("train", "test"):
        for name in "ab":
            images(tmp_path / "root" / split / name, *(f"{i}.png" for i in range(10)))
    return tmp_path / "root"


def found(root):
    data = datasets.open_dataset(f"folder:{root}")
    splits = {name: sorted(data.split(name).labels()[0].tolist()) for name in data.splits}
    assert len({*sum(splits.values(), [])}) == sum(map(len, splits.values()))
    return data.class_names, splits


INSIDE = {
    "to itself": ("train/a/again", "."),
    "to the class": ("train/a/again", "../a"),
    "to the split": ("train/a/again", ".."),
    "to the root": ("train/a/again", "../.."),
    "above the root": ("train/a/again", "../../.."),
    "to another class": ("train/b/more", "../a"),
    "a class": ("train/c", "a"),
    "a file": ("train/b/10.png", "../a/0.png"),
    "a test image among the training images": ("train/a/x.png", "../../test/a/0.png"),
    "to nothing": ("train/a/nothing.d", "gone"),
}


@pytest.mark.parametrize("case", INSIDE)
def test_a_link_into_the_folder_adds_nothing(root, case):
    before = found(root)
    link, target = INSIDE[case]
    os.symlink(target, root / link)
    assert found(root) == before


def test_two_folders_that_lead_to_each_other(root):
    before = found(root)
    os.symlink("../b", root / "train/a/b")
    os.symlink("../a", root / "train/b/a")
    assert found(root) == before


def test_a_link_to_elsewhere_is_followed_once(root, tmp_path, caplog):
    images(tmp_path / "else" / "deep", "x.png", "y.png")
    os.symlink(tmp_path / "else" / "deep", tmp_path / "else" / "deep" / "loop")
    for link in ("train/a/one", "train/b/two", "test/b/three"):
        os.symlink(tmp_path / "else", root / link)
    _, splits = found(root)
    assert [p for p in splits["train"] if p.endswith(("x.png", "y.png"))] == [
        "train/a/one/deep/x.png",
        "train/a/one/deep/y.png",
    ]
    assert len(splits["test"]) == 20
    for link in ("train/b/two", "test/b/three"):
        assert f"skipped the link {link}" in caplog.text


def test_links_to_single_files_are_read_once(root, tmp_path):
    images(tmp_path / "all", "0.png", "1.png", "2.png")
    os.symlink(tmp_path / "all" / "0.png", root / "train/a/new0.png")
    os.symlink(tmp_path / "all" / "1.png", root / "train/b/new1.png")
    os.symlink(tmp_path / "all" / "1.png", root / "test/b/new1.png")
    os.symlink(tmp_path / "all", root / "test/a/all")
    _, splits = found(root)
    assert "train/a/new0.png" in splits["train"] and "train/b/new1.png" in splits["train"]
    assert set(splits["test"]) - {f"test/{c}/{i}.png" for c in "ab" for i in range(10)} == {
        "test/a/all/2.png"
    }


def test_of_two_links_to_one_place_the_first_in_the_listing_stays(tmp_path):
    for name in "ab":
        images(tmp_path / "root" / name / "deep", "0.png")
    images(tmp_path / "else", "x.png")
    os.symlink(tmp_path / "else", tmp_path / "root" / "a" / "deep" / "last")
    os.symlink(tmp_path / "else", tmp_path / "root" / "b" / "first")
    _, splits = found(tmp_path / "root")
    assert {*splits["train"], *splits["test"]} == {
        "a/deep/0.png",
        "a/deep/last/x.png",
        "b/deep/0.png",
    }


def test_a_root_that_is_a_link(root, tmp_path):
    os.symlink(root, tmp_path / "link")
    assert found(tmp_path / "link") == found(root)


def test_names_that_are_not_utf_8_are_named_and_left_out(root, caplog):
    before = found(root)
    content = (root / "train/a/0.png").read_bytes()
    with open(os.fsencode(root) + b"/train/a/\xff\xe9.png", "wb") as file:
        file.write(content)
    os.mkdir(os.fsencode(root) + b"/train/\xe9t\xe9")
    assert found(root) == before
    assert r"train/a/\xff\xe9.png" in caplog.text and r"train/\xe9t\xe9" in caplog.text
    with open(root / "train/a/été 😀.png", "wb") as file:
        file.write(content)
    assert len(found(root)[1]["train"]) == 21


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_pipe_is_named_and_left_out(root, caplog):
    """Reading it would wait for ever."""
    before = found(root)
    os.mkfifo(root / "train/a/pipe.png")
    os.symlink("pipe.png", root / "train/a/link.png")
    assert found(root) == before
    assert "skipped train/a/pipe.png, which is not a regular file" in caplog.text


def test_hidden_files_are_left_out(tmp_path):
    images(tmp_path / ".git", "a.png")
    images(tmp_path, ".b.png", "c.png")
    assert list(FolderTree(str(tmp_path), lambda name: name.endswith(".png")).walk("")) == ["c.png"]
