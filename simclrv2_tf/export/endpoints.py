"""The endpoints of an exported network: their names, values, and the models on the way."""

from __future__ import annotations

from collections.abc import Callable

from etils import epy

with epy.lazy_imports():
    import keras

    from simclrv2_tf import heads, resnet


def checked_names(encoder, head, classifier, classifier_layer, class_names) -> list[str]:
    """The names of all endpoints of networks that fit together."""
    if classifier is not None and head is None and classifier_layer != 0:
        raise ValueError(
            "`classifier_layer` must be 0 without a head. "
            f"Received: classifier_layer={classifier_layer}"
        )
    num_classes = 0 if classifier is None else classifier.output_shape[-1]
    if class_names and len(class_names) != num_classes:
        raise ValueError(
            f"`class_names` must name the {num_classes} classes. Received: {len(class_names)} names"
        )
    names = list(resnet.endpoints(encoder))
    if head is not None:
        names += [f"projection{k}" for k in range(1, len(head.outputs) - 1)] + ["projection"]
    return names + ["logits"] * (classifier is not None)


def outputs(encoder, head, classifier, classifier_layer) -> Callable:
    """A function from images to all endpoints by name, in inference."""
    features = resnet.features(encoder)

    def endpoints(images):
        found = dict(features(images, training=False))
        hiddens = [found["representation"]]
        if head is not None:
            hiddens = head(found["representation"], training=False)
            found |= {f"projection{k}": hidden for k, hidden in enumerate(hiddens[1:-1], start=1)}
            found["projection"] = hiddens[-1]
        if classifier is not None:
            found["logits"] = classifier(hiddens[classifier_layer], training=False)
        return found

    return endpoints


def models_to(output, encoder, head, classifier, classifier_layer) -> list[keras.Model]:
    """The models on the way to `output`, and no others.

    Training the representation must not move the head's statistics.
    """
    if output == "logits":
        part = [heads.up_to(head, classifier_layer)] if classifier_layer else []
        return [encoder, *part, classifier]
    if output.startswith("projection"):
        return [encoder, heads.up_to(head, int(output.removeprefix("projection") or -1))]
    return [keras.Model(encoder.input, encoder.get_layer(output).output)]
