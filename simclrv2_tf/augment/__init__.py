"""Image operations of SimCLRv2: crops, flips, color, blur, and the views made of them.

Pure TensorFlow functions without state. Shared conventions:

* Images are NHWC, float in [0, 1], or uint8 or uint16 and then scaled to [0, 1]. Three channels are
  RGB; any other number C of channels is gray or bands, which have no hue or saturation. The crops
  take one image (H, W, C), because images differ in size before they are cropped, and return (S, S,
  C). All other functions take one image or a batch (B, H, W, C) and return the same shape. A batch
  is several times faster per image. Every image of a batch draws its own parameters. Results are
  float32 in [0, 1].
* `seed` is a pair of integers, which determines all random draws, or None: each execution then
  draws new values, also inside `tf.function` and `tf.data.Dataset.map`. After `tf.random.set_seed`,
  however, TensorFlow starts every *new iterator* over a mapped data set with the same draws: repeat
  inside the pipeline (`map(...).repeat()` draws new values), or pass seeds.
* `shard` = (index, count) gives a function every count-th image of a batch, starting with the
  index-th, such as the part of one host. Each image draws the same values as in the whole batch,
  which requires a seed.
* A ValueError names the argument that is out of range, or the shape or type of the images.

Sources: SimCLR, Chen et al. 2020, arXiv 2002.05709, appendix A (the views); SimCLRv2, Chen et al.
2020, arXiv 2006.10029; "the reference" is the authors' code, google-research/simclr.
"""

from simclrv2_tf.augment.blur import gaussian_blur, random_blur
from simclrv2_tf.augment.color import random_color
from simclrv2_tf.augment.crops import (
    CROP_PROPORTION,
    SMALL_IMAGE,
    center_crop,
    evaluation_image,
    random_crop,
)
from simclrv2_tf.augment.orientation import random_flip, random_orientation
from simclrv2_tf.augment.strong import strong_view
from simclrv2_tf.augment.views import ViewOptions, pretraining_view
