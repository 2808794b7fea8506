"""The compared training steps, as plain numbers for both frameworks."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Case:
    """A pretraining step: NT-Xent with an online classifier.

    Attributes:
        depth: 18 (basic blocks) or 50 (bottlenecks).
        width: Factor on all filters.
        sk_ratio: 0, or the ratio of selective kernels, with ResNet-D stem and shortcuts.
        stem: "imagenet" or "cifar".
        size: Side of the views in pixels.
        batch: Images per step; twice as many views.
        optimizer: "adam" or "lars".
    """

    depth: int
    width: float
    sk_ratio: float
    stem: str
    size: int
    batch: int
    optimizer: str


NUM_CLASSES, TEMPERATURE = 10, 0.2
CASES = {
    "demo": Case(18, 0.25, 0.0, "imagenet", 28, 256, "adam"),
    "ResNet-18 0.25x, 32 px": Case(18, 0.25, 0.0, "cifar", 32, 256, "lars"),
    "ResNet-18, 32 px": Case(18, 1.0, 0.0, "cifar", 32, 64, "lars"),
    "SK-ResNet-50, 96 px": Case(50, 1.0, 0.0625, "imagenet", 96, 32, "lars"),
}
