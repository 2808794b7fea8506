"""Cells in processes: their shares of the machine, their endings, and how they are stopped."""

import contextlib
import os
import signal
import sys
import time

import pytest

from simclrv2_tf.config import Config
from simclrv2_tf.options import ConfigError
from simclrv2_tf.sweep import processes, shares
from simclrv2_tf.sweep.cells import Cell
from simclrv2_tf.sweep.time_left import TimeLeft

# Writes what it was given; "wait" in its flags: waits to be stopped, and ignores the first signal
# with "stubborn" in them.
PROGRAM = """
import os, signal, sys, time
flags = " ".join(sys.argv[1:])
cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
print(flags, cores, os.getpgid(0) == os.getpid(), flush=True)
if "wait" in flags:
    seen = []
    def answer(number, _):
        seen.append(number)
        print("signal", number, flush=True)
        if "stubborn" not in flags or len(seen) > 1:
            sys.exit(128 + number)
    signal.signal(signal.SIGTERM, answer)
    print("waits", flush=True)
    while True:
        time.sleep(0.05)
if "fail" in flags:
    print("Error: the reason" + "." * 400 + "\\nlast words")
    sys.exit(3)
if "die" in flags:
    print("last words\\n")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def cell(tmp_path, name, seed=0):
    return Cell({"name": name}, seed, str(tmp_path / name), (f"--{name}",), Config())


def run(cells, jobs=1, began=lambda _: None):
    return processes.run(cells, jobs, began, (sys.executable, "-c", PROGRAM))


def test_cells_end_well_or_not(tmp_path):
    cells = [cell(tmp_path, name) for name in ("good", "fail", "die")]
    log = processes.log_of(cells[0])
    log.write_text("of before\n")
    began = []
    found = {e.cell: e for e, _ in run(cells, began=lambda r: began.append(r.cell))}
    assert began == cells == list(found)
    assert [found[c].process.returncode for c in cells] == [0, 3, -signal.SIGKILL]
    problems = [found[c].problem() for c in cells[1:]]
    assert problems[0].startswith("Error: the reason...") and problems[0].endswith(
        "(exit status 3)"
    )
    assert len(problems[0]) < 330
    assert problems[1] == "last words (signal 9)"
    lines = log.read_text().splitlines()
    assert lines[0] == "of before" and lines[1].startswith("--good [")
    assert lines[1].endswith("True")  # a separate group: the terminal's Ctrl-C does not reach it


def test_only_what_a_cell_has_said_now_is_its_problem(tmp_path):
    (one,) = [cell(tmp_path, "die")]
    processes.log_of(one).write_text("Error: of before\n")
    ((ended, _),) = list(run([one]))
    assert ended.problem() == "last words (signal 9)"


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="needs affinity")
def test_cells_at_once_share_the_cores(tmp_path, monkeypatch):
    monkeypatch.setattr(shares, "gpus", list)
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        pytest.skip("needs two cores")
    cells = [cell(tmp_path, f"wait_{seed}", seed) for seed in range(3)]
    begun = []

    def began(running):
        begun.append(running)
        waited(running)
        if len(begun) == 2:  # both at once
            begun[0].process.terminate()

    with contextlib.closing(run(cells, 2, began)) as endings:
        ended, running = next(endings)
        assert ended.cell is cells[0] and [each.cell for each in running] == [cells[1]]
    said = [processes.log_of(c).read_text().splitlines()[0] for c in cells[:2]]
    shown = [line.split(" ", 1)[1].rsplit(" ", 1)[0] for line in said]
    assert shown == [str(cores[0::2]), str(cores[1::2])]
    assert sorted(os.sched_getaffinity(0)) == cores


def waited(running):
    """Waits until a cell's process answers signals."""
    while not running.log.exists() or "waits" not in running.log.read_text():
        assert running.process.poll() is None
        time.sleep(0.01)


def test_leaving_stops_the_cells(tmp_path):
    cells = [cell(tmp_path, "wait"), cell(tmp_path, "never_begun")]

    def stop(running):
        waited(running)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(run(cells, began=stop))
    assert processes.log_of(cells[0]).read_text().endswith(f"signal {signal.SIGTERM}\n")
    assert not processes.log_of(cells[1]).exists()


def test_a_second_interrupt_ends_at_once(tmp_path, monkeypatch):
    one = cell(tmp_path, "wait_stubborn")
    begun = []

    def stop(running):
        begun.append(running)
        waited(running)
        wait = running.process.wait

        def interrupted_once():
            running.process.wait = wait
            while "signal" not in running.log.read_text():
                time.sleep(0.01)
            raise KeyboardInterrupt

        running.process.wait = interrupted_once
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(run([one], began=stop))
    assert begun[0].process.returncode == 128 + signal.SIGTERM
    assert processes.log_of(one).read_text().count("signal") == 2


@pytest.mark.parametrize(
    ("items", "jobs", "expected"),
    [([0, 1, 2], 2, [[0, 2], [1]]), ([0], 1, [[0]]), ("abcd", 2, [["a", "c"], ["b", "d"]])],
)
def test_shares_are_even_and_apart(items, jobs, expected):
    assert shares.share_out(items, jobs) == expected


def test_variables_give_what_affinity_does_not(monkeypatch):
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        monkeypatch.delenv(name, raising=False)
    assert shares.variables(1, 2, [], 4, affinity=True) == {}
    assert shares.variables(1, 2, [], 5, affinity=False) == {
        "TF_NUM_INTRAOP_THREADS": "2",
        "TF_NUM_INTEROP_THREADS": "2",
    }
    gpus = ["0", "1", "2", "3"]
    assert shares.variables(1, 2, gpus, 8, affinity=True) == {"CUDA_VISIBLE_DEVICES": "1,3"}
    assert shares.variables(0, 1, gpus, 8, affinity=False) == {}
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "1")
    assert shares.variables(0, 2, [], 8, False) == {"TF_NUM_INTEROP_THREADS": "4"}


def test_more_jobs_than_the_machine_has_are_refused(monkeypatch):
    monkeypatch.setattr(shares, "cores", lambda: [0, 1])
    monkeypatch.setattr(shares, "gpus", list)
    monkeypatch.setattr(shares.environment, "accelerator_nodes", lambda: False)
    shares.check_jobs(2)
    with pytest.raises(ConfigError, match="at most the number of cores, 2. Received: jobs=3"):
        shares.check_jobs(3)
    monkeypatch.setattr(shares.environment, "accelerator_nodes", lambda: True)
    shares.check_jobs(1)
    with pytest.raises(ConfigError, match="must be 1 on an accelerator"):
        shares.check_jobs(2)
    monkeypatch.setattr(shares, "gpus", lambda: ["0", "3"])
    shares.check_jobs(2)
    with pytest.raises(ConfigError, match="at most the number of GPUs, 2"):
        shares.check_jobs(3)
    monkeypatch.undo()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert shares.gpus() == ["2", "5"]


def test_the_time_left_is_that_of_the_settings(tmp_path):
    slow, fast = ([cell(tmp_path, name, seed) for seed in range(3)] for name in ("slow", "fast"))
    left = TimeLeft(jobs=2)
    assert left.left(slow, {}) is None
    left.ended(slow[0], 100)
    # The other setting is not known yet: as long as the known one.
    assert left.left([fast[0], slow[1]], {}) == pytest.approx((100 + 100) / 2)
    left.ended(fast[0], 10)
    assert left.left([fast[1], fast[2], slow[1]], {slow[2]: 40}) == pytest.approx(100)
    assert left.left([fast[1], fast[2]], {slow[2]: 80}) == pytest.approx(20)
    assert left.left([], {slow[2]: 400}) == 0
