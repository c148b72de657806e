"""What every method's callback has in common: its hooks, and what outlives a fit."""

import copy
import pickle
from typing import ClassVar

import numpy as np
import pytest
import torch
from conftest import METHODS
from skorch.callbacks import Callback
from torch import nn
from toy import ToyClassifier

from sknoisy import ALRClassifier
from sknoisy.functional import soft_cross_entropy
from sknoisy.training import LabelCallback

pytestmark = pytest.mark.filterwarnings(
    "ignore:No trusted rows", "ignore:target_momentum", "ignore:max_epochs must"
)
FAST = {"max_epochs": 4, "module__hidden": 16, "random_state": 0}


class Plain(LabelCallback):
    """Defines nothing but a loss: labels never move."""

    warmup_epochs = 0

    def loss_at(self, epoch):
        return soft_cross_entropy


class PlainClassifier(ToyClassifier):
    def _label_callback(self, search, data):
        return Plain()


def test_a_method_that_fills_no_hook_is_cross_entropy_training_bit_for_bit(blobs):
    X, y, _ = blobs
    ours = PlainClassifier(**FAST).fit(X, y)
    plain = ALRClassifier(momentum=1.0, entropy_weight=0.0, **FAST).fit(X, y)
    np.testing.assert_array_equal(ours.predict_proba(X), plain.predict_proba(X))
    np.testing.assert_array_equal(ours.soft_labels_, np.eye(4)[y])


def test_hooks_run_in_order_and_see_epochs_from_one(blobs):
    X, y, _ = blobs
    seen = []

    class Watch(Plain):
        def start(self, net, X):
            seen.append(("start", X.shape[0]))

        def start_epoch(self, net, epoch):
            seen.append(("start_epoch", epoch, torch.is_grad_enabled()))

        def start_batch(self, net, batch, epoch):
            seen.append(("start_batch", epoch, len(batch[0])))

        def before_loss(self, net, logits, rows):
            seen.append(("before_loss", len(rows), logits.requires_grad))

        def end_epoch(self, net, epoch):
            seen.append(("end_epoch", epoch))

        def finish(self, net):
            seen.append(("finish", torch.is_grad_enabled()))

    clf = ToyClassifier(**{**FAST, "max_epochs": 2}, batch_size=-1)
    clf._label_callback = lambda search, data: Watch()
    clf.fit(X, y)
    epochs = [
        [
            ("start_epoch", epoch, False),
            ("start_batch", epoch, 600),
            ("before_loss", 600, True),
            ("end_epoch", epoch),
        ]
        for epoch in (1, 2)
    ]
    assert seen == [("start", 600), *epochs[0], *epochs[1], ("finish", False)]


def names_kept(callback):
    return {*callback.get_params(deep=False), *callback.fitted}


@pytest.mark.slow
@pytest.mark.parametrize(
    "twin", [lambda x: x, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))]
)
def test_a_finished_fit_keeps_parameters_and_what_is_fitted(method, blobs, twin):
    X, y, _ = blobs
    labels = twin(method(**FAST).fit(X, y).net_).label_callback
    assert vars(labels).keys() == names_kept(labels)
    unset = {name for name in labels.fitted if getattr(labels, name) is None}
    assert unset <= {"hypergradient_"}  # without trusted rows there is no virtual step


def test_a_finished_net_calls_no_hook(method, blobs):
    X, y, _ = blobs
    assert not method(**FAST).fit(X, y).net_.criterion_._forward_pre_hooks


class KeepsMuch(Plain):
    fitted = ("numbers_", "layer_")

    def __init__(self, rates=(0.1, 0.5), data=None):
        self.rates = rates
        self.data = data

    def finish(self, net):
        self.numbers_, self.layer_ = torch.arange(3), torch.nn.Linear(2, 1)

    def load_state_dict(self, state, net=None, split=None):
        super().load_state_dict(state, net, split)
        if self.layer_ is not None:
            self.layer_ = torch.nn.Linear(2, 1)
            self.layer_.load_state_dict(state["layer_"])


class MuchClassifier(ToyClassifier):
    _new_label_callback = KeepsMuch

    def _label_callback(self, search, data):
        return KeepsMuch(rates=(0.3, 0.9), data=np.arange(3))


def test_files_hold_tensors_modules_and_tuples_and_name_what_they_cannot(blobs, tmp_path):
    pytest.importorskip("safetensors", reason="save and load need safetensors")
    X, y, _ = blobs
    clf = MuchClassifier(**FAST).fit(X, y)
    clf.save(tmp_path / "clf")
    labels, kept = (
        MuchClassifier.load(tmp_path / "clf").net_.label_callback,
        clf.net_.label_callback,
    )
    assert labels.numbers_.tolist() == [0, 1, 2]
    assert torch.equal(labels.layer_.weight, kept.layer_.weight)
    assert labels.rates == (0.3, 0.9)
    assert labels.data is None
    kept.numbers_ = {1, 2}
    with pytest.raises(TypeError, match="numbers_ must be a number, text, a tensor or a module"):
        clf.save(tmp_path / "clf")


@pytest.mark.parametrize("method", METHODS)
def test_a_pickle_taken_in_the_midst_holds_no_row_of_the_data(method, blobs):
    X, y, _ = blobs
    sizes = []

    class Pickle(Callback):
        def on_epoch_end(self, net, **kwargs):
            sizes.append(len(pickle.dumps(net.label_callback)))

    method(**FAST, callbacks=[Pickle()]).fit(X, y)
    assert max(sizes) < X.nbytes / 2


def test_the_state_of_a_finished_fit_makes_a_new_callback_its_equal(method, blobs):
    X, y, _ = blobs
    labels = method(**FAST).fit(X, y).net_.label_callback
    again = method._new_label_callback()
    again.load_state_dict(pickle.loads(pickle.dumps(labels.state_dict())))
    for name in labels.fitted:
        found, expected = getattr(again, name), getattr(labels, name)
        if isinstance(expected, torch.nn.Module):
            found, expected = (m.state_dict()["weight"].tolist() for m in (found, expected))
        assert found == expected, name
    assert again.split_ is None


class Named(Callback):
    """A callback of the user's, with a name that a library could think its own."""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["labels", "checkpoint", "augment", "listeners", "clip", "stop"])
def test_names_of_callbacks_are_the_users(method, blobs, name, tmp_path):
    X, y, _ = blobs
    clf = method(**{**FAST, "max_epochs": 2}, callbacks=[(name, Named())], checkpoint_dir=tmp_path)
    clf.set_params(augment=lambda X: X)
    clf.fit(X, y)
    assert isinstance(dict(clf.net_.callbacks_)[name], Named)


class NotesModes(nn.Linear):
    """Notes the mode of each pass that has gradients."""

    modes: ClassVar[set] = set()

    def forward(self, X):
        if torch.is_grad_enabled():
            self.modes.add(self.training)
        return super().forward(X)


class Evaluates(Callback):
    """A callback that leaves the network in evaluation mode."""

    def on_batch_begin(self, net, **kwargs):
        net.module_.eval()


def test_steps_are_in_training_mode_whatever_ran_before_them(method, blobs):
    X, y, _ = blobs
    network = nn.Sequential(nn.Linear(10, 8), nn.ReLU(), NotesModes(8, 4))
    NotesModes.modes.clear()
    method(network, max_epochs=6, warmup_epochs=1, callbacks=[Evaluates], random_state=0).fit(X, y)
    assert NotesModes.modes == {True}
