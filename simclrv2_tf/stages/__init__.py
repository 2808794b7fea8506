"""The training stages as Keras models: pretraining, classifiers, distillation, semi-supervision.

A stage defines its loss, and `Stage` the training step. Stages work with Keras's own `fit` on one
device, and with `training.train` under every `tf.distribute` strategy.
"""

from etils import epy

from simclrv2_tf.stages.options import (
    ClassifierOptions,
    DistillerOptions,
    PretrainerOptions,
    SemiSupervisedOptions,
)

with epy.lazy_api_imports(globals()):
    from simclrv2_tf.stages.base import Stage
    from simclrv2_tf.stages.classifier import Classifier
    from simclrv2_tf.stages.distiller import Distiller
    from simclrv2_tf.stages.evaluation import Evaluation
    from simclrv2_tf.stages.pretrainer import Pretrainer
    from simclrv2_tf.stages.semi_supervised import (
        STRONG,
        FixMatch,
        MeanTeacher,
        PseudoLabel,
        SemiSupervised,
    )
