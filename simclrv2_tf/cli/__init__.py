"""The short command line, `simclrv2-tf COMMAND`.

`commands` is the table of the commands, `training` makes a command line of `simclrv2_tf.run` out of
one, `arguments` reads it. Help is printed without any of the package's options, which take a third
of a second to import.
"""

from simclrv2_tf.cli.program import main
