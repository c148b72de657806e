"""Predictions as they were: a change of behaviour is seen (see make_references.py)."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from make_references import FOLDER, references


@pytest.fixture(scope="module")
def now():
    return references()


NAMES = ["ALRClassifier", "SyntheticMixClassifier", "MetaLabelNetClassifier"]


def assert_on_file(name, found):
    """Equal but for what a processor without fused multiply-add rounds in the initial weights."""
    on_file = json.loads((FOLDER / f"{name}.json").read_text())
    assert on_file.keys() == found.keys()
    for key, values in on_file.items():
        np.testing.assert_allclose(found[key], values, rtol=1e-7, atol=1e-9, err_msg=key)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_predictions_are_those_on_file(name, now):
    assert_on_file(name, now[name])


# A thread that waits sleeps: two that spin take minutes on a machine that is busy.
THREADS = {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "passive"}


@pytest.mark.slow
@pytest.mark.parametrize("processor", ["default", "avx2"])
def test_other_processors_and_more_threads_predict_the_same(processor):
    """torch takes these paths on processors that have no AVX, or no AVX-512."""
    code = "import json; from make_references import references; print(json.dumps(references()))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "ATEN_CPU_CAPABILITY": processor, **THREADS},
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    for name in NAMES:
        assert_on_file(name, found[name])
