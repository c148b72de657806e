"""Close the loop: a page of labels for a person, whose decisions give better labels and a better fit.

Handwritten digits, 40 % of them labeled as the next digit: no network can tell that from a class
that looks so. Here a program stands for the reviewer; a person opens review.html in a browser, and
exports corrections.csv. Prints the test accuracy at each step, and the estimated noise rate.
"""

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from sknoisy import ALRClassifier, MetaLabelNetClassifier
from sknoisy.noise import pair_noise, symmetric_noise
from sknoisy.review import Corrections, write_page

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)


def review(rows, truth, path):
    """Fill in the table of a page as a reviewer without mistakes does."""
    rows["label"] = truth[rows["row"]]
    is_kept, is_accepted = rows["label"] == rows["given"], rows["label"] == rows["suggested"]
    rows["decision"] = np.where(is_kept, "kept", np.where(is_accepted, "accepted", "corrected"))
    rows.to_csv(path, index=False)
