"""Imports point one way: equations, then data and table, then the base, then one file a method."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import sknoisy

SOURCE = Path(sknoisy.__file__).parent
BELOW = {
    "functional": set(),
    "noise": set(),
    "data": set(),
    "standardize": set(),
    "images": {"standardize"},
    "backbones": {"standardize", "images"},
    "interruption": set(),
    "net": {"interruption"},
    "features": {"functional", "net"},
    "neighbors": set(),
    "hypergradient": {"functional"},
    "trusted": set(),
    "pipeline": set(),
    "targets": {"functional"},
    "noise_rate": {"standardize"},
    "warmup": {"functional", "noise_rate", "targets"},
    "issues": set(),
    "display": {"issues"},
    "listeners": set(),
    "label_losses": {"functional"},
    "transition": set(),
    "evidence": {"features"},
    "label_network": {
        "data",
        "evidence",
        "features",
        "functional",
        "hypergradient",
        "label_losses",
        "net",
        "noise_rate",
        "targets",
        "transition",
        "trusted",
    },
    "checkpoint": set(),
    "building": {
        "backbones",
        "data",
        "functional",
        "images",
        "net",
        "targets",
        "warmup",
    },
    "neighbor_mixing": {"features", "functional", "neighbors", "net", "targets"},
    "identity": {"_version"},
    "inputs": {"data"},
    "parameters": {"net"},
    "persistence": set(),
    "saving": {"backbones", "features", "identity", "net", "persistence", "targets"},
    "base": {
        "building",
        "checkpoint",
        "data",
        "identity",
        "inputs",
        "interruption",
        "issues",
        "listeners",
        "net",
        "parameters",
        "saving",
        "targets",
        "warmup",
    },
}
METHOD = {*BELOW} - {
    "noise", "pipeline", "issues", "display", "listeners", "interruption", "building",
    "checkpoint", "identity", "inputs", "persistence", "saving",
}  # fmt: skip
FILES = {path.stem: path for path in SOURCE.glob("[!_]*.py")}


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@pytest.mark.parametrize("name", FILES)
def test_imports_point_down(name):
    own = {m.split(".")[1] for m in imports(FILES[name]) if m.startswith("sknoisy.")}
    assert own <= BELOW.get(name, METHOD)


def test_equations_import_torch_alone():
    assert {m.split(".")[0] for m in imports(FILES["functional"])} == {"torch"}


def test_only_base_inputs_and_parameters_know_the_scikit_learn_contract():
    contract = ("sklearn.base", "sklearn.utils", "sklearn.preprocessing")
    for name in set(FILES) - {"base", "inputs", "parameters", "noise"}:
        assert not [m for m in imports(FILES[name]) if m.startswith(contract)]


def test_no_private_scikit_learn():
    for path in FILES.values():
        assert not [m for m in imports(path) if m.startswith("sklearn") and "._" in m]


def test_import_loads_neither_torchvision_nor_matplotlib():
    code = "import sys, sknoisy; print({'torchvision', 'matplotlib'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
