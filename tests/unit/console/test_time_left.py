"""The time left, of runs whose true times are made up."""

import pytest

from simclrv2_tf.console import TimeLeft, duration


def run(works, speeds, others, first=0.0):
    """Yields, at points of a run, the estimate and the truth, and the stage that they are of.

    Args:
        works: As of `TimeLeft`.
        speeds: Work a second of each stage.
        others: Seconds of each stage before and after its training, half each.
        first: The share of the first stage's training that an earlier session has done.
    """
    seconds = [work / speed for work, speed in zip(works, speeds, strict=True)]
    seconds[0] *= 1 - first
    total = sum(seconds) + sum(others)
    left, now = TimeLeft(works), 100.0
    end = now + total
    for place, (training, other) in enumerate(zip(seconds, others, strict=True)):
        left.begin(place, now)
        begin, now = first if place == 0 else 0.0, now + other / 2
        for tenth in range(11):
            left.trained(begin + (1 - begin) * tenth / 10, now + training * tenth / 10)
            yield place, left.left(now + training * tenth / 10), end - now - training * tenth / 10
        now += training + other / 2
        left.end(now)
        yield place, left.left(now), end - now


@pytest.mark.parametrize("first", [0.0, 0.6])
def test_of_equal_speed_it_is_exact_once_a_stage_has_ended(first):
    points = list(run([60, 10, 30], [2, 2, 2], [4, 4, 4], first))
    assert points[0][1] is None
    for place, estimate, truth in points[11:]:
        # Of a stage's other time half is taken to come before its training.
        assert estimate == pytest.approx(truth, abs=2.01), place
    for _, estimate, truth in points[1:11]:
        assert estimate == pytest.approx(truth, abs=6.01)


def test_of_speeds_that_differ_by_half_it_is_within_a_factor_of_two():
    for place, estimate, truth in run([60, 10, 30, 30], [2, 1.4, 2.6, 1.5], [3, 6, 4, 5]):
        if place and truth > 3:
            assert truth / 2 < estimate < truth * 2


def test_stages_that_had_finished_before_do_not_count():
    left = TimeLeft([100, 100, 100])
    for place in (0, 1):
        left.begin(place, 10.0)
        left.end(10.1)
    left.begin(2, 10.1)
    assert left.left(11.0) is None
    left.trained(0.0, 12.0)
    left.trained(0.5, 17.0)
    assert left.left(17.0) == pytest.approx(5 + 0.5 * 1.9)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.3, "0 s"),
        (42.4, "42 s"),
        (59.6, "1 min"),
        (200, "3 min 20 s"),
        (7500, "2 h 5 min"),
        (86400 * 3 + 4 * 3600, "3 d 4 h"),
    ],
)
def test_duration(seconds, text):
    assert duration(seconds) == text
