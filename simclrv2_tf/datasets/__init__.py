"""Image data sets as `tf.data`: the packaged set, TensorFlow Datasets, and folders of images.

`open_dataset` opens a data set and `ImageDataset.split` selects examples of it. From such a
`Split`, `pretraining_batches`, `training_batches`, `unlabelled_batches` and `evaluation_batches`
make the batches of a stage. TensorFlow is imported with the first split or batch.
"""

from etils import epy

from simclrv2_tf.datasets.options import DataOptions, LabelOptions
from simclrv2_tf.datasets.sources import PACKAGED, DatasetError, ImageDataset, open_dataset

with epy.lazy_api_imports(globals()):
    from simclrv2_tf.datasets.folder import open_images
    from simclrv2_tf.datasets.images import EXTENSIONS, decode, decode_rgb
    from simclrv2_tf.datasets.pipelines import (
        check_batch_size,
        evaluation_batches,
        first_views,
        pretraining_batches,
        training_batches,
        unlabelled_batches,
    )
    from simclrv2_tf.datasets.splits import Split
