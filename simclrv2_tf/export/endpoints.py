"""The endpoints of an exported network, and the models that lead to one of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from etils import epy

with epy.lazy_imports():
    import keras

    from simclrv2_tf import heads, resnet

if TYPE_CHECKING:
    from simclrv2_tf.networks import Networks


def endpoints(networks: Networks) -> keras.Model:
    """All endpoints as one model: images (B, H, W, 3) to a dict by name, the encoder's first."""
    encoder, head, classifier = networks.encoder, networks.head, networks.classifier
    found = {name: encoder.get_layer(name).output for name in resnet.endpoints(encoder)}
    hiddens = [found["representation"]]
    if head is not None:
        hiddens = head(found["representation"])
        found |= {f"projection{k}": hidden for k, hidden in enumerate(hiddens[1:-1], start=1)}
        found["projection"] = hiddens[-1]
    if classifier is not None:
        found["logits"] = classifier(hiddens[networks.classifier_layer])
    return keras.Model(encoder.input, found)


def models_to(output: str, networks: Networks) -> list[keras.Model]:
    """The models that lead to an endpoint, one after the other, and no others.

    Training the representation must not move the head's statistics.
    """
    if output == "logits":
        return networks.to_logits
    encoder = networks.encoder
    if output.startswith("projection"):
        layer = int(output.removeprefix("projection") or -1)
        return [encoder, heads.up_to(networks.head, layer)]
    return [keras.Model(encoder.input, encoder.get_layer(output).output)]
