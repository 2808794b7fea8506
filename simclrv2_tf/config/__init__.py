"""The configuration of a run: each option is declared once, for flags, `--help` and `config.json`.

Nothing here imports TensorFlow or Keras, so `--help` and errors in flags appear immediately.
"""

from etils import epy

with epy.lazy_api_imports(globals()):
    from simclrv2_tf.config.config import Config, define_flags, flag_options
    from simclrv2_tf.config.recipes import recipe_names
    from simclrv2_tf.options import ConfigError
