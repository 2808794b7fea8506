"""The configuration of a run: every option once, as a flag, in `--help` and in `config.json`.

Nothing here imports TensorFlow or Keras, so `--help` and a mistyped flag are answered at once.
"""

from etils import epy

with epy.lazy_api_imports(globals()):
    from simclrv2_tf.config.config import Config, define_flags, flag_options
    from simclrv2_tf.config.recipes import recipe_names
    from simclrv2_tf.options import ConfigError
