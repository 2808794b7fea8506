"""Objectives: pure functions of embeddings or logits, and thin objects that configure them.

`--objective=NAME` is the file NAME here, with the formula as a function of that name and an
`Objective` that holds its options. New files are found automatically. `base.Objective` is the
contract.

b = examples per replica, R = replicas, N = R * b, d = embedding width, C = classes. Every objective
takes the embeddings or logits of this replica, tensors or NumPy arrays of any float dtype, computes
in float32, and never divides by the replica count: the mean over replicas of its value and of its
gradient is the value and gradient of the global batch.

Importing this package imports neither TensorFlow nor Keras.
"""

import importlib
import pkgutil
from typing import Any

from simclrv2_tf import options
from simclrv2_tf.objectives.barlow_twins import BarlowTwins, barlow_twins
from simclrv2_tf.objectives.base import Objective
from simclrv2_tf.objectives.byol import BYOL, byol
from simclrv2_tf.objectives.consistency import mean_teacher_per_example, pseudo_label_per_example
from simclrv2_tf.objectives.decoupled import Decoupled, decoupled
from simclrv2_tf.objectives.distillation import distillation, distillation_per_example
from simclrv2_tf.objectives.nt_xent import NTXent, nt_xent
from simclrv2_tf.objectives.simsiam import SimSiam, simsiam
from simclrv2_tf.objectives.tico import TiCo, tico
from simclrv2_tf.objectives.vicreg import VICReg, vicreg
from simclrv2_tf.objectives.vicreg_tico import VICRegTiCo, vicreg_tico


def _discover() -> dict[str, type[Objective]]:
    """Finds the class of each objective by the name of its file."""
    found = {}
    for file in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{file.name}")
        for value in vars(module).values():
            ours = isinstance(value, type) and value.__module__ == module.__name__
            if ours and issubclass(value, Objective) and "summary" in vars(value):
                found[file.name] = value
                # The import has set the package's attribute to the module: replace it with the
                # function.
                globals()[file.name] = getattr(module, file.name)
    return found


OBJECTIVES = _discover()
NAMES = tuple(OBJECTIVES)

_SUMMARIES = " ".join(f"{name}: {cls.summary}." for name, cls in OBJECTIVES.items())
ObjectiveOptions = options.merged(
    "ObjectiveOptions",
    "Objective of pretraining",
    tuple(OBJECTIVES.values()),
    objective=(
        "str",
        options.option("nt_xent", f"Loss of pretraining. {_SUMMARIES}", choices=NAMES),
    ),
)


def make(flags: Any, width: int) -> Objective:
    """Makes the objective that `flags.objective` names; see `Objective.from_options`."""
    return OBJECTIVES[flags.objective].from_options(flags, width)
