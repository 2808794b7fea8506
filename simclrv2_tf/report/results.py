"""The rows of `results.json` as a table."""

import collections
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from simclrv2_tf.tables import table


class Method(NamedTuple):
    """The name and look of a method of `results.json`."""

    name: str
    color: str
    marker: str
    dashes: str


# Colors of Okabe and Ito, distinguishable with any color vision.
METHODS = {
    "supervised": Method("supervised", "#000000", "o", "--"),
    "fine_tuned": Method("fine-tuned", "#0072B2", "s", "-"),
    "self_distilled": Method("self-distilled", "#D55E00", "^", "-"),
    "small_student": Method("small student", "#009E73", "D", "-"),
}


def percent(fraction: float) -> str:
    """Formats a share in [0, 1] with up to four digits: "0.5%", "1%", "100%"."""
    return f"{np.format_float_positional(100 * fraction, 4, fractional=False, trim='-')}%"


def results_markdown(rows: Sequence[Mapping], title: str | None = None) -> str:
    """Returns the text of `results.md`: one line per label fraction and method.

    Args:
        rows: Rows of `results.json`: `label_fraction` in (0, 1], `method` (a key of `METHODS`),
            `top1` in [0, 1], `num_labels`, `parameters`, `seconds`; optionally `top1_std` (over
            seeds), `expected_calibration_error`, and the 95% interval `top1_low` to `top1_high`,
            each in [0, 1]; and `gain` over supervised training, `gain_low`, `gain_high`, in
            [-1, 1]. The table has all shares in percent.
        title: Optional heading.

    Raises:
        ValueError: `rows` is empty, has an unknown method or a method twice at a fraction.
    """
    rows = ordered(rows)
    columns = {
        "labels": [row["num_labels"] for row in rows],
        "method": [METHODS[row["method"]].name for row in rows],
        "top-1 (%)": [with_interval(row, "top1") for row in rows],
        "std": [in_percent(row.get("top1_std")) for row in rows],
        "over supervised": [with_interval(row, "gain", sign="+") for row in rows],
        "ECE (%)": [in_percent(row.get("expected_calibration_error")) for row in rows],
        "params": [f"{row['parameters'] / 1e6:.3g}M" for row in rows],
        "seconds": [round(row["seconds"]) for row in rows],
    }
    columns = {name: x for name, x in columns.items() if any(value is not None for value in x)}
    text = table(list(columns), list(zip(*columns.values(), strict=True))) + "\n"
    return text if title is None else f"# {title}\n\n{text}"


def in_percent(share: float | None, sign: str = "") -> str | None:
    """Formats a share in percent with one decimal, without the sign; None for None."""
    return None if share is None else f"{100 * share:{sign}.1f}"


def with_interval(row: Mapping, name: str, sign: str = "") -> str | None:
    """Formats `row[name]` in percent, with the interval `name`_low to `name`_high if given."""
    share = in_percent(row.get(name), sign)
    low, high = (in_percent(row.get(f"{name}_{end}")) for end in ("low", "high"))
    return share if low is None or high is None else f"{share} ({low}, {high})"


def ordered(rows: Sequence[Mapping]) -> list[Mapping]:
    """Checks rows, see `results_markdown`, and sorts them by fraction and method."""
    if not rows:
        raise ValueError(f"`rows` must hold at least one result. Received: rows={rows!r}")
    keys = [(row["label_fraction"], row["method"]) for row in rows]
    for key, count in collections.Counter(keys).items():
        if key[1] not in METHODS:
            raise ValueError(
                f"`rows` must have methods among {list(METHODS)}. Received: method={key[1]!r}"
            )
        if count > 1:
            raise ValueError(
                "`rows` must have each method once at a label fraction (the mean over seeds, its "
                f"spread in `top1_std`). Received: label_fraction={key[0]}, method={key[1]!r} "
                f"{count} times"
            )
    order = list(METHODS)
    return sorted(rows, key=lambda row: (row["label_fraction"], order.index(row["method"])))
