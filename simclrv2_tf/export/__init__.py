"""Writes trained networks to files, and reads them for inference.

* `export` writes a SavedModel that can be fine-tuned without this package;
* `Artifacts` covers all files of the networks of a run or an import;
* `formats` has one row per format, which writes and reads it;
* `load_model` reads any of these files.
"""

from etils import epy

# Lazily: the options of an export are declared without TensorFlow.
with epy.lazy_api_imports(globals()):
    from simclrv2_tf.export.artifacts import Artifacts
    from simclrv2_tf.export.formats import EXPORT_FORMATS, ExportOptions, check_formats, load_model
    from simclrv2_tf.export.model import ExportError, Model, ModelError
    from simclrv2_tf.export.saved_model import export
