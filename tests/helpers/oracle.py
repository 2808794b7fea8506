"""The recorded inputs and outputs of the reference, for the tests that compare with them."""

import numpy as np
import pytest

from helpers.paths import SHARED

ORACLE = SHARED / "oracle"


def load(name: str) -> dict[str, np.ndarray]:
    """The arrays of a recorded file; skips the test where the recordings are absent."""
    path = ORACLE / name
    if not path.exists():
        pytest.skip(f"the reference's recordings are not beside the project: no {name}")
    with np.load(path) as file:
        return dict(file)


def numbered(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """`prefix/NNN/<reference name>` as {reference name: array}."""
    start = len(prefix) + 5
    return {key[start:]: v for key, v in arrays.items() if key.startswith(prefix + "/")}
