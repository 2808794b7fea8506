"""The contract of an objective of pretraining, and the checks that objectives share."""

from __future__ import annotations

from typing import Any, ClassVar, Self, TypeAlias

from etils import epy

from simclrv2_tf import options

with epy.lazy_imports():
    import keras
    from keras import ops

Tensor: TypeAlias = Any  # of any Keras backend, or a NumPy array


class Objective(options.Checked):
    """An objective of pretraining: a frozen dataclass whose fields are its options.

    `--objective=NAME` is the class with a `summary` in the file `objectives/NAME.py`, which also
    holds the formula as a function of that name; `barlow_twins.py` is the shortest example.

    Attributes:
        summary: The loss in a few words, for `--help`.
        metric_names: Names of the metrics that a call returns.
        takes_negatives: Whether a call takes `negatives` and `negatives_valid`, such as a memory.
        takes_targets: Whether a call takes `targets`, and a predictor's outputs for embeddings: see
            `prediction.Prediction`.
        momentum_targets: Whether the targets are a momentum network's embeddings instead of the
            network's own.
        predictor_rate_decays: Whether the predictor's learning rate follows the schedule after
            warm-up, or stays at the peak.
        smallest_batch: Smallest global batch: 2 if the objective computes a variance over images.
        momentum_views: Whether the second view's embeddings come from a momentum network.

    Raises:
        ConfigError: an option is out of range.
    """

    summary: ClassVar[str]
    metric_names: ClassVar[tuple[str, ...]] = ()
    takes_negatives: ClassVar[bool] = False
    takes_targets: ClassVar[bool] = False
    momentum_targets: ClassVar[bool] = False
    predictor_rate_decays: ClassVar[bool] = True
    smallest_batch: ClassVar[int] = 1
    momentum_views: bool = False

    @classmethod
    def from_options(cls, flags: Any, width: int) -> Self:
        """Makes the objective, for embeddings of `width` d, from an object with its flags."""
        return cls(**options.values(flags, cls))

    @property
    def variables(self) -> dict[str, keras.Variable]:
        """Returns the variables to add to a checkpoint, by name."""
        return {}

    def __call__(
        self, z1: Tensor, z2: Tensor, training: bool = False
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Computes the loss of the embeddings z1, z2 (b, d) of two views, not normalized.

        Returns the loss, () float32, and a dict of () tensors by `metric_names`. The mean of the
        loss over replicas is the loss of the global batch. With `training`, updates `variables`.
        """
        raise NotImplementedError


def check_pair(columns: str, **pair: Tensor) -> tuple[Tensor, Tensor]:
    """Returns two arguments as float32 tensors of one shape, (examples, `columns`)."""
    tensors = {name: float32(value) for name, value in pair.items()}
    names = " and ".join(f"`{name}`" for name in tensors)
    x, y = tensors.values()
    for shape in ((None, None), y.shape):
        check_shape(f"{names} must have one shape, (examples, {columns}).", shape, **tensors)
    return x, y


def check_shape(rule: str, shape: tuple[int | None, ...], **tensors: Tensor) -> None:
    """Raises a ValueError, with `rule` and all shapes, unless the first tensor can have `shape`."""
    first = next(iter(tensors.values())).shape
    if len(first) != len(shape) or any(
        m != n for m, n in zip(first, shape, strict=True) if None not in (m, n)
    ):
        shapes = ", ".join(f"{name}.shape={tuple(x.shape)}" for name, x in tensors.items())
        raise ValueError(f"{rule} Received: {shapes}")


def float32(x: Tensor) -> Tensor:
    """Returns a number, array or tensor as a float32 tensor."""
    return ops.cast(ops.convert_to_tensor(x), "float32")
