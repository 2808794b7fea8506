"""The error of weights that are missing or damaged."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from simclrv2_tf.errors import UserError


class CheckpointError(UserError):
    """Weights are missing, unreadable, or of another network."""


@contextlib.contextmanager
def reading(what: object, advice: str) -> Iterator[None]:
    """Turns whatever TensorFlow and Keras raise on a damaged file into a `CheckpointError`."""
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = lines[0] if lines else type(error).__name__
        raise CheckpointError(f"{what} cannot be read ({reason}). {advice}") from error
