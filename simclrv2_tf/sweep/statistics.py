"""Means over seeds, and differences paired by seed, with intervals by Student's t."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from etils import epy

with epy.lazy_imports():
    import numpy as np
    import pandas as pd
    from scipy import stats

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

SEED, METRIC, VALUE = "seed", "metric", "value"
_COLUMNS = ("n", "mean", "std", "low", "high")


def t_interval(values: ArrayLike, confidence: float = 0.95) -> tuple[float, float]:
    """Returns the interval of the mean of values from a normal distribution of unknown variance.

    Mean plus and minus t(n - 1) * s / sqrt(n), where s is the sample standard deviation (Student,
    Biometrika 1908).

    Args:
        values: (n,) numbers.
        confidence: The share of such intervals that contain the mean, in (0, 1).

    Returns:
        The ends of the interval, NaN for fewer than two values.

    Raises:
        ValueError: `confidence` is out of range.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"`confidence` must be in (0, 1). Received: confidence={confidence}")
    found = np.asarray(values, float)
    if len(found) < 2:
        return float("nan"), float("nan")
    reach = stats.t.ppf((1 + confidence) / 2, len(found) - 1) * stats.sem(found)
    return float(found.mean() - reach), float(found.mean() + reach)


def means(table: pd.DataFrame, dimensions: Sequence[str]) -> pd.DataFrame:
    """Returns the mean over seeds of each metric in each setting.

    Args:
        table: One row per setting, seed and metric: `dimensions` as text, `seed`, `metric` and
            `value`. NaN values are ignored.
        dimensions: The dimensions of settings.

    Returns:
        One row per setting and metric, in the order of `table`: `n` seeds, their `mean`, sample
        standard deviation `std` (denominator n - 1), and the ends `low` and `high` of the mean's
        95% t interval; the last three are NaN for a single seed.

    Raises:
        ValueError: a setting has a seed twice for a metric.
    """
    keys = [*dimensions, METRIC]
    _check_once(table, [*keys, SEED])
    return _by_group(table, keys)


def differences(
    table: pd.DataFrame, dimensions: Sequence[str], against: Mapping[str, str]
) -> pd.DataFrame:
    """Returns each setting's gain over the setting that differs in `against`, paired by seed.

    Args:
        table, dimensions: As for `means`.
        against: Values of some dimensions. A setting is compared with the setting that has these
            values, and the same values of all other dimensions.

    Returns:
        Rows as for `means`, of the differences over the seeds that both settings have. Settings
        that have these values themselves, or have no counterpart, are omitted.

    Raises:
        ValueError: as for `means`; or `against` has a dimension that is not among `dimensions`.
    """
    if unknown := [name for name in against if name not in dimensions]:
        raise ValueError(
            f"`against` must be among the dimensions {list(dimensions)}. Received: {unknown}"
        )
    keys = [*dimensions, METRIC]
    _check_once(table, [*keys, SEED])
    is_reference = np.ones(len(table), bool)
    for name, value in against.items():
        is_reference &= (table[name] == value).to_numpy()
    shared = [name for name in dimensions if name not in against]
    reference = table.loc[is_reference, [*shared, SEED, METRIC, VALUE]]
    both = table[~is_reference].merge(
        reference, how="inner", on=[*shared, SEED, METRIC], suffixes=("", "_of_reference")
    )
    both[VALUE] -= both.pop(f"{VALUE}_of_reference")
    return _by_group(both, keys)


def _by_group(table: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    rows = []
    for key, group in table.dropna(subset=[VALUE]).groupby(keys, sort=False):
        values = group[VALUE]
        low, high = t_interval(values)
        rows.append((*key, len(values), values.mean(), values.std(ddof=1), low, high))
    return pd.DataFrame(rows, columns=[*keys, *_COLUMNS])


def _check_once(table: pd.DataFrame, keys: list[str]) -> None:
    twice = table[table.duplicated(keys)]
    if len(twice):
        raise ValueError(
            "`table` must not repeat a seed of a setting for a metric. "
            f"Received: {twice.iloc[0][keys].to_dict()} twice"
        )
