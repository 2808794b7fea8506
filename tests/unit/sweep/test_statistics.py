"""Means and paired differences against formulas by hand and against SciPy's t tests."""

import itertools
import math
import statistics

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from simclrv2_tf.sweep.statistics import differences, means, t_interval

SEEDS = (0, 1, 2, 3)
RATES, DEPTHS = ("0.1", "0.3"), ("18", "34", "50")


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    rows = [
        {"rate": rate, "depth": depth, "seed": seed, "metric": metric, "value": rng.normal(0.7)}
        for rate, depth, seed, metric in itertools.product(RATES, DEPTHS, SEEDS, ("top1", "loss"))
    ]
    return pd.DataFrame(rows).sample(frac=1, random_state=0)  # in no order


def values(table, **where):
    found = table
    for name, value in where.items():
        found = found[found[name] == value]
    return dict(zip(found["seed"], found["value"], strict=True))


def test_the_interval_is_students():
    # By hand: 1, 2, 6 have mean 3 and s^2 = (4 + 1 + 9) / 2 = 7; t(2) at 97.5% is 4.302653.
    reach = 4.302652729911275 * math.sqrt(7) / math.sqrt(3)
    assert t_interval([1, 2, 6]) == pytest.approx((3 - reach, 3 + reach))
    found = np.random.default_rng(1).normal(size=9)
    expected = stats.ttest_1samp(found, 0).confidence_interval(0.9)
    assert t_interval(found, 0.9) == pytest.approx((expected.low, expected.high))
    assert all(map(math.isnan, t_interval([0.5])))
    assert t_interval([0.5, 0.5]) == (0.5, 0.5)
    with pytest.raises(ValueError, match="`confidence` must be in"):
        t_interval([1, 2], 1.0)


def test_means_are_over_seeds(table):
    found = means(table, ["rate", "depth"])
    assert len(found) == len(RATES) * len(DEPTHS) * 2
    for row in found.to_dict("records"):
        own = list(
            values(table, rate=row["rate"], depth=row["depth"], metric=row["metric"]).values()
        )
        assert row["n"] == 4
        assert row["mean"] == pytest.approx(statistics.fmean(own))
        assert row["std"] == pytest.approx(statistics.stdev(own))
        assert (row["low"], row["high"]) == pytest.approx(
            tuple(stats.ttest_1samp(own, 0).confidence_interval(0.95))
        )


def test_differences_are_paired_by_seed(table):
    found = differences(table, ["rate", "depth"], {"rate": "0.1"})
    assert {(row["rate"], row["depth"]) for row in found.to_dict("records")} == {
        ("0.3", depth) for depth in DEPTHS
    }
    for row in found.to_dict("records"):
        where = {"depth": row["depth"], "metric": row["metric"]}
        ours, theirs = (values(table, rate=rate, **where) for rate in ("0.3", "0.1"))
        by_seed = [ours[seed] - theirs[seed] for seed in SEEDS]
        assert row["n"] == 4
        assert row["mean"] == pytest.approx(statistics.fmean(by_seed))
        assert row["std"] == pytest.approx(statistics.stdev(by_seed))
        paired = stats.ttest_rel([ours[s] for s in SEEDS], [theirs[s] for s in SEEDS])
        assert (row["low"], row["high"]) == pytest.approx(tuple(paired.confidence_interval(0.95)))


def test_several_conditions_leave_no_other_freedom(table):
    found = differences(table, ["rate", "depth"], {"rate": "0.1", "depth": "50"})
    found = found[found["metric"] == "top1"]
    assert len(found) == len(RATES) * len(DEPTHS) - 1  # all but the one they are compared with
    theirs = values(table, rate="0.1", depth="50", metric="top1")
    row = found[(found["rate"] == "0.3") & (found["depth"] == "18")].iloc[0]
    ours = values(table, rate="0.3", depth="18", metric="top1")
    assert row["mean"] == pytest.approx(statistics.fmean(ours[s] - theirs[s] for s in SEEDS))


def test_a_difference_takes_only_seeds_that_have_both(table):
    lacking = table[
        ~((table["rate"] == "0.1") & (table["depth"] == "18") & table["seed"].isin([1, 2, 3]))
    ]
    found = differences(lacking, ["rate", "depth"], {"rate": "0.1"})
    rows = {row["depth"]: row for row in found[found["metric"] == "top1"].to_dict("records")}
    assert (rows["18"]["n"], rows["34"]["n"]) == (1, 4)
    assert math.isnan(rows["18"]["std"]) and math.isnan(rows["18"]["low"])
    without = table[~((table["rate"] == "0.1") & (table["depth"] == "18"))]
    assert set(differences(without, ["rate", "depth"], {"rate": "0.1"})["depth"]) == {"34", "50"}


def test_numbers_that_are_not_finite_do_not_count(table):
    table.loc[table["seed"] == 3, "value"] = float("nan")
    assert set(means(table, ["rate", "depth"])["n"]) == {3}


def test_nothing_is_no_error():
    empty = pd.DataFrame(columns=["rate", "seed", "metric", "value"])
    assert means(empty, ["rate"]).empty
    assert differences(empty, ["rate"], {"rate": "0.1"}).empty


def test_tables_that_cannot_be_averaged_are_refused(table):
    with pytest.raises(ValueError, match="not repeat a seed of a setting"):
        means(pd.concat([table, table.iloc[:1]]), ["rate", "depth"])
    with pytest.raises(ValueError, match="among the dimensions"):
        differences(table, ["rate", "depth"], {"width": "1"})
