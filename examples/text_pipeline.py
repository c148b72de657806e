"""
Text in a pipeline
==================

Short messages with a third of the labels wrong: TF-IDF straight into ALRClassifier.

Prints test accuracy and the messages of lowest label quality.
"""

from itertools import product

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline

from sknoisy import ALRClassifier
from sknoisy.issues import find_label_issues
from sknoisy.noise import symmetric_noise

PARTS = {
    "delivery": [
        ["my parcel", "the package", "order 66", "the box", "our shipment"],
        ["has not arrived", "is late again", "was left outside", "went to a neighbour"],
        ["since monday", "this week", "and nobody knows why", "says the courier", ""],
    ],
    "refund": [
        ["please refund", "i want back", "you still owe me", "send me", "when do i get"],
        ["the money", "my payment", "the full price", "what i paid"],
        ["for the shoes", "as promised", "to my card", "before friday", ""],
    ],
    "account": [
        [
            "i cannot log in to",
            "someone changed",
            "please delete",
            "how do i reset",
            "locked out of",
        ],
        ["my account", "the password", "my profile", "the app"],
        ["on my phone", "after the update", "with the new email", "today", ""],
    ],
}
texts, topics = [], []
for topic, parts in PARTS.items():
    for words in product(*parts):
        texts.append(" ".join(words).strip())
        topics.append(topic)
texts, topics = np.array(texts), np.array(topics)
train, test, y_train, y_test = train_test_split(texts, topics, stratify=topics, random_state=0)
y_noisy = symmetric_noise(y_train, 0.35, random_state=0)
print(f"{len(train)} messages, {(y_noisy != y_train).sum()} of their labels wrong\n")

pipeline = make_pipeline(TfidfVectorizer(), ALRClassifier(batch_size=16, random_state=0))
pipeline.fit(train, y_noisy)
print(f"test accuracy {pipeline.score(test, y_test):.1%}")

issues = find_label_issues(pipeline)
print("\nLeast believed:")
for _, issue in issues.head(5).iterrows():
    text = train[issue["position"]]
    print(f"  {text}: {issue['given_label']} -> {issue['predicted_label']}")
