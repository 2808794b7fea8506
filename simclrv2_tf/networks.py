"""The networks of a run, and their construction from options."""

from __future__ import annotations

import contextlib
import dataclasses
import random
from collections.abc import Callable, Iterator

from etils import epy

from simclrv2_tf.channels import RGB
from simclrv2_tf.network_options import NetworksOptions

with epy.lazy_imports():
    import keras

    from simclrv2_tf import heads
    from simclrv2_tf import resnet as resnets


@dataclasses.dataclass(frozen=True)
class Networks:
    """The networks of a run.

    Attributes:
        encoder: Model from images (B, H, W, channels) to representations (B, f).
        head: Model from (B, f) to the list of its hidden layers; None if a classifier uses the
            encoder and the initial weights have no head.
        classifier: Model from features (B, w) to logits (B, C); None without labels.
        classifier_layer: The head's layer that feeds the classifier; 0: the encoder's output.
        predictor: Model from embeddings (B, d) to predictions (B, d), for objectives with a
            predictor; else, and in later stages, None.
    """

    encoder: keras.Model
    head: keras.Model | None = None
    classifier: keras.Model | None = None
    classifier_layer: int = 0
    predictor: keras.Model | None = None

    @property
    def models(self) -> dict[str, keras.Model]:
        """Returns the networks that are not None, by name."""
        models = {
            "encoder": self.encoder,
            "head": self.head,
            "classifier": self.classifier,
            "predictor": self.predictor,
        }
        return {name: model for name, model in models.items() if model is not None}

    @property
    def channels(self) -> int:
        """Number of the images' channels."""
        return self.encoder.input_shape[-1]

    @property
    def head_part(self) -> keras.Model | None:
        """The part of the head between encoder and classifier."""
        return heads.up_to(self.head, self.classifier_layer) if self.classifier_layer else None

    @property
    def weights(self) -> list[keras.Variable]:
        """The variables of all networks."""
        return [v for model in self.models.values() for v in model.weights]

    def endpoints(self) -> keras.Model:
        """Returns all endpoints as one model: images (B, H, W, channels) to a dict by name.

        The encoder's endpoints come first, see `resnet.features`; a head adds "projection1",
        "projection2", ..., its hidden layers, and "projection", the embedding; a predictor adds
        "prediction", and a classifier "logits".

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
            if self.predictor is not None:
                found["prediction"] = self.predictor(hiddens[-1])
        if self.classifier is not None:
            found["logits"] = self.classifier(hiddens[layer])
        return keras.Model(self.encoder.input, found)

    def leading_to(self, endpoint: str) -> list[keras.Model]:
        """Returns only the models that map images to an endpoint, in order.

        Training the representation must not update the head's statistics.
        """
        if endpoint == "logits":
            path = (self.encoder, self.head_part, self.classifier)
            return [model for model in path if model is not None]
        if endpoint == "prediction":
            return [*self.leading_to("projection"), self.predictor]
        if endpoint.startswith("projection"):
            layer = int(endpoint.removeprefix("projection") or -1)
            return [self.encoder, heads.up_to(self.head, layer)]
        return [keras.Model(self.encoder.input, self.encoder.get_layer(endpoint).output)]

    def image_classifier(self) -> keras.Model:
        """Returns all models from images (B, S, S, channels) to logits (B, C) as one model."""
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
    channels: int = RGB,
    zero_init: bool = False,
    predictor_width: Callable[[int, int], int] | None = None,
    resnet: Callable[..., keras.Model] | None = None,
) -> Networks:
    """Builds the networks that `options` describe.

    Args:
        options: Any object with the fields of `NetworkOptions` and `HeadOptions`.
        num_classes: C; 0 for networks without a classifier.
        image_size: Side of the training images in pixels; chooses the stem "auto".
        channels: Channels of the images.
        seed: The initial weights are a function of it and the architecture.
        zero_init: Whether the classifier's kernel starts at zero.
        predictor_width: Function of the widths of the head's hidden layers and of the embedding
            that returns the width of the predictor's hidden layer; None for networks without a
            predictor.
        resnet: Replacement of `resnet.resnet`, with the same arguments.
    """
    with _initializers_seeded(seed):
        norm = dict(global_batch_norm=options.global_bn, batch_norm_decay=options.batch_norm_decay)
        encoder = (resnet or resnets.resnet)(
            depth=options.resnet_depth,
            width_multiplier=options.width_multiplier,
            sk_ratio=options.sk_ratio,
            se_ratio=options.se_ratio,
            image_size=image_size,
            stem=options.stem,
            channels=channels,
            **norm,
        )
        head = heads.projection_head(
            encoder.output_shape[-1],
            num_layers=options.num_proj_layers,
            out_dim=options.proj_out_dim,
            mode=options.proj_head_mode,
            hidden_dim=options.proj_hidden_dim or None,
            output_batch_norm=options.proj_output_bn,
            output_scale=options.proj_output_scale,
            **norm,
        )
        classifier = None
        if num_classes:
            features = head.outputs[options.ft_proj_selector]
            classifier = heads.classifier(features.shape[-1], num_classes, zero_init=zero_init)
        predictor = None
        if predictor_width is not None:
            width = head.outputs[-1].shape[-1]
            hidden_dim = options.proj_hidden_dim or encoder.output_shape[-1]
            predictor = heads.predictor(width, predictor_width(hidden_dim, width), **norm)
        return Networks(encoder, head, classifier, options.ft_proj_selector, predictor)


@contextlib.contextmanager
def _initializers_seeded(seed: int) -> Iterator[None]:
    """Makes weights built inside this context depend only on `seed`.

    Keras's initializers draw their seeds from Python's generator. `keras.utils.set_random_seed`
    would also seed TensorFlow, which clears its cache of kernels, so that each operation is looked
    up again.
    """
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)
