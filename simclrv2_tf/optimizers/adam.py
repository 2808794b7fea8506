"""Adam on TensorFlow's fused kernel."""

import keras
from etils import epy
from keras import ops

with epy.lazy_imports():
    import tensorflow as tf


@keras.saving.register_keras_serializable(package="simclrv2_tf")
class Adam(keras.optimizers.Adam):
    """Adam (Kingma and Ba, arXiv 1412.6980) on TensorFlow's fused kernel.

    Takes the arguments of `keras.optimizers.Adam` and has its variables. The update is the same but
    for rounding: the kernel takes 1 - beta_2 in float32, 5e-5 off for 0.999. The kernel is one
    operation for each variable in place of about twenty, which makes networks of many small
    variables quicker to trace and to train. With `amsgrad`, and under other backends, updates are
    Keras's own.
    """

    def update_step(self, gradient, variable, learning_rate):
        if keras.backend.backend() != "tensorflow" or self.amsgrad:
            super().update_step(gradient, variable, learning_rate)
            return
        index = self._get_variable_index(variable)
        dtype = variable.dtype
        step = ops.cast(self.iterations + 1, dtype)
        beta_1, beta_2 = ops.cast(self.beta_1, dtype), ops.cast(self.beta_2, dtype)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=ops.power(beta_1, step),
            beta2_power=ops.power(beta_2, step),
            lr=ops.cast(learning_rate, dtype),
            beta1=beta_1,
            beta2=beta_2,
            epsilon=ops.cast(self.epsilon, dtype),
            grad=ops.cast(tf.convert_to_tensor(gradient), dtype),
        )
