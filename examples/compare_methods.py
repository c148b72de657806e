"""
Training curves of the three methods
====================================

Handwritten digits with 40 % of the training labels flipped: the three methods in one figure. The
third is told the true labels of 100 other rows.

Prints test accuracies and plots the training of each into methods.png.
"""

# sphinx_gallery_thumbnail_path = '../examples/methods.png'

from matplotlib import pyplot as plt
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from sknoisy import ALRClassifier, MetaLabelNetClassifier, SyntheticMixClassifier
from sknoisy.display import TrainingDisplay
from sknoisy.noise import symmetric_noise

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
X_train, meta_X, y_train, meta_y = train_test_split(
    X_train, y_train, test_size=100, stratify=y_train, random_state=0
)
y_noisy = symmetric_noise(y_train, 0.4, random_state=0)
methods = {
    ALRClassifier: {},
    SyntheticMixClassifier: {},
    MetaLabelNetClassifier: {"meta_X": meta_X, "meta_y": meta_y},
}

figure, axes = plt.subplots(1, 3, figsize=(16, 4.2), layout="constrained")
for (method, fit_params), ax in zip(methods.items(), axes, strict=True):
    clf = method(random_state=0).fit(X_train, y_noisy, **fit_params)
    print(f"{method.__name__:<24} test accuracy {clf.score(X_test, y_test):.1%}")
    TrainingDisplay.from_estimator(clf, ax=ax)
    ax.set_title(method.__name__, pad=28)
figure.savefig("methods.png", dpi=80)
