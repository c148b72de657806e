"""Labels, values of an index and sets of labels as texts, as pages and files have them."""

import hashlib
import json
import re

FORM = re.compile(r"(\d{1,12})-labels-([0-9a-f]{16})")


def names_of(labels) -> list[str]:
    """Return labels (n,) as texts."""
    return [str(label) for label in labels.tolist()]


def index_name(value) -> str:
    """Return the value of an index as a text; of several levels with commas."""
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def dataset_of(names) -> str:
    """Return the number and the digest of the names of given labels."""
    digest = hashlib.sha256(json.dumps(list(names)).encode()).hexdigest()
    return f"{len(names)}-labels-{digest[:16]}"
