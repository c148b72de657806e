"""The scikit-learn contract, once for all methods: fit, predict, fitted attributes."""

from abc import ABC, abstractmethod
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted
from torch import nn

from sknoisy.answers import answers
from sknoisy.inputs import (
    RowFormat,
    TrainingData,
    builds_network,
    num_workers,
    read_held_out,
    read_training_data,
)
from sknoisy.issues import corrected_labels, find_label_issues
from sknoisy.networks.copying import forget_graphs
from sknoisy.parameters import OF_FIT, SkorchParams, check_training_params, refuse_unknown
from sknoisy.prediction import predict_rows
from sknoisy.row_index import RowIndex
from sknoisy.storage.checkpoint import Checkpoint
from sknoisy.storage.estimator_file import read_estimator, write_estimator
from sknoisy.storage.session import FitSession
from sknoisy.storage.skops_state import SkopsMixin
from sknoisy.training.calibration import calibrated
from sknoisy.training.cross_fit import can_cross_fit, plan_fit
from sknoisy.training.datasets import read_true_labels
from sknoisy.training.held_out import HeldOutSplit
from sknoisy.training.interruption import is_called_by_joblib
from sknoisy.training.label_callback import LabelCallback
from sknoisy.training.outcome import warn_of_outcome
from sknoisy.training.process_group import joined
from sknoisy.training.progress import FitClock
from sknoisy.training.ranks import ALONE
from sknoisy.training.recipe import NetRecipe
from sknoisy.training.relabeling import begin_with
from sknoisy.training.sklearn_callbacks import CallbackSupportMixin, with_callbacks
from sknoisy.training.user_callbacks import borrowed
from sknoisy.training.warmup_search import WarmupSearch
from sknoisy.user_warnings import each_once


class NoisyLabelClassifier(
    SkorchParams, SkopsMixin, CallbackSupportMixin, ClassifierMixin, BaseEstimator, ABC
):
    """Base of the methods: parameters, fit, prediction.

    A method defines `__init__`, `_check_params`, `_label_callback` and `_new_label_callback`; one
    whose `fit` takes more than X and y also defines `fit`, which calls `_fit`, and
    `_read_fit_params`; one with an 'auto' learning rate `_learning_rate`.
    """

    _reads_sparse_batches = True  # where the network does; else a method gets dense ones

    def __init__(
        self,
        module,
        *,
        class_weight,
        optimizer,
        lr,
        max_epochs,
        batch_size,
        train_split,
        evidence,
        calibrate,
        callbacks,
        augment,
        device,
        amp,
        compile,
        distributed,
        verbose,
        random_state,
        checkpoint_dir,
        skorch_params,
    ):
        refuse_unknown(type(self), skorch_params)
        self.module = module
        self.class_weight = class_weight
        self.optimizer = optimizer
        self.lr = lr
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.train_split = train_split
        self.evidence = evidence
        self.calibrate = calibrate
        self.callbacks = callbacks
        self.augment = augment
        self.device = device
        self.amp = amp
        self.compile = compile
        self.distributed = distributed
        self.verbose = verbose
        self.random_state = random_state
        self.checkpoint_dir = checkpoint_dir
        self.skorch_params = skorch_params

    @abstractmethod
    def _check_params(self) -> None:
        """Raise unless the method's own hyper-parameters are in their ranges."""

    @abstractmethod
    def _label_callback(self, search: WarmupSearch, data: TrainingData) -> LabelCallback:
        """Return the callback that writes ``net.criterion_.targets``."""

    @staticmethod
    @abstractmethod
    def _new_label_callback(**params) -> LabelCallback:
        """Return that callback for a fitted estimator from a file."""

    def _read_fit_params(self, data: TrainingData, row_format: RowFormat, **fit_params):
        """Return the data joined by what else `fit` was given."""
        return data

    @answers(OF_FIT)
    def fit(self, X, y=None, sample_weight=None, *, label_proba=None):
        """Train the network while correcting the labels.

        Parameters
        ----------
        X : array-like or CSR matrix of shape (n_samples, n_features), ndarray of shape \
                (n_samples, channels, height, width), (n_samples, height, width) or other with a \
                `module` of your own, or torch Dataset
            Training data; finite numbers, converted to float32 once. Sparse batches are made
            dense one at a time, but for text of many columns, see `module`. Images of type uint8
            stay so in memory and are scaled to [0, 1] batch by batch on the device. A Dataset
            holds tensors, or pairs (tensor, label), read when they are needed.
        y : array-like of shape (n_samples,)
            Given labels, some of them wrong; any type that sorts. None takes those of a Dataset: of
            one with `classes`, as an ImageFolder or a Subset of it has, the names of its numbers;
            or the most probable ones of `label_proba`.
        sample_weight : array-like of shape (n_samples,), default=None
            What each row's loss is multiplied by, relative to their mean; a row of weight 0 does
            not contribute. None weighs all rows the same.
        label_proba : array-like of shape (n_samples, n_classes), default=None
            The soft labels to begin with, instead of one-hot rows of y: shares of votes, counts
            of them, or the probabilities of a label model; each row is divided by its sum. The
            columns of a frame are the classes, in any order; those of an array the sorted classes
            of y, or, where y has less, or is None, the class numbers. A row without any vote is
            NaN in every column: it is not trained on, whatever y says of it, and its soft label
            becomes the network's prediction. See `sknoisy.crowd`.

        Returns
        -------
        self : object
            The fitted estimator. If a call raises, an earlier fit stays as it was.
        """
        return self._fit(X, y, sample_weight, label_proba=label_proba)

    @with_callbacks
    def _fit(self, X, y, sample_weight, *, label_proba=None, **fit_params):
        with joined(self.distributed) as ranks, each_once():
            check_training_params(self)
            return self._train(ranks, X, y, sample_weight, label_proba, fit_params)

    def _train(self, ranks, X, y, sample_weight, label_proba, fit_params):
        session = FitSession(self, X, y, ranks)
        with session, borrowed(self.callbacks) as callbacks:
            self._check_params()
            data = read_training_data(self, X, y, sample_weight, label_proba)
            self.classes_, self._row_format = data.classes, RowFormat.of(data.X, X)
            self._row_index = RowIndex.of(X, y, label_proba)
            data = self._read_fit_params(data, self._row_format, **fit_params)
            fingerprint = session.fingerprint(data)
            recipe = NetRecipe.of(
                self, data.X, data.n_classes, session.device, lr=self.lr, prior=data.given_prior
            )
            recipe.lay_out(data.X)
            ranks.share_state(recipe.module)
            is_gathered = self.evidence and session.evidence is None and can_cross_fit(data, recipe)
            has_bar = session.sklearn_callbacks.context is not None
            clock = FitClock.of(self, recipe.max_epochs, is_gathered, has_bar)
            if ranks.rank:
                clock.verbose = clock.is_silent = False
            recipe = replace(recipe, clock=clock, ranks=ranks)
            split = None
            if self.train_split is not None:
                of_fit = self._row_format, data.classes, builds_network(self), num_workers(self)
                read = partial(read_held_out, *of_fit)
                split = HeldOutSplit(self.train_split, data.labels, read)
            search = WarmupSearch(recipe, data, split, session.seed, session.found_warmup)
            labels, max_epochs, self.evidence_ = plan_fit(  # may train auxiliary networks
                search,
                lambda search: self._label_callback(search, data),
                session.evidence,
                gather=self.evidence,
            )
            checkpoint = Checkpoint(
                session.folder, fingerprint, session.seed, search.found, self.evidence_
            )
            net = recipe.net(
                recipe.criterion(
                    begin_with(data, self.evidence_),
                    class_prior(data, self.evidence_),
                    labels.room(data),
                ),
                # Inputs are augmented and the best weights restored before labels are written.
                [
                    *labels.scorers(),
                    *callbacks,
                    *recipe.augment(),
                    *labels.with_companions(),
                    *session.sklearn_callbacks.skorch_callbacks(),
                    ("sknoisy_checkpoint", checkpoint),
                ],
                checkpoint=checkpoint,
                seed=session.seed,
                train_split=split,
                max_epochs=max_epochs,
                compile=self.compile,
                verbose=0 if ranks.rank else self.verbose,
            )
            # skorch sees row numbers as y; the criterion owns the labels.
            self.net_ = net.fit(data.X, np.arange(data.X.shape[0]))
            net.ranks = ALONE  # predictions are each process's own
            forget_graphs(net.module_.eval())
            if not net.history or (net.interrupted_ and is_called_by_joblib()):
                raise KeyboardInterrupt
            self.evidence_ = calibrated(self.evidence_, net, data.X, ranks)
        session.sklearn_callbacks.end()
        warn_of_outcome(net, self.evidence_, self.classes_)
        return self

    def predict_proba(self, X):
        """Return the class probabilities of X, shape (n_samples, n_classes).

        Calibrated where the fit gathered evidence, with `calibrate`. In float32, or in float64 as a
        module in float64 returns them.
        """
        net = self._fitted_net()
        return predict_rows(self, net, X, self._row_format, torch.softmax)

    def predict_log_proba(self, X):
        """Return the logarithms of `predict_proba`, finite where the probability rounds to zero."""
        net = self._fitted_net()
        return predict_rows(self, net, X, self._row_format, torch.log_softmax)

    def predict(self, X):
        """Return the most probable label of each row of X, shape (n_samples,)."""
        proba = self.predict_proba(X)
        return self.classes_[proba.argmax(axis=1)]

    def score(self, X, y=None, sample_weight=None):
        """Return the accuracy on X and y; y None takes a Dataset's labels, named as in `fit`."""
        self._fitted_net()
        y = read_true_labels(X, y, self.classes_, num_workers(self))
        return super().score(X, y, sample_weight=sample_weight)

    def save(self, path):
        """Write the fitted estimator to a file that holds no code.

        Parameters
        ----------
        path : str or Path
            The file, in safetensors' format; replaced once the new one is whole. It holds what
            predictions, `soft_labels_`, tables (the index of X) and other attributes need. An own
            `module` must be a class or a function that can be imported: the file holds its name,
            not its code. What has no form in JSON, such as callbacks, is left out with a warning.
        """
        self._fitted_net()
        write_estimator(path, self, self._row_format, self.evidence_, self._row_index)

    @classmethod
    def load(cls, path, *, allow=()):
        """Return the fitted estimator that `save` wrote.

        Parameters
        ----------
        path : str or Path
            The file. A damaged one, or one of another estimator, raises ValueError.
        allow : class, function, str, iterable of these, or dict, default=()
            What the file may name in addition to torch's own layers and optimizers, such as the
            class of your module: itself, or its import path; ``{path: MyNetwork}`` where the path
            in the file is another, as of a class that was defined in a notebook. The file imports
            nothing by itself.
        """
        estimator, fitted = read_estimator(path, cls, cls._new_label_callback, allow)
        estimator._row_format, estimator.evidence_, estimator._row_index = fitted
        return estimator

    @property
    def soft_labels_(self):
        """The soft labels of the training rows, as training left them."""
        criterion = self._fitted_net().criterion_
        return read_only(criterion.targets[: len(criterion.given)])

    @property
    def given_labels_(self):
        """The labels of `fit`, in the order of X; where y was None the most probable ones."""
        given = self._fitted_net().criterion_.given
        return self.classes_[read_only(given)]

    @property
    def _given(self):
        """The labels of `fit` as class numbers (n,), or of `label_proba` as shares (n, C).

        Where training began with judged labels, these stand in the place of shares.
        """
        criterion, evidence = self._fitted_net().criterion_, self.evidence_
        is_judged = evidence is not None and evidence.is_judged
        has_shares = criterion.given_proba is not None and not is_judged
        return (criterion.given_proba if has_shares else criterion.given).cpu()

    @property
    def _has_label(self):
        return self._fitted_net().criterion_.is_labeled().numpy(force=True)

    @property
    def corrected_labels_(self):
        """The labels of `fit`; where there is a label issue, what prediction and label tell.

        See `sknoisy.issues.corrected_labels`.
        """
        return corrected_labels(self)

    def label_issues(self):
        """Return a table of the training labels, those most probably wrong first.

        Its index is that of a frame X, or of y. See `sknoisy.issues.find_label_issues`.
        """
        return find_label_issues(self)

    @property
    def warmup_epochs_(self):
        """The `warmup_epochs` that fit used: as given, or as found."""
        return self._labels.warmup_epochs

    @property
    def module_(self):
        """The trained network, in evaluation mode; its logits have no temperature yet."""
        return self._fitted_net().module_

    @property
    def history_(self):
        """Skorch's history of the fit, an entry an epoch."""
        return self._fitted_net().history

    @property
    def n_iter_(self):
        """Number of epochs run."""
        return len(self._fitted_net().history)

    @property
    def _labels(self):
        return self._fitted_net().label_callback

    def _fitted_net(self):
        check_is_fitted(self, "net_")
        return self.net_

    def __sklearn_clone__(self):
        if isinstance(self.module, nn.Module):
            forget_graphs(self.module)  # torch refuses to copy them
        return super().__sklearn_clone__()

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.three_d_array = True
        return tags


def class_prior(data, evidence) -> torch.Tensor | None:
    """Return the class priors (C,) that labels are corrected to, or None where nothing tells.

    Those that evidence found; without it class weights are held to those of the given labels.
    """
    if data.class_weights is not None:
        return data.given_prior
    return None if evidence is None else torch.from_numpy(evidence.class_prior)


def read_only(tensor):
    """Return the numbers of a tensor that has another writer."""
    view = tensor.numpy(force=True).view()
    view.flags.writeable = False
    return view
