"""LARS, the warm-up + cosine schedule, and the L2 rules that go with each optimizer.

Variables are chosen by the path Keras gave them when they were built, such as
`block_group1_block0_bn1/gamma` or `classifier/kernel`.
"""

from __future__ import annotations

import math
import numbers
import re
from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

_BATCH_NORM = (r"(^|/)(gamma|beta)$", r"batch_normalization")
_BIAS = (r"(^|/)bias$",)
_SUPERVISED_HEAD = (r"(^|/)(classifier|head_supervised)/",)

OPTIMIZERS = ("momentum", "adam", "lars")
SCALINGS = ("linear", "sqrt")


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

    The learning rate is inside the momentum buffer, and no epsilon is added to the norms: the
    released code's form, not Keras's or PyTorch's momentum. Weight decay is part of the gradient
    (coupled), so Keras's own decoupled one stays off and `optimizer.weight_decay` is None; the
    value in use is `optimizer.coupled_weight_decay`.

    ```python
    optimizer = LARS(WarmupCosine(6.4, warmup_steps, total_steps), weight_decay=1e-4)
    ```

    Args:
        learning_rate: A number, or a `keras.optimizers.schedules.LearningRateSchedule`. A number
            may be a Python or NumPy scalar.
        momentum: In [0, 1). Defaults to 0.9.
        weight_decay: At least 0. Defaults to 0.
        eta: The trust coefficient, above 0. Defaults to 1e-3.
        nesterov: Whether to apply Nesterov momentum. Defaults to False.
        exclude: Regular expressions, searched in variables' paths: where one is found, the variable
            is neither decayed nor adapted. Defaults to batch norm parameters, biases, and the
            supervised head (a layer named `classifier` or `head_supervised`).
        name: The optimizer's name.
        **kwargs: Keras's options common to all optimizers (`clipnorm`, `use_ema`, ...).

    Raises:
        ValueError: a value out of range, or a malformed regular expression.
    """

    def __init__(
        self,
        learning_rate,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        eta: float = 1e-3,
        nesterov: bool = False,
        exclude: Sequence[str] = _BATCH_NORM + _BIAS + _SUPERVISED_HEAD,
        name: str = "lars",
        **kwargs,
    ):
        super().__init__(_checked_learning_rate(learning_rate), name=name, **kwargs)
        if not 0 <= momentum < 1:
            raise ValueError(f"`momentum` must be in [0, 1). Received: momentum={momentum}")
        if not 0 <= weight_decay < math.inf:
            raise ValueError(
                f"`weight_decay` must be finite and at least 0. "
                f"Received: weight_decay={weight_decay}"
            )
        if not 0 < eta < math.inf:
            raise ValueError(f"`eta` must be finite and positive. Received: eta={eta}")
        if isinstance(exclude, str):
            raise ValueError(
                "`exclude` must be a sequence of regular expressions, not one string. "
                f"Received: exclude={exclude!r}"
            )
        for pattern in exclude:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(
                    f"`exclude` must hold regular expressions ({error}). "
                    f"Received: exclude={tuple(exclude)}"
                ) from error
        self.momentum = float(momentum)
        self.coupled_weight_decay = float(weight_decay)
        self.eta = float(eta)
        self.nesterov = bool(nesterov)
        self.exclude = tuple(exclude)

    def build(self, variables):
        """Creates the momentum buffers and decides, by path, which variables are excluded."""
        if self.built:
            return
        super().build(variables)
        self._momentums = self.add_optimizer_variables(variables, "momentum")
        # `update_step` is given backend variables, which know no path: decide here, by index.
        self._excluded = tuple(_matches(variable, self.exclude) for variable in variables)

    def update_step(self, gradient, variable, learning_rate):
        index = self._get_variable_index(variable)
        buffer = self._momentums[index]
        # At least float32, where norms of low-precision variables neither overflow nor stall.
        dtype = keras.backend.result_type(
            keras.backend.standardize_dtype(variable.dtype), "float32"
        )
        p = ops.cast(variable, dtype)
        g = ops.cast(ops.convert_to_tensor(gradient), dtype)
        rate = ops.cast(learning_rate, dtype)
        if not self._excluded[index]:
            if self.coupled_weight_decay:
                g = g + self.coupled_weight_decay * p
            rate = rate * self._trust_ratio(p, g)
        step = rate * g
        v = self.momentum * ops.cast(buffer, dtype) + step
        update = self.momentum * v + step if self.nesterov else v
        self.assign(buffer, ops.cast(v, buffer.dtype))
        self.assign_sub(variable, ops.cast(update, variable.dtype))

    def _trust_ratio(self, p, g):
        p_norm = ops.sqrt(ops.sum(ops.square(p)))
        g_norm = ops.sqrt(ops.sum(ops.square(g)))
        adapts = ops.logical_and(p_norm > 0, g_norm > 0)
        ratio = self.eta * p_norm / ops.where(adapts, g_norm, ops.ones_like(g_norm))
        return ops.where(adapts, ratio, ops.ones_like(ratio))

    def get_config(self):
        config = super().get_config()
        config.update(
            momentum=self.momentum,
            weight_decay=self.coupled_weight_decay,
            eta=self.eta,
            nesterov=self.nesterov,
            exclude=list(self.exclude),
        )
        return config


@keras.saving.register_keras_serializable(package="simclrv2_tf")
class WarmupCosine(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up from 0 to `peak`, then half a cosine from `peak` to 0.

    ```
    step < warmup_steps:                peak * step / warmup_steps
    warmup_steps <= step < total_steps: peak * (1 + cos(pi * done)) / 2,
                                        done = (step - warmup_steps) / (total_steps - warmup_steps)
    after:                              0
    ```

    Steps count from 0, so without warm-up the first rate is `peak`. A warm-up longer than the run
    is followed as far as the run goes. The default of arXiv 2002.05709, section 2.3.

    Args:
        peak: The highest learning rate, at least 0; see `peak_learning_rate`.
        warmup_steps: At least 0; see `warmup_steps`.
        total_steps: Steps of the run, warm-up included, at least 0; see `total_steps`.

    Raises:
        ValueError: a negative or not finite value.
    """

    def __init__(self, peak: float, warmup_steps: int, total_steps: int):
        super().__init__()
        if not 0 <= peak < math.inf:
            raise ValueError(f"`peak` must be finite and at least 0. Received: peak={peak}")
        _check_integer("warmup_steps", warmup_steps, 0)
        _check_integer("total_steps", total_steps, 0)
        self.peak = float(peak)
        self.warmup_steps = int(warmup_steps)
        self.total_steps = int(total_steps)

    def __call__(self, step):
        """() integer (or float) step, from 0 -> () float32 learning rate."""
        step = ops.convert_to_tensor(step)
        # Subtracted before the cast, and as a sine of what remains rather than one plus a cosine:
        # nothing cancels, so late steps of long runs keep all digits of float32.
        remaining = ops.cast(ops.maximum(self.total_steps - step, 0), "float32")
        decay_steps = max(self.total_steps - self.warmup_steps, 1)
        cosine = ops.square(ops.sin(0.5 * math.pi * ops.minimum(remaining / decay_steps, 1.0)))
        ramp = ops.cast(step, "float32") / max(self.warmup_steps, 1)
        return self.peak * ops.where(step < self.warmup_steps, ramp, cosine)

    def get_config(self):
        return {
            "peak": self.peak,
            "warmup_steps": self.warmup_steps,
            "total_steps": self.total_steps,
        }


def peak_learning_rate(base: float, batch_size: int, scaling: str = "linear") -> float:
    """The learning rate at the end of warm-up, for a global batch (arXiv 2002.05709, B.1).

    Args:
        base: The learning rate before scaling.
        batch_size: Images in the global batch, each counted once.
        scaling: `"linear"`: base * batch_size / 256; `"sqrt"`: base * sqrt(batch_size).

    Raises:
        ValueError: unknown `scaling`, or `batch_size` below 1.
    """
    _check_integer("batch_size", batch_size, 1)
    if scaling == "linear":
        return base * batch_size / 256
    if scaling == "sqrt":
        return base * math.sqrt(batch_size)
    raise ValueError(f"`scaling` must be one of {SCALINGS}. Received: scaling={scaling!r}")


def total_steps(num_examples: int, epochs: int, batch_size: int) -> int:
    """Steps of a run: num_examples * epochs // batch_size + 1, the reference's count."""
    _check_integer("batch_size", batch_size, 1)
    return int(num_examples * epochs // batch_size) + 1


def warmup_steps(num_examples: int, warmup_epochs: float, batch_size: int) -> int:
    """Steps of warm-up, the reference's count; `warmup_epochs` may be a fraction."""
    _check_integer("batch_size", batch_size, 1)
    return int(round(warmup_epochs * num_examples // batch_size))


def make_optimizer(
    name: str, schedule, momentum: float = 0.9, weight_decay: float = 0.0
) -> keras.optimizers.Optimizer:
    """Returns the optimizer called `name`, as the reference sets it up.

    Only LARS decays weights itself. With the others weight decay is part of the loss, and with LARS
    the supervised head's is: `l2_variables` says for which variables.

    Args:
        name: `"lars"`, `"momentum"` (SGD with Nesterov momentum) or `"adam"`.
        schedule: A learning rate schedule, or a number.
        momentum: In [0, 1); not used by Adam.
        weight_decay: At least 0; used by LARS alone.

    Raises:
        ValueError: unknown `name`, or a value out of range.
    """
    if name == "lars":
        return LARS(schedule, momentum=momentum, weight_decay=weight_decay)
    if name == "momentum":
        return keras.optimizers.SGD(
            _checked_learning_rate(schedule), momentum=momentum, nesterov=True
        )
    if name == "adam":
        return keras.optimizers.Adam(_checked_learning_rate(schedule))
    raise ValueError(f"`optimizer` must be one of {OPTIMIZERS}. Received: optimizer={name!r}")


def l2_variables(optimizer: keras.optimizers.Optimizer, variables) -> list:
    """Those of the trainable `variables` whose L2 penalty belongs in the loss with `optimizer`.

    The reference's rule. LARS decays inside its update all but what it excludes; of that, the
    supervised head's kernel is decayed through the loss. Other optimizers decay nothing
    themselves: all but batch norm parameters are decayed through the loss, biases included.

    ```python
    loss += weight_decay * l2_loss(l2_variables(optimizer, model.trainable_variables))
    ```
    """
    # Keras wraps the optimizer to scale the loss under mixed_float16.
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    if isinstance(optimizer, LARS):
        excluded = [v for v in variables if _matches(v, optimizer.exclude)]
        supervised = [v for v in excluded if _matches(v, _SUPERVISED_HEAD)]
        return [v for v in supervised if not _matches(v, _BATCH_NORM + _BIAS)]
    return [v for v in variables if not _matches(v, _BATCH_NORM)]


def l2_loss(variables):
    """Sum of ||p||^2 / 2 over `variables`: () float32, 0 where there are none."""
    return sum(
        (0.5 * ops.sum(ops.square(ops.cast(v, "float32"))) for v in variables),
        start=ops.zeros((), "float32"),
    )


def _matches(variable, patterns) -> bool:
    """Whether a pattern is found in the path of a Keras variable, or the name of a backend's."""
    path = getattr(variable, "path", None) or variable.name.split(":")[0]
    return any(re.search(pattern, path) for pattern in patterns)


def _checked_learning_rate(learning_rate):
    """Schedules pass; what is a number becomes the Python float that Keras insists on."""
    if isinstance(learning_rate, (numbers.Real, np.ndarray)) and np.ndim(learning_rate) == 0:
        learning_rate = float(learning_rate)
        if not 0 <= learning_rate < math.inf:
            raise ValueError(
                "`learning_rate` must be finite and at least 0. "
                f"Received: learning_rate={learning_rate}"
            )
    return learning_rate


def _check_integer(name, value, least):
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        raise ValueError(
            f"`{name}` must be an integer of at least {least}. Received: {name}={value!r}"
        )
