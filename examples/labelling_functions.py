"""
Labelling functions on text
===========================

Paragraphs about scikit-learn estimators: keywords vote for the kind of estimator each is of.

No paragraph is labeled by hand. Rules vote where their keyword occurs and abstain elsewhere. Prints
how often they vote and are right, and test accuracy, on paragraphs about other estimators, of
networks trained on the majority's labels of the rows with votes, and on shares of votes together
with the rows without any, whose soft labels the network fills in.
"""

import re
from collections import Counter
from inspect import getdoc

import numpy as np
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import GroupShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.utils import all_estimators

from sknoisy import ALRClassifier
from sknoisy.crowd import CrowdLabels

ABSTAIN = -1
KINDS = ["cluster", "classifier", "regressor", "transformer"]  # of several the first
RULES = [
    (r"cluster|centroid", "cluster"),
    (r"classif|class label|predict_proba|decision_function", "classifier"),
    (r"n_classes|class_weight|multi-?class|multilabel", "classifier"),
    (r"regress|r2_score|R\^2|residual", "regressor"),
    (r"target values|squared error|n_targets|intercept", "regressor"),
    (r"transform|n_components|feature selection|features_out", "transformer"),
    (r"impute|scal(e|ing)|encod|embedding|kernel map|vectoriz", "transformer"),
]


def paragraphs():
    """Return texts, the numbers of their kinds, and the estimators they are about."""
    found = {}
    for kind in KINDS:
        for name, estimator in all_estimators(type_filter=kind):
            parts = re.split(r"\n\s*\n", getdoc(estimator) or "")
            found.setdefault(name, (kind, [p.replace(name, "") for p in parts]))
    seen = Counter(part for _, parts in found.values() for part in set(parts))
    rows = [
        (part, KINDS.index(kind), name)
        for name, (kind, parts) in found.items()
        for part in parts
        if len(part.split()) > 10 and ">>>" not in part and seen[part] == 1
    ]
    return map(np.array, zip(*rows, strict=True))


def votes(texts):
    """Return what each rule says of each text, (n_texts, n_rules)."""
    return [
        [KINDS.index(kind) if re.search(rule, text, re.I) else ABSTAIN for rule, kind in RULES]
        for text in texts
    ]


def pipeline():
    return make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), min_df=3, sublinear_tf=True),
        TruncatedSVD(100, random_state=0),
        ALRClassifier(random_state=0),
    )


texts, kinds, names = paragraphs()
split = GroupShuffleSplit(1, test_size=0.3, random_state=0)
train, test = next(split.split(texts, groups=names))

crowd = CrowdLabels(votes(texts[train]), classes=range(len(KINDS)), missing=ABSTAIN)
consensus = crowd.consensus()
covered = (consensus["num_annotations"] > 0).to_numpy()
majority = consensus["consensus_label"][covered].astype(int)
print(f"{len(train)} paragraphs to learn from, {len(test)} of other estimators to test on")
print(f"with a vote: {covered.mean():.1%}; there the majority is right in", end=" ")
print(f"{(majority == kinds[train][covered]).mean():.1%}\n")

on_covered = pipeline().fit(texts[train][covered], majority)
on_all = pipeline().fit(texts[train], alrclassifier__label_proba=crowd.label_proba())
is_covered = (np.array(votes(texts[test])) != ABSTAIN).any(axis=1)
print("test accuracy                       all   with votes   without")
for name, fitted in {
    "majority, rows with votes": on_covered,
    "shares of votes, all rows": on_all,
}.items():
    right = fitted.predict(texts[test]) == kinds[test]
    parts = right.mean(), right[is_covered].mean(), right[~is_covered].mean()
    print(f"{name:<28}{parts[0]:>11.1%}{parts[1]:>13.1%}{parts[2]:>10.1%}")
