"""Training that is stopped and resumed equals training that is not."""

import keras
import numpy as np

from helpers.stages import pretrainer, train, weights
from simclrv2_tf import optimizers
from simclrv2_tf import weights as checkpoints


def test_stop_and_resume_equals_not_stopping(tmp_path):
    def make():
        stage = pretrainer(optimizer=optimizers.LARS(0.5, weight_decay=1e-4))
        models = (stage.encoder, stage.head, stage.classifier)
        state = checkpoints.named([v for m in models for v in m.weights], stage.optimizer)
        return stage, models, checkpoints.Checkpoints(str(tmp_path / "checkpoints"), state, 2)

    straight, models, store = make()
    assert not store.restore()
    halfway = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: epoch == 0 and store.save(3)
    )
    train(straight, 0, 6, callbacks=[halfway])
    expected = weights(*models)

    second, models, store = make()
    assert store.restore()
    assert int(second.optimizer.iterations.numpy()) == 3
    train(second, 3, 6)
    for path, value in weights(*models).items():
        np.testing.assert_allclose(value, expected[path], rtol=1e-5, atol=1e-7, err_msg=path)
