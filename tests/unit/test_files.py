"""Files that are written whole or not at all."""

import pytest
from etils import epath

from simclrv2_tf import files


def test_a_file_is_replaced_whole_or_stays(tmp_path, monkeypatch):
    path = epath.Path(tmp_path) / "file.txt"
    files.write_text(path, "old")

    def fails(self, target):
        raise OSError("killed here")

    monkeypatch.setattr(type(path), "replace", fails)
    with pytest.raises(OSError, match="killed here"):
        files.write_text(path, "new")
    assert path.read_text() == "old"


def test_a_file_never_replaces_a_folder(tmp_path):
    folder = epath.Path(tmp_path / "runs")
    folder.mkdir()
    (folder / "kept").write_text("kept")
    with pytest.raises(IsADirectoryError):
        files.write_text(folder, "a page")
    assert (folder / "kept").read_text() == "kept" and len(list(tmp_path.iterdir())) == 1


def test_a_table_has_a_line_a_row():
    rows = [("file", "reason"), ('a, "b"\n.jpg', "cut\r\nshort"), ("c.jpg", "")]
    assert files.csv_text(rows) == 'file,reason\n"a, ""b"" .jpg",cut short\nc.jpg,\n'
