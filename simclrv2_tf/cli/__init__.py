"""The short command line, `simclrv2-tf COMMAND`.

`commands` is the table of the commands, `training` turns a command into a command line of
`simclrv2_tf.run`, `arguments` reads it. Help is printed without the package's options, which take a
third of a second to import.
"""

from simclrv2_tf.cli.program import main
