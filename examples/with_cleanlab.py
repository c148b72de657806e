"""
Together with cleanlab
======================

cleanlab around ALRClassifier: CleanLearning trains it, Datalab reads its evidence.

Prints test accuracy alone and in CleanLearning, and how far the tables of issues agree. Needs
cleanlab: pip install cleanlab
"""

from cleanlab.classification import CleanLearning
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from sknoisy import ALRClassifier
from sknoisy.noise import symmetric_noise

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
y_noisy = symmetric_noise(y_train, 0.2, random_state=0)
flipped = y_noisy != y_train

clf = ALRClassifier(random_state=0).fit(X_train, y_noisy)
print(f"ALRClassifier alone             {clf.score(X_test, y_test):.1%}")
learner = CleanLearning(ALRClassifier(random_state=0), cv_n_folds=3).fit(X_train, y_noisy)
print(f"CleanLearning(ALRClassifier())  {learner.score(X_test, y_test):.1%}\n")

ours, theirs = clf.label_issues().sort_values("position"), learner.get_label_issues()
for name, table in (("ours, one fit", ours), ("CleanLearning, four fits", theirs)):
    issues = table["is_label_issue"].to_numpy()
    right = flipped[issues].mean()
    print(f"{name:<25} {issues.sum():>4} issues, {right:.1%} of them wrong labels")

try:
    from cleanlab import Datalab

    lab = Datalab({"label": y_noisy}, label_name="label", verbosity=0)
except ImportError:
    print("Datalab needs             pip install 'cleanlab[datalab]'")
else:
    lab.find_issues(pred_probs=clf.evidence_.proba, issue_types={"label": {}})
    print(f"Datalab on evidence_.proba {lab.get_issues('label')['is_label_issue'].sum():>4} issues")
