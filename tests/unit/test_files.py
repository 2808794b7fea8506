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
