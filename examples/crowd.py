"""
Several people's labels
=======================

Handwritten digits labeled by eight people, some of them bad at particular digits.

Prints how good each is, estimated and true, and the test accuracy of a network trained on the
majority's labels, on shares of votes, on Dawid and Skene's probabilities, and on those that the
votes and the network's own out-of-sample probabilities give together.
"""

import numpy as np
import pandas as pd
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from sknoisy import ALRClassifier
from sknoisy.crowd import CrowdLabels

# What fraction of the rows each labels, with which accuracy, and which digit it takes for which.
PEOPLE = {
    "ada": (0.4, 0.95, {}),
    "ben": (0.5, 0.85, {}),
    "cleo": (0.2, 0.80, {1: 7, 7: 1}),
    "dan": (0.4, 0.60, {}),
    "eve": (0.3, 0.75, {3: 8, 5: 8, 9: 8}),
    "finn": (0.1, 0.90, {}),
    "gus": (0.3, 0.30, {}),
    "hana": (0.2, 0.70, {4: 9}),
}

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    X, y, train_size=700, stratify=y, random_state=0
)
rng = np.random.default_rng(0)
votes, true_accuracy = pd.DataFrame(index=range(len(y_train))), {}
for name, (asked, accuracy, confused) in PEOPLE.items():
    vote = np.array([confused.get(digit, digit) for digit in y_train])
    slips = rng.random(len(vote)) > accuracy
    vote[slips] = rng.integers(10, size=slips.sum())
    has_vote = rng.random(len(vote)) < asked
    votes[name] = np.where(has_vote, vote, np.nan)
    true_accuracy[name] = (vote == y_train)[has_vote].mean()

crowd = CrowdLabels(votes)
without = votes.isna().all(axis=1).to_numpy()
majority = crowd.consensus()["consensus_label"][~without].astype(int)
print(f"{crowd}; {without.sum()} rows without a vote\n")

clf = ALRClassifier(random_state=0).fit(X_train, label_proba=crowd.label_proba())
people = crowd.annotators(clf)
people.insert(1, "true_accuracy", pd.Series(true_accuracy))
columns = ["annotator_quality", "true_accuracy", "worst_class", "worst_class_voted_as"]
print(people[[*columns, "num_examples_labeled"]].round(2).to_string(), "\n")

print("                             labels right   test accuracy")
for name, by in {
    "majority, rows with votes": "shares",
    "shares of votes": "shares",
    "Dawid-Skene": "dawid_skene",
    "votes and network": clf,
}.items():
    network = ALRClassifier(evidence=False, random_state=0)  # evidence would double the time
    if name.startswith("majority"):
        network.fit(X_train[~without], majority)
    else:
        network.fit(X_train, label_proba=crowd.label_proba(by))
    right = (crowd.consensus(by)["consensus_label"] == y_train)[~without].mean()
    print(f"{name:<29}{right:>12.1%}{network.score(X_test, y_test):>16.1%}")
