"""Tables and figures of results."""

from simclrv2_tf.report.confusion import confusion_figure
from simclrv2_tf.report.figures import (
    EPOCH,
    Panel,
    accuracy_figure,
    learning_curves_figure,
    views_figure,
)
from simclrv2_tf.report.label_steps import LabelPoint, LabelStep, label_steps, last_step
from simclrv2_tf.report.numbers import (
    Numbers,
    accuracy_numbers,
    learning_curves_numbers,
    reliability_numbers,
    save_drawn,
)
from simclrv2_tf.report.reliability import can_be_drawn, reliability_figure
from simclrv2_tf.report.results import (
    METHODS,
    Method,
    in_percent,
    percent,
    results_markdown,
    with_interval,
)
from simclrv2_tf.report.style import save_figure
from simclrv2_tf.tables import table
