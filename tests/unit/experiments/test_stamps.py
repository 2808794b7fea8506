"""Stamps: another where a file has changed, and None where files cannot be seen."""

import os

import pytest

from simclrv2_tf.experiments import stamps


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "data" / "deep").mkdir(parents=True)
    for name in ("a", "deep/b", "ckpt-1.index", "ckpt-1.data", "run.json"):
        (tmp_path / "data" / name).write_text(name)
    return tmp_path / "data"


def touch(path):
    os.utime(path, ns=(1, 1))


@pytest.mark.parametrize(
    "change",
    [
        lambda f: (f / "a").write_text("aa"),
        lambda f: (f / "deep" / "b").unlink(),
        lambda f: (f / "c").touch(),
        lambda f: (f / "a").rename(f / "z"),
        lambda f: touch(f / "a"),
    ],
)
def test_a_change_is_seen(folder, change):
    before = stamps.of_path(str(folder))
    assert stamps.of_path(str(folder)) == before
    change(folder)
    assert stamps.of_path(str(folder)) != before
    assert stamps.of_dataset(f"folder:{folder}", None) == stamps.of_path(str(folder))


def test_what_does_not_count_is_not_seen(folder):
    def stamp():
        return stamps.of_path(str(folder), without=("run.json", "deep"))

    before = stamp()
    touch(folder / "run.json")
    touch(folder / "deep" / "b")
    assert stamp() == before
    touch(folder / "a")
    assert stamp() != before


def test_a_prefix_is_its_files(folder):
    before = stamps.of_path(str(folder / "ckpt-1"))
    touch(folder / "a")
    assert stamps.of_path(str(folder / "ckpt-1")) == before
    touch(folder / "ckpt-1.data")
    assert stamps.of_path(str(folder / "ckpt-1")) != before


def test_data_sets_by_name(tmp_path, monkeypatch):
    (tmp_path / "mnist" / "3.0.1").mkdir(parents=True)
    (tmp_path / "mnist" / "3.0.1" / "x").touch()
    expected = stamps.of_path(str(tmp_path / "mnist"))
    assert stamps.of_dataset("mnist", str(tmp_path)) == expected
    assert stamps.of_dataset("mnist/plain:3.0.1", str(tmp_path)) == expected
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    assert stamps.of_dataset("mnist", None) == expected
    assert stamps.of_dataset("fashion_mnist_small", None) is not None


@pytest.mark.parametrize("path", ["gs://bucket/x", "/no/such/folder/x", "/no/such"])
def test_what_cannot_be_seen_has_none(path):
    assert stamps.of_path(path) is None
    assert stamps.of_dataset(f"folder:{path}", None) is None
