"""
Find wrong labels
=================

Handwritten digits, 5 % of them labeled as a similar digit: find these labels.

Prints how many of the 50 labels of lowest quality are wrong, and estimates of the noise; plots the
worst labels and the noise transition matrix into label_errors.png.
"""

import numpy as np
from matplotlib import pyplot as plt
from sklearn.datasets import load_digits

from sknoisy import ALRClassifier
from sknoisy.display import LabelIssuesDisplay, NoiseMatrixDisplay
from sknoisy.issues import class_quality, noise_rate

RESEMBLES = {0: 6, 1: 7, 2: 3, 3: 8, 4: 9, 5: 6, 6: 5, 7: 1, 8: 3, 9: 4}

X, y = load_digits(return_X_y=True)
rng = np.random.default_rng(0)
flipped = np.zeros(len(y), dtype=bool)
flipped[rng.choice(len(y), len(y) // 20, replace=False)] = True
y_noisy = np.where(flipped, [RESEMBLES[digit] for digit in y], y)

clf = ALRClassifier(random_state=0).fit(X, y_noisy)
issues = clf.label_issues()

print(f"{flipped.sum()} of {len(y)} labels flipped; estimated: {noise_rate(clf) * len(y):.0f}")
print(f"wrong among the 50 labels that look worst: {flipped[issues['position'][:50]].sum()}")
found = issues["position"][issues["is_label_issue"]]
print(f"called an issue: {len(found)}, {flipped[found].sum()} of them wrong\n")
print(issues.head(), "\n")
print(class_quality(clf).round(2).head(3))

figure, (left, right) = plt.subplots(1, 2, figsize=(12, 5), layout="constrained")
LabelIssuesDisplay.from_estimator(clf, X.reshape(-1, 8, 8), n_rows=24, ax=left)
NoiseMatrixDisplay.from_estimator(clf, ax=right)
figure.savefig("label_errors.png", dpi=80)
