"""What an objective of pretraining is, and the checks that all of them share."""

from __future__ import annotations

from typing import Any, ClassVar, Self, TypeAlias

from etils import epy

from simclrv2_tf import options

with epy.lazy_imports():
    import keras
    from keras import ops

Tensor: TypeAlias = Any  # of whichever Keras backend; NumPy arrays are taken too


class Objective(options.Checked):
    """An objective of pretraining: a frozen dataclass whose fields are its options.

    `--objective=NAME` is the class with a `summary` in the file `objectives/NAME.py`, which also
    holds the formula as a function of that name:

    ```python
    @dataclasses.dataclass(frozen=True)
    class Agreement(Objective):
        summary = "the squared distance of the views"

        scale: float = option(1.0, "Weight of agreement.", flag="agreement_scale", minimum=0)

        def __call__(self, z1, z2, training=False):
            return agreement(z1, z2, self.scale), {}
    ```

    Attributes:
        summary: What it minimizes, in a few words for `--help`.
        metric_names: Names of the metrics that a call returns.
        takes_negatives: Whether a call takes `negatives` and `negatives_valid`, such as a memory.
        smallest_batch: The fewest images of a global batch: 2 where the objective has a variance
            over images.
        momentum_views: Whether the second view's embeddings come from a momentum network.

    Raises:
        ConfigError: an option is out of range.
    """

    summary: ClassVar[str]
    metric_names: ClassVar[tuple[str, ...]] = ()
    takes_negatives: ClassVar[bool] = False
    smallest_batch: ClassVar[int] = 1
    momentum_views: bool = False

    @classmethod
    def from_options(cls, flags: Any, width: int) -> Self:
        """Makes the objective from an object that has its options by the names of their flags.

        Args:
            flags: Such as an `ObjectiveOptions`.
            width: d, of the embeddings.
        """
        return cls(**options.values(flags, cls))

    @property
    def variables(self) -> dict[str, keras.Variable]:
        """What a checkpoint has to hold beside the networks, by name."""
        return {}

    def __call__(
        self, z1: Tensor, z2: Tensor, training: bool = False
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Computes the loss of the embeddings of two views.

        Args:
            z1, z2: (b, d), embeddings of this replica's images, not normalized.
            training: Whether `variables` are updated.

        Returns:
            loss: () float32; its mean over replicas is the loss of the global batch.
            metrics: A dict of () tensors by `metric_names`.
        """
        raise NotImplementedError


def check_views(z1: Tensor, z2: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the embeddings of two views as float32 tensors.

    Raises:
        ValueError: they are not of one shape (b, d).
    """
    z1, z2 = float32(z1), float32(z2)
    if len(z1.shape) != 2 or not same_shape(z1.shape, z2.shape):
        raise ValueError(
            "`z1` and `z2` must have one shape, (examples, embedding width). Received: "
            f"z1.shape={tuple(z1.shape)}, z2.shape={tuple(z2.shape)}"
        )
    return z1, z2


def float32(x: Tensor) -> Tensor:
    """Returns a number, array or tensor as a float32 tensor."""
    return ops.cast(ops.convert_to_tensor(x), "float32")


def same_shape(a, b) -> bool:
    """Whether two static shapes can be equal; None is unknown."""
    return len(a) == len(b) and all(
        m == n or m is None or n is None for m, n in zip(a, b, strict=True)
    )
