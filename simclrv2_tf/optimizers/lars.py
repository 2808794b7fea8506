"""LARS: layer-wise adaptive rate scaling, as SimCLR uses it (arXiv 1708.03888)."""

import math
import numbers
import re
from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from simclrv2_tf.optimizers.options import OptimizerOptions
from simclrv2_tf.options import check_numbers

# Searched in the paths of Keras variables, such as
# `block_group1_block0_bn1/gamma` or `classifier/kernel`.
BATCH_NORM = (r"(^|/)(gamma|beta)$", r"batch_normalization")
BIAS = (r"(^|/)bias$",)
SUPERVISED_HEAD = (r"(^|/)(classifier|head_supervised)/",)


@keras.saving.register_keras_serializable(package="simclrv2_tf")
class LARS(keras.optimizers.Optimizer):
    """Layer-wise adaptive rate scaling (You et al., arXiv 1708.03888), as SimCLR uses it.

    For every variable `p` with gradient `g`:

    ```
    g += weight_decay * p                               # not for excluded variables
    trust = eta * ||p|| / ||g|| if both are above 0, else 1     # 1 for excluded variables
    v = momentum * v + learning_rate * trust * g
    p -= v                                              # nesterov: momentum * v + the new term
    ```

    As in the released code, and unlike Keras's or PyTorch's momentum, the learning rate is inside
    the momentum buffer and no epsilon is added to the norms. Weight decay is part of the gradient
    (coupled): `optimizer.coupled_weight_decay`. Keras's decoupled `optimizer.weight_decay` is None.

    Args:
        learning_rate: A Python or NumPy number, or a Keras `LearningRateSchedule`.
        momentum: In [0, 1). Defaults to 0.9.
        weight_decay: At least 0. Defaults to 0.
        eta: The trust coefficient, above 0. Defaults to 1e-3.
        nesterov: Whether to apply Nesterov momentum. Defaults to False.
        exclude: Regular expressions, searched in variables' paths: matching variables are neither
            decayed nor adapted. Defaults to batch norm parameters, biases, and the supervised head
            (a layer named `classifier` or `head_supervised`).
        name, **kwargs: As for all Keras optimizers (`clipnorm`, `use_ema`, ...).

    Raises:
        ValueError: a value is out of range, or a regular expression is malformed.
    """

    def __init__(
        self,
        learning_rate,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        eta: float = 1e-3,
        nesterov: bool = False,
        exclude: Sequence[str] = BATCH_NORM + BIAS + SUPERVISED_HEAD,
        name: str = "lars",
        **kwargs,
    ):
        super().__init__(checked_learning_rate(learning_rate), name=name, **kwargs)
        check_numbers(OptimizerOptions, momentum=momentum, weight_decay=weight_decay)
        if not 0 < eta < math.inf:
            raise ValueError(f"`eta` must be finite and positive. Received: eta={eta}")
        if isinstance(exclude, str):
            raise ValueError(
                "`exclude` must be a sequence of regular expressions, not one string. "
                f"Received: exclude={exclude!r}"
            )
        self.momentum, self.coupled_weight_decay = float(momentum), float(weight_decay)
        self.eta, self.nesterov, self.exclude = float(eta), bool(nesterov), tuple(exclude)
        try:
            list(map(re.compile, self.exclude))
        except re.error as error:
            raise ValueError(
                f"`exclude` must hold regular expressions ({error}). "
                f"Received: exclude={self.exclude}"
            ) from error

    def build(self, variables):
        """Creates the momentum buffers and decides, by path, which variables are excluded."""
        if self.built:
            return
        super().build(variables)
        self._momentums = self.add_optimizer_variables(variables, "momentum")
        # `update_step` receives backend variables, which have no path: decide here, by index.
        self._excluded = tuple(matches(variable, self.exclude) for variable in variables)

    def update_step(self, gradient, variable, learning_rate):
        index = self._get_variable_index(variable)
        buffer = self._momentums[index]
        # At least float32, so that norms of low-precision variables do not overflow or stall.
        dtype = keras.backend.standardize_dtype(variable.dtype)
        dtype = keras.backend.result_type(dtype, "float32")
        p = ops.cast(variable, dtype)
        g = ops.cast(ops.convert_to_tensor(gradient), dtype)
        rate = ops.cast(learning_rate, dtype)
        if not self._excluded[index]:
            if self.coupled_weight_decay:
                g = g + self.coupled_weight_decay * p
            p_norm, g_norm = (ops.sqrt(ops.sum(ops.square(x))) for x in (p, g))
            adapts = ops.logical_and(p_norm > 0, g_norm > 0)
            ratio = self.eta * p_norm / ops.where(adapts, g_norm, ops.ones_like(g_norm))
            rate = rate * ops.where(adapts, ratio, ops.ones_like(ratio))
        step = rate * g
        v = self.momentum * ops.cast(buffer, dtype) + step
        update = self.momentum * v + step if self.nesterov else v
        self.assign(buffer, ops.cast(v, buffer.dtype))
        self.assign_sub(variable, ops.cast(update, variable.dtype))

    def get_config(self):
        return {
            **super().get_config(),
            "momentum": self.momentum,
            "weight_decay": self.coupled_weight_decay,
            "eta": self.eta,
            "nesterov": self.nesterov,
            "exclude": list(self.exclude),
        }


def checked_learning_rate(learning_rate):
    """Returns a number as the Python float that Keras requires; returns schedules unchanged."""
    if isinstance(learning_rate, (numbers.Real, np.ndarray)) and np.ndim(learning_rate) == 0:
        learning_rate = float(learning_rate)
        if not 0 <= learning_rate < math.inf:
            raise ValueError(
                "`learning_rate` must be finite and at least 0. "
                f"Received: learning_rate={learning_rate}"
            )
    return learning_rate


def matches(variable, patterns) -> bool:
    """Whether a pattern matches the path of a Keras variable, or the name of a backend variable."""
    path = getattr(variable, "path", None) or variable.name.split(":")[0]
    return any(re.search(pattern, path) for pattern in patterns)
