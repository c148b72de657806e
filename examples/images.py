"""
Images and a small ResNet
=========================

Handwritten digits as images with 40 % of the labels flipped: a small ResNet and ALRClassifier.

Prints test accuracy, the fraction of flipped training labels corrected, and seconds.
"""

from time import perf_counter

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from sknoisy import ALRClassifier
from sknoisy.noise import symmetric_noise

images, y = load_digits(return_X_y=True)
images = (images * 255 / 16).astype(np.uint8).reshape(-1, 8, 8)  # bytes, as from a file
X_train, X_test, y_train, y_test = train_test_split(images, y, stratify=y, random_state=0)
y_noisy = symmetric_noise(y_train, 0.4, random_state=0)
flipped = y_noisy != y_train

# Without a module, images get a small ResNet; "resnet18" would build torchvision's.
params = {"module__width": 16, "max_epochs": 25, "device": "auto", "random_state": 0}
plain = ALRClassifier(momentum=1.0, entropy_weight=0.0, evidence=False, **params)
refined = ALRClassifier(**params)
augmented = ALRClassifier(augment="auto", **params)  # digits are shifted, never mirrored

print(f"{len(X_train)} training images, {flipped.sum()} of their labels flipped\n")
print("                               test accuracy   flipped labels corrected   seconds")
for name, clf in [
    ("plain network", plain),
    ("ALRClassifier", refined),
    ("ALRClassifier, augmented", augmented),
]:
    start = perf_counter()
    clf.fit(X_train, y_noisy)
    seconds = perf_counter() - start
    corrected = clf.corrected_labels_
    put_right = f"{(corrected == y_train)[flipped].mean():.1%}"
    print(f"{name:<31}{clf.score(X_test, y_test):>13.1%}{put_right:>27}{seconds:>10.1f}")
