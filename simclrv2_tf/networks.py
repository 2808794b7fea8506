"""The networks that a configuration describes."""

from __future__ import annotations

import dataclasses

import keras

from simclrv2_tf import heads, resnet
from simclrv2_tf.config import Config


@dataclasses.dataclass(frozen=True)
class Networks:
    """The networks of a run.

    The classifier is absent where there are no labels, and the head where a classifier reads the
    encoder and the weights it started from have none.
    """

    encoder: keras.Model
    head: keras.Model | None
    classifier: keras.Model | None
    classifier_layer: int = 0  # of the head, which feeds the classifier; 0: the encoder's output

    @property
    def models(self) -> dict[str, keras.Model]:
        """Those there are, by name."""
        models = {"encoder": self.encoder, "head": self.head, "classifier": self.classifier}
        return {name: model for name, model in models.items() if model is not None}

    @property
    def head_part(self) -> keras.Model | None:
        """What of the head lies between encoder and classifier."""
        return heads.up_to(self.head, self.classifier_layer) if self.classifier_layer else None

    def image_classifier(self) -> keras.Model:
        """Images (B, S, S, 3) to logits (B, C): the way to the classifier as one model."""
        features = self.encoder.output
        if self.head_part is not None:
            features = self.head_part(features)
        return keras.Model(self.encoder.input, self.classifier(features), name="image_classifier")

    @property
    def weights(self) -> list[keras.Variable]:
        return [v for model in self.models.values() for v in model.weights]


def build_networks(config: Config, num_classes: int) -> Networks:
    """Builds the networks that `config` describes; without a classifier for 0 classes.

    Initial weights are a function of `config.seed` and the architecture.
    """
    keras.utils.set_random_seed(config.seed)
    norm = dict(global_batch_norm=config.global_bn, batch_norm_decay=config.batch_norm_decay)
    encoder = resnet.resnet(
        depth=config.resnet_depth,
        width_multiplier=config.width_multiplier,
        sk_ratio=config.sk_ratio,
        se_ratio=config.se_ratio,
        image_size=config.image_size,
        stem=config.stem,
        **norm,
    )
    head = heads.projection_head(
        encoder.output_shape[-1],
        num_layers=config.num_proj_layers,
        out_dim=config.proj_out_dim,
        mode=config.proj_head_mode,
        hidden_dim=config.proj_hidden_dim or None,
        output_batch_norm=config.proj_output_bn,
        **norm,
    )
    classifier = None
    if num_classes:
        classifier = heads.classifier(
            head.outputs[config.ft_proj_selector].shape[-1],
            num_classes,
            zero_init=config.zero_init_logits_layer,
        )
    return Networks(encoder, head, classifier, config.ft_proj_selector)
