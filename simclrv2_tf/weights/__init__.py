"""Weights on disk by variable path: checkpoints, exact to resume, and weights to start from.

`Checkpoints` saves and restores all that a run has to remember. Weights to start from are read by
`shapes`, `fits`, `load` and `fingerprint`, whose `path` leads to

1. checkpoints of a run: its folder (of several stages: its pretraining's), a folder of
   checkpoints, or one checkpoint's prefix;
2. a SavedModel of `export.export`: its folder;
3. `.keras` files of a run: a folder that has no checkpoints but `encoder.keras`, or that file;
   `head.keras` and `classifier.keras` beside it belong to it. Any other `.keras` file is read
   alone;
4. weights that the reference released, see `official`: a TF1 checkpoint's folder or prefix, a
   SavedModel's folder, or a released model's name.
"""

from simclrv2_tf.weights.preprocessing import antialiased, channels
from simclrv2_tf.weights.readers import CheckpointError, named
from simclrv2_tf.weights.resume import PROGRESS, Checkpoints
from simclrv2_tf.weights.sources import fingerprint, fits, latest, load, shapes
