"""SimCLRv2 in Keras 3 and TensorFlow: pretrain, fine-tune, distill (arXiv 2006.10029).

```python
import simclrv2_tf as sc

encoder = sc.resnet.resnet(depth=50)
head = sc.heads.projection_head(encoder.output_shape[-1])
stage = sc.Pretrainer(encoder, head, sc.NTXent(temperature=0.1))
```

Imports are lazy: `import simclrv2_tf` does not import TensorFlow.
"""

from etils import epy

__version__ = "0.1.0"

with epy.lazy_api_imports(globals()):
    from simclrv2_tf import (
        augment,
        datasets,
        distribute,
        experiments,
        export,
        heads,
        metrics,
        objectives,
        official,
        optimizers,
        resnet,
        stages,
        training,
        weights,
    )
    from simclrv2_tf.augment import center_crop, gaussian_blur, random_color, random_crop
    from simclrv2_tf.config import Config
    from simclrv2_tf.datasets import (
        evaluation_batches,
        open_dataset,
        pretraining_batches,
        training_batches,
    )
    from simclrv2_tf.objectives import (
        BYOL,
        BarlowTwins,
        Decoupled,
        NTXent,
        SimSiam,
        TiCo,
        VICReg,
        VICRegTiCo,
        barlow_twins,
        byol,
        decoupled,
        distillation,
        nt_xent,
        simsiam,
        tico,
        vicreg,
        vicreg_tico,
    )
    from simclrv2_tf.optimizers import LARS, WarmupCosine, peak_learning_rate
    from simclrv2_tf.stages import Classifier, Distiller, Pretrainer
