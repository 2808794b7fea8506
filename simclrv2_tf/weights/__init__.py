"""Weights on disk by variable path: checkpoints for exact resuming, and starting weights.

`Checkpoints` saves and restores the whole state of a run. `shapes`, `fits`, `load` and
`fingerprint` read starting weights, whose `path` can be

1. checkpoints of a run: its folder (with several stages: of its pretraining), a folder of
   checkpoints, or one checkpoint's prefix;
2. a SavedModel of `export.export`: its folder;
3. `.keras` files of a run: a folder without checkpoints but with `encoder.keras`, or that file,
   with `head.keras` and `classifier.keras` alongside. Any other `.keras` file is read on its own;
4. weights that the reference released, see `official`: a TF1 checkpoint's folder or prefix, a
   SavedModel's folder, or a released model's name.
"""

from simclrv2_tf.weights.preprocessing import antialiased, channels
from simclrv2_tf.weights.readers import CheckpointError, named
from simclrv2_tf.weights.resume import PROGRESS, Checkpoints
from simclrv2_tf.weights.sources import fingerprint, fits, latest, load, shapes
