"""The recorded image operations of the reference."""

import pytest

from helpers import oracle


@pytest.fixture(scope="module")
def recording():
    return oracle.load("preprocessing.npz")
