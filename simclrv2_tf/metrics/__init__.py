"""Metrics: a classifier's calibration; rank, spread and distances of representations."""

from etils import epy

with epy.lazy_api_imports(globals()):
    from simclrv2_tf.metrics.calibration import Calibration
    from simclrv2_tf.metrics.representations import (
        alignment,
        collapsed,
        effective_rank,
        measure,
        settled_after,
        spread,
        uniformity,
    )
