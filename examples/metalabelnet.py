"""
Meta-learned labels, 100 trusted rows
=====================================

Handwritten digits with 40 % of the labels flipped and 100 trusted rows: MetaLabelNetClassifier.

Prints test accuracy, the fraction of flipped training labels corrected, and seconds.
"""

from time import perf_counter

from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from sknoisy import ALRClassifier, MetaLabelNetClassifier
from sknoisy.noise import symmetric_noise

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
X_train, X_meta, y_train, y_meta = train_test_split(
    X_train, y_train, test_size=100, stratify=y_train, random_state=0
)
y_noisy = symmetric_noise(y_train, 0.4, random_state=0)
flipped = y_noisy != y_train

# Momentum 1 keeps the given labels: the same network under ordinary cross-entropy, to the end.
plain = ALRClassifier(momentum=1.0, entropy_weight=0.0, evidence=False, random_state=0)
meta = MetaLabelNetClassifier(random_state=0)

print(f"{len(X_train)} training rows, {flipped.sum()} of their labels flipped\n")
print("                               test accuracy   flipped labels corrected   seconds")
for name, clf, labels in [
    ("plain network, noisy labels", plain, y_noisy),
    ("MetaLabelNetClassifier, noisy", meta, y_noisy),
    ("plain network, clean labels", plain, y_train),
]:
    start = perf_counter()
    clf.fit(X_train, labels, **({"meta_X": X_meta, "meta_y": y_meta} if clf is meta else {}))
    seconds = perf_counter() - start
    corrected = clf.corrected_labels_
    put_right = f"{(corrected == y_train)[flipped].mean():.1%}" if labels is y_noisy else "-"
    print(f"{name:<31}{clf.score(X_test, y_test):>13.1%}{put_right:>27}{seconds:>10.1f}")
