"""Caches results of pure functions by a digest of their arguments."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable
from typing import Any

import numpy as np


class KeptResults:
    """A function that caches its newest results, for arguments of any size.

    A run writes its report after each stage, and most of a page does not change. Callers share a
    result and must not modify it.

    Args:
        function: A function that only depends on its positional arguments: NumPy arrays, functions
            of a module, and JSON values.
        most: Number of cached results.
    """

    def __init__(self, function: Callable, most: int):
        functools.update_wrapper(self, function)
        self._function, self._most = function, most
        self._kept: dict[bytes, Any] = {}  # oldest first

    def __call__(self, *arguments) -> Any:
        key = _digest(arguments)
        if key not in self._kept:
            if len(self._kept) >= self._most:
                del self._kept[next(iter(self._kept))]
            self._kept[key] = self._function(*arguments)
        return self._kept[key]

    def forget(self) -> None:
        """Drops all results."""
        self._kept.clear()


def kept_results(most: int) -> Callable[[Callable], KeptResults]:
    """Decorates a function with `KeptResults`."""
    return functools.partial(KeptResults, most=most)


def _digest(arguments: tuple) -> bytes:
    found = hashlib.sha256()
    for argument in arguments:
        if isinstance(argument, np.ndarray):
            found.update(repr((argument.dtype.str, argument.shape)).encode())
            found.update(argument.tobytes())
        elif callable(argument):
            if "<" in argument.__qualname__:  # a lambda, or a nested function
                raise TypeError(f"`{argument.__qualname__}` must be a function of a module.")
            found.update(f"{argument.__module__}.{argument.__qualname__}".encode())
        else:
            found.update(json.dumps(argument).encode())
        found.update(b"\0")
    return found.digest()
