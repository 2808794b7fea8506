"""Suggests images to label next: `python -m simclrv2_tf.suggest --model=... --images=...`.

`typiclust` chooses the images, `labelled` finds images with labels, `command` is the command line.
"""
