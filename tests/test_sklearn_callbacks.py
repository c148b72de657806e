"""scikit-learn's callbacks hear of each epoch, and change nothing."""

import pickle

import numpy as np
import pandas as pd
import pytest
import skorch
from conftest import METHODS
from sklearn.datasets import make_blobs
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from sknoisy import ALRClassifier

callback = pytest.importorskip("sklearn.callback", reason="needs scikit-learn 1.9")
pytestmark = pytest.mark.filterwarnings(
    "ignore:No trusted rows", "ignore:target_momentum", "ignore:Training ended with epoch"
)


class Count:
    """Counts what it is told."""

    def __init__(self):
        self.heard = []

    def setup(self, estimator, context):
        self.heard.append("setup")

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context):
        self.heard.append(context.task_name)

    def teardown(self, estimator, context):
        self.heard.append("teardown")


class StopAfter(skorch.callbacks.Callback):
    """Ends a fit, in skorch's way."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == self.epoch:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def data():
    X, y = make_blobs(80, centers=2, random_state=0)
    return pd.DataFrame(X, columns=["a", "b"]), np.array(["no", "yes"])[y]


@pytest.mark.parametrize("method", METHODS)
def test_each_epoch_is_told_and_nothing_changes(method, data):
    count = Count()
    plain = method(max_epochs=4, random_state=0).fit(*data)
    heard = method(max_epochs=4, random_state=0).set_callbacks(count).fit(*data)
    assert count.heard == ["setup", *["epoch"] * 4, "fit", "teardown"]
    np.testing.assert_array_equal(plain.soft_labels_, heard.soft_labels_)


@pytest.mark.parametrize("method", METHODS)
def test_the_scoring_monitor_scores_the_network_of_the_epoch(method, data):
    monitor = callback.ScoringMonitor(scoring="accuracy")
    clf = method(max_epochs=3, random_state=0).set_callbacks(monitor).fit(*data)
    log = monitor.get_logs(select="most_recent").data
    scores = [entry["accuracy"] for entry in log if entry["task_name"] == "epoch"]
    assert len(scores) == 3
    assert scores[-1] == pytest.approx(clf.score(*data))
    short = method(max_epochs=3, random_state=0, callbacks=[StopAfter(1)]).fit(*data)
    assert scores[0] == pytest.approx(short.score(*data))


def test_the_scoring_monitor_follows_the_folds_of_a_grid_search(data):
    monitor = callback.ScoringMonitor(scoring="accuracy")
    clf = ALRClassifier(max_epochs=3, random_state=0).set_callbacks(monitor)
    GridSearchCV(clf, {"lr": [0.001, 0.01]}, cv=2).fit(*data)
    told = [entry["task_name"] for entry in monitor.get_logs(select="most_recent").data]
    assert told.count("fit") == 5  # two settings in two folds, and the best on all rows
    assert told.count("epoch") == 15


def test_a_failing_fit_ends_its_callbacks(data):
    count = Count()
    with pytest.raises(ValueError, match="module must return one logit a class"):
        ALRClassifier(nn.Linear(data[0].shape[1], 7)).set_callbacks(count).fit(*data)
    assert count.heard == ["setup", "teardown"]
    with pytest.raises(ValueError, match="momentum"):
        ALRClassifier(momentum=2.0).set_callbacks(count).fit(*data)
    assert count.heard == ["setup", "teardown"] * 2


@pytest.mark.slow
def test_progress_bars_run_inside_a_grid_search(data, capsys):
    pytest.importorskip("rich", reason="scikit-learn's ProgressBar draws with it")
    clf = make_pipeline(StandardScaler(), ALRClassifier(max_epochs=3, random_state=0))
    search = GridSearchCV(clf, {"alrclassifier__lr": [0.001, 0.01]}, cv=2, n_jobs=2)
    search.set_callbacks(callback.ProgressBar()).fit(*data)
    assert search.best_score_ > 0.5


def test_a_fitted_estimator_with_callbacks_pickles(data):
    count = Count()
    clf = ALRClassifier(max_epochs=2, random_state=0).set_callbacks(count).fit(*data)
    loaded = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(loaded.predict_proba(data[0]), clf.predict_proba(data[0]))
