"""Results that are kept by a digest of the arguments."""

import numpy as np
import pytest

from simclrv2_tf.kept_results import kept_results


def counted(most=8):
    calls = []

    @kept_results(most)
    def function(*arguments):
        calls.append(arguments)
        return [len(calls)]

    return function, calls


def test_equal_arguments_share_a_result():
    function, calls = counted()
    x = np.arange(6.0)
    first = function(x, {"a": [1, None]}, "text", len)
    assert function(x.copy(), {"a": [1, None]}, "text", len) is first
    assert len(calls) == 1
    function.forget()
    assert function(x, {"a": [1, None]}, "text", len) is not first


@pytest.mark.parametrize(
    "one, other",
    [
        ((np.arange(6),), (np.arange(6).reshape(2, 3),)),
        ((np.zeros(2, "float32"),), (np.zeros(1, "float64"),)),
        ((np.arange(6),), (np.arange(6)[::-1],)),
        (("a", "b"), ("ab",)),
        (("a", ""), ("a",)),
        ((1,), ("1",)),
        ((len,), (max,)),
    ],
)
def test_other_arguments_do_not(one, other):
    function, calls = counted()
    assert function(*one) is not function(*other)
    assert len(calls) == 2


def test_the_oldest_leaves_first():
    function, calls = counted(most=2)
    for value in ("a", "b", "c", "b", "c", "a"):
        function(value)
    assert calls == [("a",), ("b",), ("c",), ("a",)]


def test_what_has_no_digest_is_refused():
    function, _ = counted()
    with pytest.raises(TypeError, match="must be a function of a module"):
        function(lambda: None)
    with pytest.raises(TypeError, match="not JSON serializable"):
        function({1, 2})
