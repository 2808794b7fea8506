"""The cost model of docs/scaling.md, on a network small enough to count by hand."""

import json

from helpers.paths import ROOT
from simclrv2_tf import heads, resnet

FOLDER = ROOT / "benchmarks" / "scaling"


def test_a_small_network_counted_by_hand(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER.parent)
    from scaling import run as scaling

    monkeypatch.setitem(resnet.BLOCKS, 18, (1, 0, 0, 0))
    encoder = resnet.resnet(18, 1 / 16, image_size=8)  # 4 channels, 8 x 8, stride 1 throughout
    cost = scaling.measure(encoder, heads.projection_head(4, 2, 6), 8)
    stem = 2 * 64 * 3 * 3 * 3 * 4
    block = 2 * 64 * (4 * 4 + 2 * 3 * 3 * 4 * 4)  # the shortcut and two convolutions
    head = 2 * (4 * 4 + 4 * 6)
    assert cost.first_flops == stem
    assert cost.forward_flops == stem + block + head
    assert cost.training_flops == 2 * stem + 3 * (block + head)
    assert cost.batch_norms == (4, 4, 4, 4, 4, 6)  # stem, shortcut, two of the block, head
    kernels = stem // 128 + block // 128 + head // 2
    assert cost.parameters == kernels + 2 * 4 * 5 + 6  # the last has no beta
    # Kept: the images; inputs of the five batch norms, and outputs of their three ReLUs (of which
    # the last adds the shortcut); of the head its input, dense outputs and one ReLU.
    planes = 64 * (3 + 4 * (4 + 3))
    assert cost.kept_elements == planes + (4 + 4 + 4 + 6)
    sent = cost.sent(batch=5)
    assert sent["gradients"] == 4 * cost.parameters
    assert sent["batch_norm"] == 4 * 4 * 26 and sent["batch_norm_calls"] == 24
    assert sent["embeddings"] == 4 * 2 * (2 * 5 * 6)


def test_what_is_recorded_is_what_the_page_shows():
    recorded = json.loads((FOLDER / "results.json").read_text())
    page = (ROOT / "docs" / "scaling.md").read_text()
    assert (FOLDER / "results.md").read_text() in page
    check = recorded["check"]
    for kind in ("predicted", "counted"):
        assert all(f"{value:,}" in page for value in check[kind].values())
    exact = ("forward", "dense", "bytes", "calls")
    assert [check["predicted"][k] for k in exact] == [check["counted"][k] for k in exact]
    assert len(recorded["networks"]) == 13
