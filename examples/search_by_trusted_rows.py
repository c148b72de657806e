"""
Choose hyper-parameters by trusted rows
=======================================

Hyper-parameters chosen by trusted rows: noisy labels reward models that repeat their mistakes.

A mask marks the rows whose labels were verified. Each fold trains with those of its training part
and is scored by those of the part it holds out. Prints what is chosen by all labels, and by trusted
rows alone, with the test accuracy of either.
"""

import numpy as np
import sklearn
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import GridSearchCV, StratifiedKFold, train_test_split
from sklearn.preprocessing import StandardScaler

from sknoisy import MetaLabelNetClassifier, make_noisy_pipeline

sklearn.set_config(enable_metadata_routing=True)

X, y = load_breast_cancer(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
trusted = np.arange(len(X_train)) < 100  # on top, as they often are
radius = X_train[:, 0]  # somebody took small malignant tumors (0) for benign ones (1)
is_small = radius < np.median(radius[y_train == 0])
y_given = np.where(is_small & ~trusted, 1, y_train)

# Shuffled: without it all trusted rows may fall into one fold.
folds = StratifiedKFold(3, shuffle=True, random_state=0)
grid = {"metalabelnetclassifier__trusted_weight": [0.0, 0.5]}
for by in ("all rows", "trusted rows"):
    clf = MetaLabelNetClassifier(
        max_epochs=30, warmup_epochs=5, evidence=False, random_state=0
    ).set_score_request(trusted=by == "trusted rows")
    search = GridSearchCV(make_noisy_pipeline(StandardScaler(), clf), grid, cv=folds, n_jobs=2)
    search.fit(X_train, y_given, trusted=trusted)
    accuracy = (search.best_estimator_.predict(X_test) == y_test).mean()
    print(f"by {by}: {search.best_params_}, test accuracy {accuracy:.1%}")

sklearn.set_config(enable_metadata_routing=False)
