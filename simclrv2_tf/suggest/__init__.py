"""Which images to label next: `python -m simclrv2_tf.suggest --model=... --images=...`.

`typiclust` is the choice, `labelled` what has labels already, `command` the command line.
"""
