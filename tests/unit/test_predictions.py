"""`predictions.csv`, read as it was written."""

import csv

import numpy as np
import pytest
from etils import epath

from simclrv2_tf import predictions


def test_a_file_is_read_as_written(tmp_path):
    path = epath.Path(tmp_path / predictions.NAME)
    names = ("a, b", 'the "c"', "é")
    written = predictions.Predictions(
        np.array(["test/1, 2.png", "ü.png"]),
        np.array([2, 0]),
        np.array([1, 0]),
        np.array([0.25, 1.0]),
        names,
    )
    predictions.write(path, written)
    assert list(csv.reader((tmp_path / predictions.NAME).open(encoding="utf-8")))[1:] == [
        ["test/1, 2.png", "é", 'the "c"', "0.250000"],
        ["ü.png", "a, b", "a, b", "1.000000"],
    ]
    found = predictions.read(path)
    assert found.ids.tolist() == written.ids.tolist()
    assert [found.class_names[place] for place in found.labels] == ["é", "a, b"]
    assert [found.class_names[place] for place in found.predicted] == ['the "c"', "a, b"]
    assert found.confidence.tolist() == [0.25, 1.0] and found.right.tolist() == [False, True]


def test_a_file_without_images_is_read(tmp_path):
    path = epath.Path(tmp_path / predictions.NAME)
    none = np.array([], np.int64)
    predictions.write(path, predictions.Predictions(none, none, none, none, ("a",)))
    assert len(predictions.read(path).right) == 0


@pytest.mark.parametrize("text", ["", "file,class\n", "file,class,predicted,confidence\na,b\n"])
def test_another_file_is_refused(tmp_path, text):
    (tmp_path / "other.csv").write_text(text)
    with pytest.raises(ValueError, match="`path` must have the columns file, class, predicted"):
        predictions.read(epath.Path(tmp_path / "other.csv"))
