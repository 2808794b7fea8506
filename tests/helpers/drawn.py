"""Networks whose weights all have values of their own."""

import numpy as np

from simclrv2_tf import heads
from simclrv2_tf.networks import Networks


def drawn(model, seed=0):
    """Gives all weights values of their own, variances positive."""
    rng = np.random.default_rng(seed)
    model.set_weights(
        [
            rng.uniform(0.5, 1.5, w.shape) if w.ndim == 1 else 0.05 * rng.normal(size=w.shape)
            for w in model.get_weights()
        ]
    )
    return model


def classifier_of(encoder, layer):
    """Images to logits, after `layer` layers of a head."""
    width = encoder.output_shape[-1]
    head = heads.projection_head(width, 3, 16, hidden_dim=24)
    own = heads.classifier(24 if layer else width, 5)
    return drawn(Networks(encoder, head, own, classifier_layer=layer).image_classifier())
