"""One owner of a folder: the second is refused, a dead one's folder is taken over."""

import json
import socket
import subprocess
import sys

import pytest
from etils import epath

from simclrv2_tf.experiments.directory import RunError
from simclrv2_tf.experiments.owner import Owner

HOLD = """
import sys, etils.epath
from simclrv2_tf.experiments.owner import Owner
with Owner(etils.epath.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds the folder `run`."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "run")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_process_is_refused(tmp_path, holder):
    folder = epath.Path(tmp_path / "run")
    note = json.loads((folder / "owner.json").read_text())
    assert (note["host"], note["process"]) == (socket.gethostname(), holder.pid)
    for take_over in (False, True):  # a process that is running keeps its folder
        with pytest.raises(RunError, match=f"{holder.pid} on .*{note['since'][:19]}"):
            Owner(folder, take_over).__enter__()
    holder.communicate()
    with Owner(folder):
        assert json.loads((folder / "owner.json").read_text())["process"] != holder.pid
    assert not (folder / "owner.json").exists()


def test_the_folder_of_a_killed_process_is_taken_over(tmp_path, holder):
    holder.kill()
    holder.wait()
    folder = epath.Path(tmp_path / "run")
    assert (folder / "owner.json").exists()
    with Owner(folder):
        pass
    assert not (folder / "owner.json").exists()


def test_another_host_is_asked_about(tmp_path):
    folder = epath.Path(tmp_path)
    note = {"host": "elsewhere", "process": 7, "since": "2026-01-02T03:04:05+00:00"}
    (folder / "owner.json").write_text(json.dumps(note))
    with pytest.raises(RunError, match="process 7 on elsewhere, since 2026-01-02.*--take_over"):
        Owner(folder).__enter__()
    assert json.loads((folder / "owner.json").read_text()) == note
    with Owner(folder, take_over=True):
        assert json.loads((folder / "owner.json").read_text())["host"] == socket.gethostname()


@pytest.mark.parametrize("content", ["", "[]", "{", "\0"])
def test_a_damaged_note_is_no_owner(tmp_path, content):
    (tmp_path / "owner.json").write_text(content)
    with Owner(epath.Path(tmp_path)):
        assert json.loads((tmp_path / "owner.json").read_text())["host"] == socket.gethostname()
