"""The recorded inputs and outputs of the reference, for the tests that compare with them."""

import numpy as np
import pytest

from helpers.paths import SHARED

ORACLE = SHARED / "oracle"


def load(name: str) -> dict[str, np.ndarray]:
    """The arrays of a recorded file; skips the test where the recordings are absent."""
    path = ORACLE / name
    if not path.exists():
        pytest.skip(f"the reference's recordings are missing: no {name}")
    with np.load(path) as file:
        return dict(file)


def numbered(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """`prefix/NNN/<reference name>` as {reference name: array}."""
    start = len(prefix) + 5
    return {key[start:]: v for key, v in arrays.items() if key.startswith(prefix + "/")}


def case(name: str, number: int):
    """Returns a function from a key to the array `NUMBER/KEY` of a recorded file."""
    recorded = load(name)
    return lambda key: recorded[f"{number}/{key}"]


def names_below(name: str, start: str) -> list[str]:
    """What follows `start` in the keys of a recorded file."""
    return [key[len(start) :] for key in load(name) if key.startswith(start)]
