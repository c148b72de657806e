"""Sphinx's settings: the pages of this folder, the API from docstrings, the gallery of examples.

    sphinx-build -W --keep-going -b html docs docs/_build/html

needs no network: `inventories.txt` has the names of other libraries that are linked to, equations
become MathML, and the theme brings its own script and fonts.
"""

import os
import shutil
import sys
import warnings
import zlib
from pathlib import Path

from docutils import nodes
from latex2mathml.converter import convert
from numpydoc.docscrape_sphinx import SphinxDocString

DOCS = Path(__file__).parent
BUILD = DOCS / "_build"
sys.path[:0] = [str(DOCS.parent)]
os.environ |= {
    "MPLBACKEND": "agg",
    "OMP_NUM_THREADS": "1",
}  # threads of small fits wait for one another

from sknoisy import __version__  # noqa: E402

project = "sknoisy"
author = "the sknoisy developers"
copyright = "the sknoisy developers, BSD-3-Clause"
version = release = __version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["_build", "_templates", "gallery_header.rst"]
templates_path = ["_templates"]
nitpicky = True
toc_object_entries_show_parents = "hide"
default_role = "obj"

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath", "fieldlist"]
myst_heading_anchors = 3
myst_links_external_new_tab = False

autosummary_generate = True
autodoc_typehints = "none"  # numpydoc's sections have the types
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

html_theme = "pydata_sphinx_theme"
html_title = "sknoisy"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_sidebars = {"**": ["all_pages.html"]}
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "navbar_center": [],
    "navbar_end": ["theme-switcher"],
    "secondary_sidebar_items": ["page-toc"],
    "article_header_start": ["breadcrumbs"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "show_prev_next": True,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}


def write_inventories():
    """Write an objects.inv for each library in inventories.txt; return intersphinx's mapping."""
    folder, entries = BUILD / "inventories", {}
    folder.mkdir(parents=True, exist_ok=True)
    for line in (DOCS / "inventories.txt").read_text().splitlines():
        words = line.split()
        if len(words) == 2:
            library = tuple(words)
            entries[library] = []
        elif len(words) == 3 and not line.startswith("#"):
            role, name, page = words
            entries[library].append(f"{name} {role} 1 {page.replace('{}', name)} -\n")
    for (library, _), lines in entries.items():
        head = f"# Sphinx inventory version 2\n# Project: {library}\n# Version: \n"
        head += "# The remainder of this file is compressed using zlib.\n"
        body = zlib.compress("".join(lines).encode())
        (folder / f"{library}.inv").write_bytes(head.encode() + body)
    return {library: (base, str(folder / f"{library}.inv")) for library, base in entries}


intersphinx_mapping = write_inventories()

# Examples that take seconds run, in a copy of their folder, as they write files. The others need
# data, several processes, a launcher or minutes.
EXAMPLES = BUILD / "examples"
shutil.rmtree(EXAMPLES, ignore_errors=True)
EXAMPLES.mkdir(parents=True)
for path in (DOCS.parent / "examples").glob("*.py"):
    shutil.copy(path, EXAMPLES)
shutil.copy(DOCS / "gallery_header.rst", EXAMPLES / "GALLERY_HEADER.rst")
RUN = "quickstart|find_label_errors|synthetic_mix|metalabelnet|text_pipeline|own_network"
warnings.filterwarnings("ignore", "Labels were left as given", UserWarning)

sphinx_gallery_conf = {
    "examples_dirs": ["_build/examples"],
    "gallery_dirs": ["auto_examples"],
    "filename_pattern": rf"/({RUN})\.py",
    "backreferences_dir": "api/generated/backreferences",
    "doc_module": ("sknoisy",),
    "abort_on_example_error": True,
    "plot_gallery": True,
    "download_all_examples": False,
    "min_reported_time": 1e9,
    "write_computation_times": False,
    "show_memory": False,
    "show_signature": False,
    "remove_config_comments": True,
    "within_subsection_order": "ExampleTitleSortKey",
}

of_attribute = SphinxDocString._process_param


def keep_description(self, name, description, *args):
    """Link an attribute to its property, and keep what the class says of it."""
    link, summary = of_attribute(self, name, description, *args)
    return link, description or summary


SphinxDocString._process_param = keep_description


def leave_names(app, env, node, content):
    """Leave `fit` as it is; a name with a dot, or of another role, has to be known."""
    is_plain = node.get("reftype") == "obj" and "." not in node.get("reftarget", ".")
    return content if is_plain else None


def skip_foreign(app, what, name, member, skip, options):
    """Document what the library defines, not what it inherits from others."""
    member = getattr(member, "fget", member)
    module = getattr(member, "__module__", None) or "sknoisy"
    is_foreign = not module.startswith("sknoisy") or type(member).__name__ == "_tuplegetter"
    return True if is_foreign else None


def spaced(equation):
    """Return an equation with the space after log that MathML leaves out."""
    return equation.replace(r"\log ", r"\log\,")


def visit_math(self, node):
    """Write an equation as MathML, which browsers draw without a script."""
    self.body.append(convert(spaced(node.astext())))
    raise nodes.SkipNode


def visit_math_block(self, node):
    """Write an equation of its own, in a box that scrolls where it is too wide."""
    equation = convert(spaced(node.astext()), display="block")
    self.body.append(f'<div class="equation">{equation}</div>\n')
    raise nodes.SkipNode


def setup(app):
    """Connect the functions above."""
    app.connect("missing-reference", leave_names)
    app.connect("autodoc-skip-member", skip_foreign)
    app.add_node(nodes.math, override=True, html=(visit_math, None))
    app.add_node(nodes.math_block, override=True, html=(visit_math_block, None))
