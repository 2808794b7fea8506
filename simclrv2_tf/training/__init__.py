"""The training loop for stages under any strategy, and the callbacks that write files."""

from etils import epy

with epy.lazy_api_imports(globals()):
    from simclrv2_tf.training.callbacks import Health, SaveCheckpoints
    from simclrv2_tf.training.divergence import LossSpikes, NonFiniteError
    from simclrv2_tf.training.history import HistoryFile, read_history, seconds_spent
    from simclrv2_tf.training.loop import evaluate, gather, train
    from simclrv2_tf.training.options import TrainingOptions
    from simclrv2_tf.training.summaries import Summaries
