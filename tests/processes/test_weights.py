"""Weights to start from, read in a new process and onto replicas."""

import json
import textwrap

import numpy as np

from helpers.processes import python
from helpers.stored_weights import write_all
from simclrv2_tf import weights

LOAD = textwrap.dedent(
    """
    import json, sys
    import numpy as np
    from simclrv2_tf import distribute, weights
    strategy = distribute.make_strategy("mirrored", 2)
    paths = json.loads(sys.argv[1])
    facts = {k: (weights.fingerprint(p), len(weights.shapes(p))) for k, p in paths.items()}
    from simclrv2_tf import heads, resnet
    expected = dict(np.load(sys.argv[2]))
    for kind, path in paths.items():
        with strategy.scope():
            encoder = resnet.resnet(10, 1 / 16, image_size=8, blocks=(1, 1))
            classifier = heads.classifier(encoder.output_shape[-1], 3)
            assert weights.fits(path, [encoder, classifier])
        weights.load(path, [encoder, classifier])
        for variable in [*encoder.weights, *classifier.weights]:
            for copy in strategy.experimental_local_results(variable.value):
                np.testing.assert_array_equal(copy, expected[variable.path.replace("/", "|")])
    print(json.dumps(facts))
    """
)


def test_a_new_process_reads_them_onto_replicas(tmp_path):
    """In a process that has built no network before, and into mirrored variables."""
    expected, paths = write_all(tmp_path)
    paths = {kind: paths[kind] for kind in ("run", "file", "saved model")}
    np.savez(tmp_path / "values.npz", **{k.replace("/", "|"): v for k, v in expected.items()})
    printed = python("-c", LOAD, json.dumps(paths), tmp_path / "values.npz")
    facts = json.loads(printed.splitlines()[-1])
    for kind, path in paths.items():
        assert facts[kind] == [weights.fingerprint(path), len(expected)], kind
