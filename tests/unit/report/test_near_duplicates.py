"""The page's part on evaluation images that look like training images."""

import numpy as np
import pytest

from helpers import report_runs
from simclrv2_tf.experiments import duplicates, report_page


def page(root):
    return report_runs.Page(report_page.write([str(root)], None).read_text())


def write(root, pairs, shown=2, of=(2000, 10_000)):
    rng = np.random.default_rng(0)
    np.savez(
        root / "pretrain" / duplicates.FILE,
        compared=np.array([1000, 10_000]),
        of=np.array(of),
        ids=np.array(pairs, np.str_).reshape(-1, 2),
        labels=np.array([[0, 0], [0, 1], [-1, 2]][: len(pairs)], np.int64).reshape(-1, 2),
        differences=np.linspace(0.001, 0.004, len(pairs)),
        mirrored=np.arange(len(pairs)) == 1,
        thumbnails=rng.integers(0, 256, (min(shown, len(pairs)), 2, 32, 32, 3), np.uint8),
    )


@pytest.fixture
def root(tmp_path):
    return report_runs.run_of_stages(tmp_path / "run", ended=1)


def test_pairs_are_shown_with_their_classes(root):
    pairs = [("test/a<b>.png", "train/c&d.png"), ("test/2", "train/3"), ("test/4", "train/5")]
    write(root, pairs)
    found = page(root)
    assert found.unclosed == []
    assert (
        "3 pairs found among the thumbnails of 1,000 evaluation images (of 2,000) with "
        "10,000 training images." in found.text
    )
    assert "In one pair the classes differ: one label may be wrong" in found.text
    assert "The table has the 2 most similar." in found.text
    table = next(rows for rows in found.tables if rows[0][1][0] == "evaluation image")
    cells = [[text for text, _ in row] for row in table[1:]]
    assert cells == [
        ["1", *pairs[0][:1], "cat", *pairs[0][1:], "cat", "0.0010", "no"],
        ["2", *pairs[1][:1], "cat", *pairs[1][1:], "dog", "0.0025", "yes"],
    ]
    assert any("2 evaluation images" in (tag[1].get("alt") or "") for tag in found.tags)


def test_that_none_was_found_is_said(root):
    write(root, [], of=(1000, 10_000))
    text = page(root).text
    assert "the thumbnails of 1,000 evaluation images with 10,000 training images" in text
    assert "but not crops or rotated images" in text


def test_a_run_that_did_not_look_says_nothing(root):
    assert "Near-duplicates" not in page(root).text


def test_a_damaged_file_is_left_out(root, caplog):
    (root / "pretrain" / duplicates.FILE).write_bytes(b"damaged")
    assert "Near-duplicates" not in page(root).text
    assert f"{duplicates.FILE} cannot be read" in caplog.text
