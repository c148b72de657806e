"""The site's pages: their snippets run, their links lead somewhere, the API has every public name.

A page's snippets run in order, as one session; none knows of another page's.
"""

import ast
import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest
from conftest import limited_epochs

import sknoisy

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
MADE = ("_build", "auto_examples", "generated")  # by a build
SOURCES = sorted(p for p in DOCS.rglob("*.md") if not {*MADE} & {*p.parts})
PAGES = [page for page in SOURCES if page.parent.name != "api"]  # there docstrings' examples run
EPOCHS = {"weights": 8}  # of fewer, nothing can be told there
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
FOUND = pkgutil.walk_packages(sknoisy.__path__, "sknoisy.")
MODULES = [importlib.import_module(found.name) for found in FOUND]


def name_of(page):
    return page.relative_to(DOCS).with_suffix("").as_posix()


def snippets(page):
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), flags=re.DOTALL | re.MULTILINE)


@pytest.mark.slow
@pytest.mark.evidence
@pytest.mark.filterwarnings(
    "ignore:Labels were left as given",  # small networks may be told so
    "ignore:Training ended with epoch",
    "ignore:target_momentum",  # few epochs are
    "ignore:max_epochs must",
)
@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_snippets_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # they write files
    monkeypatch.setenv("MPLBACKEND", "agg")
    with limited_epochs(EPOCHS.get(name_of(page), 4)):
        exec(compile("\n".join(snippets(page)), str(page), "exec"), {"__name__": "page"})


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_page_has_a_snippet(page):
    assert snippets(page)


def anchors(page):
    """Return the anchors of a page's headings, as MyST makes them."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def toctree_of(page):
    """Return the names in a page's toctrees."""
    trees = re.findall(r"^```\{toctree\}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    lines = [line for tree in trees for line in tree.splitlines()]
    return [line for line in lines if line and not line.startswith(":")]


def link_targets(page):
    """Yield the files that a page links to, and the anchors in them."""
    text = re.sub(r"^```py.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" not in target:
            path, _, anchor = target.partition("#")
            yield (page.parent / path if path else page), anchor
    names = toctree_of(page)
    names += re.findall(r"\{doc\}`(?:[^<`]*<)?([^>`]+)>?`", text)
    names += re.findall(r"^:link: (\S+)$", text, flags=re.MULTILINE)
    for name in names:
        folder, _, stem = name.rpartition("/")
        if folder == "auto_examples":
            if stem != "index":
                yield ROOT / "examples" / f"{stem}.py", ""
        else:
            yield page.parent / f"{name}.md", ""
    for path in re.findall(r"\{literalinclude\} (\S+)", text):
        yield page.parent / path, ""


@pytest.mark.parametrize("page", SOURCES, ids=name_of)
def test_links_lead_somewhere(page):
    for target, anchor in link_targets(page):
        assert target.exists(), f"{page.name} links to {target.name}, which is not there"
        if anchor:
            assert anchor in anchors(target), (
                f"{page.name}: no heading of {target.name} is {anchor}"
            )


def test_every_page_is_in_a_toctree():
    listed = [*toctree_of(DOCS / "index.md")]
    listed += [f"api/{name}" for name in toctree_of(DOCS / "api" / "index.md")]
    assert {"index", *map(name_of, SOURCES)} <= {"index", *listed}
    assert len(listed) == len({*listed})


def resolve(name):
    """Return the module or object of a dotted name."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        owner, _, attribute = name.rpartition(".")
        return getattr(resolve(owner), attribute)


def documented():
    """Return the objects in the tables of the API pages."""
    text = "".join(page.read_text() for page in DOCS.glob("api/*.md"))
    return [
        resolve(f"sknoisy.{name}") for name in re.findall(r"^   ~([\w.]+)$", text, re.MULTILINE)
    ]


def public_of(module):
    """Return the functions and classes that a module defines, without underscore."""
    names = getattr(module, "__all__", None) or [n for n in vars(module) if not n.startswith("_")]
    found = [getattr(module, name) for name in names if name != "__version__"]
    if not hasattr(module, "__all__"):
        found = [x for x in found if getattr(x, "__module__", None) == module.__name__]
    return [x for x in found if inspect.isclass(x) or inspect.isfunction(x)]


def imported(source):
    """Yield the objects of the library that a script imports."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sknoisy"):
            yield from (resolve(f"{node.module}.{alias.name}") for alias in node.names)


def named():
    """Yield what pages and docstrings name, and what pages and examples import."""
    texts = [page.read_text() for page in SOURCES]
    for module in MODULES:
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                texts.append(ast.get_docstring(node) or "")
    for name in sorted({n for text in texts for n in re.findall(r"`~?(sknoisy[\w.]+)`", text)}):
        yield resolve(name)
    for source in [p.read_text() for p in EXAMPLES] + ["\n".join(snippets(p)) for p in PAGES]:
        yield from imported(source)


def test_the_api_has_every_public_name():
    public = [x for module in MODULES if hasattr(module, "__all__") for x in public_of(module)]
    public += public_of(sknoisy)
    for found in named():
        public += public_of(found) if inspect.ismodule(found) else [found]
    in_api = {id(x) for x in documented()}
    missing = {f"{x.__module__}.{x.__qualname__}" for x in public if id(x) not in in_api}
    assert missing == set()
    assert len(documented()) == len(in_api) > 40


def test_what_the_gallery_runs_is_there_and_titled():
    (run,) = re.findall(r'^RUN = "(.*)"$', (DOCS / "conf.py").read_text(), re.MULTILINE)
    assert {*run.split("|")} <= {path.stem for path in EXAMPLES}
    for path in EXAMPLES:
        _, title, line, *_ = path.read_text().splitlines()
        assert line == "=" * len(title), f"{path.name} has no title"
