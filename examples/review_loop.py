"""
Review labels and fit again
===========================

A person reviews 100 labels on a page; the corrections give better labels and a better fit.

Handwritten digits, 40 % of the labels wrong: replaced by random ones, or by the next digit, a
mistake with a rule, which a network learns. Writes review.html, the page; here a program stands for
the person who opens it, decides, and exports corrections.csv. Prints the test accuracy before and
after, and the noise rate that the reviewed sample tells.
"""

# sphinx_gallery_thumbnail_path = '../examples/review_page.png'

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from sknoisy import ALRClassifier, MetaLabelNetClassifier
from sknoisy.noise import pair_noise, symmetric_noise
from sknoisy.review import Corrections, write_page

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)


def review(rows, truth, path):
    """Decide as a person does who makes no mistakes; `rows` is the table of the page."""
    rows["label"] = truth[rows["row"]]
    is_kept, is_accepted = rows["label"] == rows["given"], rows["label"] == rows["suggested"]
    rows["decision"] = np.where(is_kept, "kept", np.where(is_accepted, "accepted", "corrected"))
    rows.to_csv(path, index=False)


for name, flip in (("random labels", symmetric_noise), ("the next digit", pair_noise)):
    y_given = flip(y_train, 0.4, random_state=0)
    alr = ALRClassifier(random_state=0).fit(X_train, y_given)
    print(f"40 % {name}\n  ALRClassifier: test accuracy {alr.score(X_test, y_test):.1%}")

    images = X_train.reshape(-1, 8, 8)
    rows = write_page(alr, images, "review.html", rows="sample", n_rows=100, random_state=0)
    review(rows, y_train, "corrections.csv")

    corrections = Corrections.read("corrections.csv")
    rate, low, high = corrections.noise_rate()
    print(f"  noise rate by 100 reviewed labels: {rate:.1%} ({low:.1%} to {high:.1%})")
    y_corrected = corrections.apply(y_given)
    clf = MetaLabelNetClassifier(random_state=0)
    clf.fit(X_train, y_corrected, trusted=corrections.trusted)
    print(f"  MetaLabelNetClassifier with them: test accuracy {clf.score(X_test, y_test):.1%}")
