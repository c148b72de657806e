"""Imports point one way: equations, networks, the training of one net, the base, a method.

A folder may import what stands below it; its files may import each other, but not in a circle.
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import sknoisy

SOURCE = Path(sknoisy.__file__).parent
EQUATIONS = {"functional", "user_warnings"}
BELOW = {
    "functional": set(),
    "user_warnings": set(),
    "answers": set(),
    "columns": {"user_warnings"},
    "confident_learning": set(),
    "labels": set(),
    "label_proba": {"columns", "labels", "row_index"},
    "rows": set(),
    "row_index": {"user_warnings"},
    "noise": {"labels"},
    "pipeline": set(),
    "tables": set(),
    "issues": {
        "answers",
        "columns",
        "confident_learning",
        "labels",
        "pipeline",
        "row_index",
        "tables",
        "user_warnings",
    },
    "crowd": {
        "columns",
        "issues",
        "label_proba",
        "labels",
        "pipeline",
        "row_index",
        "tables",
        "training",
        "user_warnings",
    },
    "pictures": set(),
    "display": {"confident_learning", "issues", "pictures", "pipeline"},
    "networks": EQUATIONS | {"rows"},
    "neighbor_noise": {"networks"},
    "training": EQUATIONS | {"labels", "networks", "rows"},
    "weights": {"training"},
    "inputs": {
        "columns",
        "label_proba",
        "labels",
        "networks",
        "row_index",
        "rows",
        "training",
        "weights",
    },
    "prediction": {"inputs", "training"},
    "storage": {"_version", "user_warnings", "inputs", "row_index", "rows", "training"},
    "parameters": {"training"},
    "base": {
        "answers",
        "inputs",
        "issues",
        "networks",
        "parameters",
        "prediction",
        "row_index",
        "storage",
        "training",
        "user_warnings",
    },
    "review": {
        "confident_learning",
        "inputs",
        "issues",
        "labels",
        "pictures",
        "pipeline",
        "row_index",
        "storage",
    },
    "export": {"base", "functional", "networks", "prediction", "storage", "training"},
}
# A method stands above what trains nets; none imports another, and none sees what is stored.
METHOD = EQUATIONS | {
    "answers",
    "base",
    "inputs",
    "labels",
    "neighbor_noise",
    "networks",
    "parameters",
}
METHOD |= {"row_index", "rows", "training"}
FILES = {str(path.relative_to(SOURCE)): path for path in SOURCE.rglob("*.py")}
# Whose subject it is, and random seeds.
SCIKIT_LEARN = {"base.py", "inputs.py", "parameters.py", "noise.py", "storage/session.py"}
SCIKIT_LEARN |= {
    "export/scalers.py",
    "review/selection.py",
    "training/trusted_linear.py",
    "weights.py",
}
HANDED_ON = {"__init__.py", "_version.py"}


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def place_of(name):
    """Return the folder of a file, or its own name at the top."""
    return name.removesuffix(".py").split("/")[0]


def test_places_are_found_in_folders_and_what_is_new_is_a_method():
    places = {place_of(name) for name in FILES if name not in HANDED_ON}
    assert BELOW.keys() | {"alr", "synthetic_mix", "metalabelnet"} <= places
    assert len(FILES) > 30


@pytest.mark.parametrize("name", sorted(FILES.keys() - HANDED_ON))
def test_imports_point_down(name):
    place = place_of(name)
    used = {m.split(".")[1] for m in imports(FILES[name]) if m.startswith("sknoisy.")} - {place}
    assert used <= BELOW.get(place, METHOD)


def test_no_file_imports_itself_through_others():
    modules = {f"sknoisy.{name.removesuffix('.py').replace('/', '.')}": name for name in FILES}
    uses = {
        name: {modules[m] for found in imports(path) for m in (found, found.rpartition(".")[0])
               if m in modules}
        for name, path in FILES.items()
    }  # fmt: skip
    while uses:
        free = {name for name, used in uses.items() if not (used & uses.keys())}
        assert free, f"a circle among {sorted(uses)}"
        uses = {name: used for name, used in uses.items() if name not in free}


def test_equations_import_torch_alone():
    assert {m.split(".")[0] for m in imports(FILES["functional.py"])} == {"torch"}


def test_few_files_know_the_scikit_learn_contract():
    contract = ("sklearn.base", "sklearn.utils", "sklearn.preprocessing")
    for name in FILES.keys() - SCIKIT_LEARN:
        assert not [m for m in imports(FILES[name]) if m.startswith(contract)]


def test_what_is_stored_and_the_base_name_no_method():
    words = ("alrclass", "synthetic", "metalabel", "mixneighbors", "correctlabels", "label_net")
    for name, path in FILES.items():
        if place_of(name) in ("storage", "training", "base", "inputs", "parameters"):
            text = path.read_text().lower()
            assert not [word for word in words if word in text], name


def test_no_private_scikit_learn():
    for path in FILES.values():
        assert not [m for m in imports(path) if m.startswith("sklearn") and "._" in m]


@pytest.mark.slow
def test_import_loads_neither_torchvision_nor_matplotlib():
    code = "import sys, sknoisy; print({'torchvision', 'matplotlib'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
