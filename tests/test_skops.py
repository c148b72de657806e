"""skops' files of fitted estimators: the same predictions, nothing that is not trusted by name."""

import json
import pickle
import sys
from copy import deepcopy

import numpy as np
import pytest
import torch
from conftest import METHODS
from sklearn.datasets import make_blobs
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import EarlyStopping
from torch import nn

from sknoisy import ALRClassifier
from sknoisy.storage.estimator_file import contents_of
from sknoisy.storage.skops_state import KEY, state_of

skops = pytest.importorskip("skops.io", reason="skops writes the files")
pytestmark = pytest.mark.filterwarnings("ignore:No trusted rows", "ignore:target_momentum")
X, Y = make_blobs(90, 3, centers=3, random_state=0)


class OwnNet(nn.Sequential):
    def __init__(self, n_features, n_classes, activation=nn.Tanh):
        super().__init__(nn.Linear(n_features, 8), activation(), nn.Linear(8, n_classes))


def fit(method, **params):
    params = {"max_epochs": 4, "warmup_epochs": 1, "random_state": 0, **params}
    return method(**params).fit(X, Y)


def name_of(kind):
    return f"{kind.__module__}.{kind.__name__}"


@pytest.mark.parametrize("method", METHODS)
def test_the_class_alone_has_to_be_trusted(method):
    pipeline = make_pipeline(StandardScaler(), fit(method)).fit(X, Y)
    content = skops.dumps(pipeline)
    assert skops.get_untrusted_types(data=content) == [name_of(method)]
    loaded = skops.loads(content, trusted=[name_of(method)])
    np.testing.assert_array_equal(pipeline.predict_proba(X), loaded.predict_proba(X))
    for name in ("soft_labels_", "given_labels_", "warmup_epochs_", "classes_"):
        np.testing.assert_array_equal(getattr(pipeline[-1], name), getattr(loaded[-1], name))
    assert vars(loaded[-1]).keys() == vars(pipeline[-1]).keys()


@pytest.mark.evidence
@pytest.mark.filterwarnings("ignore:Labels were left as given")
def test_evidence_is_kept():
    clf = fit(ALRClassifier, max_epochs=8)
    loaded = skops.loads(skops.dumps(clf), trusted=[name_of(ALRClassifier)])
    assert loaded.evidence_.temperature == clf.evidence_.temperature != 1
    np.testing.assert_array_equal(clf.predict_proba(X), loaded.predict_proba(X))


def test_an_own_module_has_to_be_trusted_too():
    clf = fit(ALRClassifier, module=OwnNet, module__activation=nn.SiLU)
    content = skops.dumps(clf)
    untrusted = skops.get_untrusted_types(data=content)
    assert sorted(untrusted) == sorted([name_of(ALRClassifier), name_of(OwnNet)])
    loaded = skops.loads(content, trusted=untrusted)
    np.testing.assert_array_equal(clf.predict_proba(X), loaded.predict_proba(X))
    with pytest.raises(Exception, match="OwnNet"):
        skops.loads(content, trusted=[name_of(ALRClassifier)])


def test_a_module_instance_is_refused_with_what_to_pass():
    clf = fit(ALRClassifier, module=OwnNet(3, 3))
    with pytest.raises(TypeError, match=r"Pass module=Net rather than module=Net\(\)"):
        skops.dumps(clf)


def test_callbacks_are_left_out_with_a_warning():
    clf = fit(ALRClassifier, callbacks=[EarlyStopping(monitor="train_loss")])
    with pytest.warns(UserWarning, match="leaves out callbacks"):
        content = skops.dumps(clf)
    assert skops.loads(content, trusted=[name_of(ALRClassifier)]).callbacks is None


def test_an_estimator_without_a_fit_is_its_parameters():
    clf = ALRClassifier(module__hidden=(8, 4), lr=0.01)
    content = skops.dumps(clf)
    loaded = skops.loads(content, trusted=skops.get_untrusted_types(data=content))
    assert loaded.get_params() == clf.get_params()


def test_pickles_and_copies_still_hold_everything():
    clf = fit(ALRClassifier, module=OwnNet(3, 3), callbacks=[EarlyStopping(monitor="train_loss")])
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        other = pickle.loads(pickle.dumps(clf, protocol))
        assert other.net_.optimizer_.state_dict()["state"]
        assert len(other.callbacks) == 1
    assert isinstance(deepcopy(clf).module, OwnNet)


def damaged(clf, **changes):
    state = state_of(clf, clf._row_format, clf.evidence_, None)
    return {**state, **changes}


def test_a_file_imports_nothing_that_skops_has_not_checked():
    """Names that the file lists, instead of the classes themselves, would be imported."""
    clf = fit(ALRClassifier)
    sys.modules.pop("this", None)
    with pytest.raises((TypeError, ValueError)):
        ALRClassifier().__setstate__(damaged(clf, named=["this.s"]))
    assert "this" not in sys.modules


def test_a_file_sets_nothing_that_starts_or_writes_something():
    clf = fit(ALRClassifier)
    document, _ = contents_of(clf, clf._row_format, None, None)
    document["params"]["checkpoint_dir"] = "elsewhere"
    other = ALRClassifier()
    with pytest.raises(ValueError, match="sets no checkpoint_dir, got 'a file of skops'"):
        other.__setstate__(damaged(clf, **{KEY: json.dumps(document)}))
    assert not hasattr(other, "net_")


def test_tensors_are_not_shared_with_the_estimator():
    clf = fit(ALRClassifier)
    content = skops.dumps(clf)
    loaded = skops.loads(content, trusted=[name_of(ALRClassifier)])
    before = clf.predict_proba(X)
    with torch.no_grad():
        loaded.module_[-1].weight.zero_()
    np.testing.assert_array_equal(clf.predict_proba(X), before)
