"""The README's snippets run, in order, as one session; so do the docstrings' examples.

Documents are short, their links lead somewhere, and they agree on the version and on the commands.
"""

import doctest
import importlib
import pkgutil
import re
import tomllib
from pathlib import Path

import pytest

import sknoisy

MODULES = [m.name for m in pkgutil.walk_packages(sknoisy.__path__, "sknoisy.")]
ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "benchmarks/**/*.md", "docs/**/*.md", "examples/**/*.md")
    for path in ROOT.glob(pattern)
    if "_build" not in path.parts
)

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


@pytest.mark.slow
@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_run(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


@pytest.mark.parametrize(("name", "most"), [("README.md", 150), ("benchmarks/README.md", 80)])
def test_front_doors_are_short(name, most):
    assert len((ROOT / name).read_text().splitlines()) <= most


def prose(text):
    """Return Markdown without its code, where brackets are no links."""
    return re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)


def anchors(path):
    """Return what a link may name in a Markdown file: its headings, and MyST's targets."""
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    return slugs | set(re.findall(r"^\((.+)\)=$", text, flags=re.MULTILINE))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path):
    links = re.findall(r"\]\(([^()\s]+)\)", prose(path.read_text()))
    dead = []
    for link in links:
        if re.match(r"\w+:", link):  # another site
            continue
        name, _, anchor = link.partition("#")
        target = path.parent / name if name else path
        if not target.exists() or (
            anchor and target.suffix == ".md" and anchor not in anchors(target)
        ):
            dead.append(link)
    assert not dead


def test_documents_are_found():
    assert {README, ROOT / "benchmarks" / "README.md", ROOT / "docs" / "decisions.md"} <= set(
        DOCUMENTS
    )
    assert re.findall(r"\]\(([^()\s]+)\)", prose("[a](b.md) `[c](d)` ![e](f#g)")) == ["b.md", "f#g"]


def test_the_version_is_one():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = re.findall(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert {project["version"], *citation} == {sknoisy.__version__}
    assert len(citation) == 1


def test_the_test_command_is_one():
    command = r"^python3 -m venv .*pytest.*$"  # as .ci/run searches for it
    found = [
        re.findall(command, (ROOT / name).read_text(), re.MULTILINE)
        for name in ("README.md", "CONTRIBUTING.md")
    ]
    assert found[0] == found[1]
    assert len(found[0]) == 1


def test_forms_are_yaml():
    yaml = pytest.importorskip("yaml")
    forms = [*ROOT.glob(".github/ISSUE_TEMPLATE/*.yml"), ROOT / "CITATION.cff"]
    assert len(forms) == 4
    assert all(isinstance(yaml.safe_load(path.read_text()), dict) for path in forms)
