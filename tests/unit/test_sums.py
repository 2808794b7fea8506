"""SHA-256 sums of exported files."""

import shutil
import subprocess

import pytest
from etils import epath

from simclrv2_tf import sums


@pytest.fixture
def folder(tmp_path):
    """A folder of two files with sums, and one without."""
    (tmp_path / "below").mkdir()
    files = {"a b.bin": bytes(range(256)) * 9000, "below/ü.txt": b"", "README.md": b"a card"}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    folder = epath.Path(tmp_path)
    sums.write(folder, [folder / "below/ü.txt", folder / "a b.bin"])
    return folder


@pytest.mark.skipif(not shutil.which("sha256sum"), reason="sha256sum is not installed")
def test_sha256sum_reads_them(folder):
    command = ["sha256sum", "--check", "--strict", sums.NAME]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "a b.bin: OK" in done.stdout and done.stdout.count("OK") == 2
    by_program = subprocess.run(
        ["sha256sum", "a b.bin", "below/ü.txt"], cwd=folder, capture_output=True, check=True
    )
    assert (folder / sums.NAME).read_bytes() == by_program.stdout


def test_one_changed_bit_is_found(folder):
    sums.check(folder)
    content = bytearray((folder / "a b.bin").read_bytes())
    content[-1] ^= 1
    (folder / "a b.bin").write_bytes(content)
    with pytest.raises(sums.SumError, match=r"a b\.bin must be the exported file"):
        sums.check(folder)
    with pytest.raises(sums.SumError, match=r"a b\.bin"):
        sums.check(folder, ["a b.bin"])
    sums.check(folder, ["below/ü.txt"])  # the other file is as it was


def test_a_missing_file_is_found(folder):
    (folder / "below/ü.txt").unlink()
    with pytest.raises(sums.SumError, match="a folder without below/ü.txt"):
        sums.check(folder)


def test_files_without_a_sum_pass(folder):
    (folder / "README.md").write_text("another card")
    (folder / "new.bin").write_text("new")
    sums.check(folder)
    sums.check(folder, ["README.md", "new.bin", "nowhere"])
    (folder / sums.NAME).unlink()
    (folder / "a b.bin").write_text("changed")
    sums.check(folder)


@pytest.mark.parametrize("text", [b"", b"\xff\xfe", b"no sums\n\n", b"0123  \n"])
def test_a_damaged_list_is_no_traceback(folder, text):
    (folder / sums.NAME).write_bytes(text)
    sums.check(folder, ["a b.bin"])
