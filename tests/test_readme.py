"""The README's snippets run, in order, as one session; so do the docstrings' examples."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import sknoisy

MODULES = [m.name for m in pkgutil.walk_packages(sknoisy.__path__, "sknoisy.")]
README = Path(__file__).parent.parent / "README.md"

pytestmark = [
    pytest.mark.evidence,
    pytest.mark.usefixtures("few_epochs"),
    pytest.mark.filterwarnings("ignore:Labels were left as given"),  # small networks may be told so
    pytest.mark.filterwarnings("ignore:Training ended with epoch"),
    pytest.mark.filterwarnings("ignore:target_momentum"),  # few epochs are
]


@pytest.mark.slow
def test_snippets_run(tmp_path, monkeypatch):
    snippets = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    assert len(snippets) >= 5
    monkeypatch.chdir(tmp_path)  # they write files
    exec(compile("\n".join(snippets), str(README), "exec"), {"__name__": "readme"})


def test_modules_in_folders_are_found():
    assert {"sknoisy.alr", "sknoisy.metalabelnet.classifier"} <= set(MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_run(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0
