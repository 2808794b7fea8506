"""Image operations of SimCLRv2: crops, flip, color, blur, and the views made of them.

Pure TensorFlow functions without state. Images are RGB, NHWC, float32 in [0, 1]; uint8 and uint16
images are accepted everywhere and scaled to that range first. The crops take one image, because
images differ in size before they are cropped. Everything after the crop takes one image (H, W, 3)
or a batch (B, H, W, 3), in which every image draws its own parameters; it is several times faster
per image on a batch.

Random operations take `seed`. With a seed, a pair of integers, they are deterministic. With None
they draw anew at each execution, also inside `tf.function` and `tf.data.Dataset.map`. One rule of
TensorFlow's is inherited: after `tf.random.set_seed`, every *new iterator* over a mapped data set
starts the same sequence of draws again. So repeat inside the pipeline (`map(...).repeat()` draws
anew), or hand in seeds.

Where a batch is spread over several hosts, `shard` = (index, count) says that a host has every
count-th image of it, from the index-th on. Each image then draws what it would draw in the whole
batch: the number of hosts changes nothing.

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
from simclrv2_tf.augment.views import ViewOptions, pretraining_view, random_flip

__all__ = [
    "CROP_PROPORTION",
    "SMALL_IMAGE",
    "ViewOptions",
    "center_crop",
    "evaluation_image",
    "gaussian_blur",
    "pretraining_view",
    "random_blur",
    "random_color",
    "random_crop",
    "random_flip",
]
