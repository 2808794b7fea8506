"""Imports the reference's released weights into our networks.

* `Variables` reads its TF1 checkpoints and TF2 SavedModels, by variable name;
* `infer` infers the networks from names and shapes;
* `load_checkpoint` and `load_weights` fill networks; each variable is used once or reported;
* `released` lists the published models by short name, with their accuracy.

`python -m simclrv2_tf.official` imports from the command line.
"""

from etils import epy

# Lazily: `python -m simclrv2_tf.official` changes settings before TensorFlow is imported.
with epy.lazy_api_imports(globals()):
    from simclrv2_tf.official.architecture import Architecture, infer
    from simclrv2_tf.official.catalog import ReleasedModel, released, resolve
    from simclrv2_tf.official.files import OfficialError, Variables, object_graph
    from simclrv2_tf.official.weights import Report, load_checkpoint, load_weights, names_by_path
