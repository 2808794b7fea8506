"""Options of the networks, declared without Keras."""

import dataclasses

from simclrv2_tf import options
from simclrv2_tf.options import option

_LARGEST_CIFAR = 32  # pixels

# Residual blocks of the four groups, by depth.
BLOCKS = {
    10: (1, 1, 1, 1),  # not in the paper
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkOptions(options.Group, title="Network"):
    """The encoder: a ResNet."""

    resnet_depth: int = option(
        50,
        "Depth of the ResNet. 10 is not in the paper: for small images and machines.",
        choices=tuple(BLOCKS),
    )
    width_multiplier: float = option(
        1.0,
        "Multiplier of every layer's width; the smallest is 1/32, which gives the stem two "
        "filters.",
        minimum=1 / 32,
    )
    sk_ratio: float = option(
        0.0,
        "Reduction ratio of selective kernels; 0: none, 0.0625 recommended.",
        minimum=0,
        maximum=1,
    )
    se_ratio: float = option(
        0.0, "Reduction ratio of squeeze-excitation; 0: none.", minimum=0, maximum=1
    )
    stem: str = option(
        "auto",
        "imagenet: stride 2 and max pooling. cifar: 3x3, stride 1, no pooling. stride2: 3x3, "
        "stride 2, no pooling; a quarter of cifar's computation, for small images on processors. "
        "auto: cifar if image_size is at most 32.",
        choices=("auto", "cifar", "imagenet", "stride2"),
    )
    batch_norm_decay: float = option(
        0.9, "Decay of the moving batch statistics.", minimum=0, below=1
    )
    global_bn: bool = option(True, "Compute batch statistics over all replicas.")

    @property
    def encoder_description(self) -> str:
        """Such as "ResNet-50 0.25x SK"; with basic blocks `sk_ratio` only gives a ResNet-D."""
        selective = " SK" if self.resnet_depth >= 50 else " D"
        return (
            f"ResNet-{self.resnet_depth} {self.width_multiplier:g}x"
            + selective * (self.sk_ratio > 0)
            + " SE" * (self.se_ratio > 0)
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeadOptions(options.Group, title="Projection head"):
    """The projection head, and its layer that feeds a classifier."""

    proj_head_mode: str = option(
        "nonlinear",
        "Projection head: none, one linear layer, or `num_proj_layers` layers.",
        choices=("none", "linear", "nonlinear"),
    )
    num_proj_layers: int = option(3, "Layers of the nonlinear head.", minimum=1)
    proj_out_dim: int = option(128, "Width of the embedding.", minimum=1)
    proj_hidden_dim: int = option(
        0, "Width of the head's hidden layers; 0: the encoder's width, as in SimCLRv2.", minimum=0
    )
    proj_output_bn: bool = option(
        True, "Whether the head ends with a batch norm, as in SimCLRv2, or with its dense layer."
    )
    proj_output_scale: bool = option(
        True, "Whether that batch norm has a scale, as in SimCLRv2; SimSiam's has none."
    )
    ft_proj_selector: int = option(
        0,
        "Layer of the projection head that feeds the classifier: 0 for the encoder's output, k for "
        "layer k, -1 for the head's output. In a run of several stages this sets the layer of "
        "pretraining's online classifier; --fine_tuned.ft_proj_selector (default: 0 with all "
        "labels, 1 with fewer) and --linear_eval.ft_proj_selector (default: 0) set it in later "
        "stages.",
        minimum=-1,
    )

    @property
    def num_head_layers(self) -> int:
        """Layers of the projection head: 0, 1 or `num_proj_layers`, by `proj_head_mode`."""
        return {"none": 0, "linear": 1, "nonlinear": self.num_proj_layers}[self.proj_head_mode]


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworksOptions(NetworkOptions, HeadOptions):
    """The options of all networks of a run."""


def stem_of(stem: str, image_size: int) -> str:
    """Returns the stem that `auto` stands for at `image_size` pixels; other stems unchanged."""
    if stem != "auto":
        return stem
    return "cifar" if image_size <= _LARGEST_CIFAR else "imagenet"
