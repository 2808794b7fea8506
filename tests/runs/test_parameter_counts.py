"""The networks of the paper in their full size, which take seconds to build."""

import json

import keras
import numpy as np
import pytest

from helpers import oracle
from simclrv2_tf import heads, resnet


def count(variables):
    return sum(int(np.prod(v.shape)) for v in variables)


@pytest.mark.parametrize("index", range(17))
def test_parameter_counts_are_the_papers(index):
    path = oracle.ORACLE / "parameter_counts.json"
    if not path.exists():
        pytest.skip("the reference's recordings are not beside the project")
    row = json.loads(path.read_text())[index]
    # Up to 795 million numbers, whose values do not matter here.
    with keras.StatelessScope(initialize_variables=False):
        encoder = resnet.resnet(row["depth"], row["width"], row["sk"])
        width = encoder.output_shape[-1]
        head = heads.projection_head(width)
        classifier = heads.classifier(width, 1000)
    assert count(encoder.trainable_variables) == row["base_trainable"]
    assert count(encoder.variables) == row["base_all"]
    assert count(head.trainable_variables) == row["proj_trainable"]
    assert count(head.variables) == row["proj_all"]
    assert count(classifier.variables) == row["sup"]
