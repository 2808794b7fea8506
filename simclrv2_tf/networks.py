"""The networks of a run, their options, and how they are built."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from etils import epy

from simclrv2_tf import options
from simclrv2_tf.depths import BLOCKS
from simclrv2_tf.options import option

with epy.lazy_imports():
    import keras

    from simclrv2_tf import heads
    from simclrv2_tf import resnet as resnets


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
        "Multiplier of every layer's width; 1/32 leaves the stem two filters, the fewest it can.",
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
        "imagenet: stride 2 and max pooling. cifar: stride 1, no pooling. auto: cifar where "
        "image_size is at most 32.",
        choices=("auto", "cifar", "imagenet"),
    )
    batch_norm_decay: float = option(
        0.9, "Decay of the moving batch statistics.", minimum=0, below=1
    )
    global_bn: bool = option(True, "Take batch statistics over all replicas.")

    @property
    def encoder_description(self) -> str:
        """Such as "ResNet-50 0.25x SK"; with basic blocks `sk_ratio` only makes a ResNet-D."""
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
        True, "Whether the head ends in a batch norm, as in SimCLRv2, or in its dense layer."
    )
    ft_proj_selector: int = option(
        0,
        "Layer of the projection head that feeds the classifier: 0 the encoder's output, k after "
        "layer k, -1 the head's output.",
        minimum=-1,
    )

    @property
    def num_head_layers(self) -> int:
        """Layers of the projection head: 0, 1 or `num_proj_layers`, by `proj_head_mode`."""
        return {"none": 0, "linear": 1, "nonlinear": self.num_proj_layers}[self.proj_head_mode]


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworksOptions(NetworkOptions, HeadOptions):
    """The options of all networks of a run."""


@dataclasses.dataclass(frozen=True)
class Networks:
    """The networks of a run.

    Attributes:
        encoder: Images (B, H, W, 3) to representations (B, f).
        head: (B, f) to the list of its hiddens; None where a classifier reads the encoder and the
            initial weights have no head.
        classifier: Features (B, w) to logits (B, C); None where there are no labels.
        classifier_layer: The head's layer that feeds the classifier; 0: the encoder's output.
    """

    encoder: keras.Model
    head: keras.Model | None = None
    classifier: keras.Model | None = None
    classifier_layer: int = 0

    @property
    def models(self) -> dict[str, keras.Model]:
        """The networks that are not None, by name."""
        models = {"encoder": self.encoder, "head": self.head, "classifier": self.classifier}
        return {name: model for name, model in models.items() if model is not None}

    @property
    def head_part(self) -> keras.Model | None:
        """The part of the head between encoder and classifier."""
        return heads.up_to(self.head, self.classifier_layer) if self.classifier_layer else None

    @property
    def weights(self) -> list[keras.Variable]:
        """The variables of all networks."""
        return [v for model in self.models.values() for v in model.weights]

    def endpoints(self) -> keras.Model:
        """All endpoints as one model: images (B, H, W, 3) to a dict by name, the encoder's first.

        The encoder's are those of `resnet.features`; a head adds "projection1", "projection2", ...,
        its hidden layers, and "projection", the embedding; a classifier adds "logits".

        Raises:
            ValueError: `classifier_layer` is not 0 without a head.
        """
        layer = self.classifier_layer
        if self.classifier is not None and self.head is None and layer != 0:
            raise ValueError(
                f"`classifier_layer` must be 0 without a head. Received: classifier_layer={layer}"
            )
        found = dict(resnets.features(self.encoder).output)
        hiddens = [found["representation"]]
        if self.head is not None:
            hiddens = self.head(hiddens[0])
            found |= {f"projection{k}": hidden for k, hidden in enumerate(hiddens[1:-1], start=1)}
            found["projection"] = hiddens[-1]
        if self.classifier is not None:
            found["logits"] = self.classifier(hiddens[layer])
        return keras.Model(self.encoder.input, found)

    def leading_to(self, endpoint: str) -> list[keras.Model]:
        """The models that turn images into an endpoint, one after the other, and no others.

        Training the representation must not move the head's statistics.
        """
        if endpoint == "logits":
            path = (self.encoder, self.head_part, self.classifier)
            return [model for model in path if model is not None]
        if endpoint.startswith("projection"):
            layer = int(endpoint.removeprefix("projection") or -1)
            return [self.encoder, heads.up_to(self.head, layer)]
        return [keras.Model(self.encoder.input, self.encoder.get_layer(endpoint).output)]

    def image_classifier(self) -> keras.Model:
        """Images (B, S, S, 3) to logits (B, C), by all models in between, as one model."""
        outputs = self.encoder.output
        for model in self.leading_to("logits")[1:]:
            outputs = model(outputs)
        return keras.Model(self.encoder.input, outputs, name="image_classifier")


def build_networks(
    options: NetworksOptions,
    num_classes: int,
    *,
    image_size: int,
    seed: int,
    zero_init: bool = False,
    resnet: Callable[..., keras.Model] | None = None,
) -> Networks:
    """Builds the networks that `options` describe.

    Args:
        options: Any object with the fields of `NetworkOptions` and `HeadOptions`.
        num_classes: C; 0 for networks without a classifier.
        image_size: Side of the training images in pixels; chooses the stem "auto".
        seed: The initial weights are a function of it and the architecture.
        zero_init: Whether the classifier's kernel starts at zero.
        resnet: In place of `resnet.resnet`, with the same arguments.
    """
    keras.utils.set_random_seed(seed)
    norm = dict(global_batch_norm=options.global_bn, batch_norm_decay=options.batch_norm_decay)
    encoder = (resnet or resnets.resnet)(
        depth=options.resnet_depth,
        width_multiplier=options.width_multiplier,
        sk_ratio=options.sk_ratio,
        se_ratio=options.se_ratio,
        image_size=image_size,
        stem=options.stem,
        **norm,
    )
    head = heads.projection_head(
        encoder.output_shape[-1],
        num_layers=options.num_proj_layers,
        out_dim=options.proj_out_dim,
        mode=options.proj_head_mode,
        hidden_dim=options.proj_hidden_dim or None,
        output_batch_norm=options.proj_output_bn,
        **norm,
    )
    classifier = None
    if num_classes:
        features = head.outputs[options.ft_proj_selector]
        classifier = heads.classifier(features.shape[-1], num_classes, zero_init=zero_init)
    return Networks(encoder, head, classifier, options.ft_proj_selector)
