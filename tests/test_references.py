"""Predictions as they were: a change of behaviour is seen (see make_references.py)."""

import json

import numpy as np
import pytest
from make_references import FOLDER, references


@pytest.fixture(scope="module")
def now():
    return references()


@pytest.mark.parametrize(
    "name", ["ALRClassifier", "SyntheticMixClassifier", "MetaLabelNetClassifier"]
)
def test_predictions_are_those_on_file(name, now):
    on_file = json.loads((FOLDER / f"{name}.json").read_text())
    assert on_file.keys() == now[name].keys()
    for key, values in on_file.items():
        np.testing.assert_allclose(now[name][key], values, rtol=1e-7, atol=1e-9, err_msg=key)
