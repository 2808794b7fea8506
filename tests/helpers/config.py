"""Command lines to configurations, for the tests of `config`."""

import pytest

from simclrv2_tf.config import Config, ConfigError


def parse(*args: str) -> Config:
    return Config.from_argv(["run", *args])


def errors_of(*args: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(*args)
    assert str(caught.value).splitlines() == list(caught.value.errors)
    return list(caught.value.errors)
