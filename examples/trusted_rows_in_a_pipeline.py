"""
Trusted rows in a pipeline and a search
=======================================

Trusted rows through scikit-learn: a Pipeline that scales them, a grid search, a mask.

Prints the best learning rate and its test accuracy, and the test accuracy with a mask.
"""

import numpy as np
import sklearn
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.preprocessing import StandardScaler

from sknoisy import MetaLabelNetClassifier, make_noisy_pipeline
from sknoisy.noise import symmetric_noise

sklearn.set_config(enable_metadata_routing=True)  # 1. routing passes fit parameters on

X, y = load_breast_cancer(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
X_train, X_meta, y_train, y_meta = train_test_split(
    X_train, y_train, test_size=40, stratify=y_train, random_state=0
)
y_noisy = symmetric_noise(y_train, 0.3, random_state=0)

# 2. the pipeline scales X_meta by the scaler that it fits on X
pipeline = make_noisy_pipeline(
    StandardScaler(), MetaLabelNetClassifier(max_epochs=60, random_state=0)
)
search = GridSearchCV(
    pipeline, {"metalabelnetclassifier__lr": [0.001, 0.003]}, cv=2, n_jobs=2, error_score="raise"
)
# 3. 1-tuples are never sliced to a fold, however long
search.fit(X_train, y_noisy, meta_X=(X_meta,), meta_y=(y_meta,))
print(f"grid search: best {search.best_params_}, test accuracy {search.score(X_test, y_test):.1%}")

# The same rows as part of X, marked by a mask, which is sliced to each fold with X.
X_all, y_all = np.concatenate([X_train, X_meta]), np.concatenate([y_noisy, y_meta])
trusted = np.arange(len(X_all)) >= len(X_train)
pipeline.fit(X_all, y_all, trusted=trusted)
print(f"mask: test accuracy {pipeline.score(X_test, y_test):.1%}")

sklearn.set_config(enable_metadata_routing=False)
