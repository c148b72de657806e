"""Parameters that estimators share are documented alike, and in one order."""

import inspect
import re

import pytest
from conftest import METHODS

from sknoisy.base import NoisyLabelClassifier

DOCUMENTED = [method for method in METHODS if "Parameters\n" in (method.__doc__ or "")]
OF_EACH_METHOD = {"self", "optimizer", "lr", "skorch_params"}
SHARED = sorted(inspect.signature(NoisyLabelClassifier.__init__).parameters.keys() - OF_EACH_METHOD)


def entries(method):
    """Return the text of each parameter in the class's docstring, by its name."""
    parameters = inspect.getdoc(method).partition("Parameters\n----------\n")[2]
    parameters = parameters.partition("\n\nAttributes\n")[0]
    found = re.split(r"^(\*{0,2}\w+) : ", parameters, flags=re.MULTILINE)[1:]
    return dict(zip(found[::2], found[1::2], strict=True))


def test_the_estimators_of_the_package_are_looked_at():
    assert len(DOCUMENTED) == 3
    assert len(SHARED) > 12


@pytest.mark.parametrize("name", [*SHARED, "**skorch_params"])
def test_shared_parameters_are_documented_alike(name):
    assert len({entries(method)[name] for method in DOCUMENTED}) == 1


@pytest.mark.parametrize("method", DOCUMENTED)
def test_parameters_are_documented_in_the_order_of_the_constructor(method):
    constructor = [
        f"**{p.name}" if p.kind is p.VAR_KEYWORD else p.name
        for p in inspect.signature(method).parameters.values()
    ]
    assert list(entries(method)) == constructor
