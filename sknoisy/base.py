"""The scikit-learn contract, once for all methods."""

from abc import ABC, abstractmethod
from contextlib import closing, contextmanager, nullcontext
from numbers import Integral

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from sknoisy.inputs import InputChecks
from sknoisy.issues import find_label_issues
from sknoisy.parameters import ParameterChecks
from sknoisy.storage.checkpoint import Checkpoint, CheckpointFolder
from sknoisy.storage.estimator_file import Saving
from sknoisy.storage.fingerprint import identity_of
from sknoisy.training.datasets import DatasetRows, is_dataset
from sknoisy.training.interruption import is_called_by_joblib
from sknoisy.training.label_callback import LabelCallback
from sknoisy.training.net import resolve_device
from sknoisy.training.recipe import MAX_SEED, NetBuilder, seeded
from sknoisy.training.sklearn_callbacks import CallbackSupportMixin, Listeners, with_callbacks
from sknoisy.training.warmup_search import Pilot
from sknoisy.user_warnings import warn


@contextmanager
def unchanged_on_error(estimator):
    """Put the estimator's attributes back if the block raises."""
    before = vars(estimator).copy()
    try:
        yield
    except BaseException:
        vars(estimator).clear()
        vars(estimator).update(before)
        raise


def is_finite(module):
    """Tell whether every number of a network is finite."""
    return all(tensor.isfinite().all() for tensor in module.state_dict().values())


class NoisyLabelClassifier(
    NetBuilder,
    ParameterChecks,
    InputChecks,
    Saving,
    CallbackSupportMixin,
    ClassifierMixin,
    BaseEstimator,
    ABC,
):
    """Base of the methods: parameters, fit, prediction.

    A method defines `__init__`, `_check_params` and `_label_callback`; one whose `fit` takes more
    than X and y also defines `fit`, which calls `_fit`, and `_check_fit_params`.
    """

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
        callbacks,
        augment,
        device,
        amp,
        compile,
        verbose,
        random_state,
        checkpoint_dir,
        skorch_params,
    ):
        self._refuse_unknown(skorch_params)
        self.module = module
        self.class_weight = class_weight
        self.optimizer = optimizer
        self.lr = lr
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.train_split = train_split
        self.callbacks = callbacks
        self.augment = augment
        self.device = device
        self.amp = amp
        self.compile = compile
        self.verbose = verbose
        self.random_state = random_state
        self.checkpoint_dir = checkpoint_dir
        self.skorch_params = skorch_params

    @abstractmethod
    def _check_params(self):
        """Raise unless the method's own hyper-parameters are in their ranges."""

    @abstractmethod
    def _label_callback(self, pilot: Pilot) -> LabelCallback:
        """Return the callback that writes ``net.criterion_.targets``."""

    @staticmethod
    @abstractmethod
    def _new_label_callback() -> LabelCallback:
        """Return that callback with its defaults, for a fitted estimator from a file."""

    def fit(self, X, y=None, sample_weight=None):
        """Train the network while correcting the labels.

        Parameters
        ----------
        X : array-like or CSR matrix of shape (n_samples, n_features), ndarray of shape \
                (n_samples, channels, height, width), (n_samples, height, width) or other with a \
                `module` of your own, or torch Dataset
            Training data; finite numbers, converted to float32 once. Sparse batches are made
            dense one at a time. Images of type uint8 stay so in memory and are scaled to [0, 1]
            batch by batch on the device. A Dataset holds tensors, or pairs (tensor, label), read
            when they are needed.
        y : array-like of shape (n_samples,)
            Given labels, some of them wrong; any type that sorts. None takes those of a Dataset.
        sample_weight : array-like of shape (n_samples,), default=None
            What each row's loss is multiplied by, relative to their mean; a row of weight 0
            teaches nothing. None weighs all rows the same.

        Returns
        -------
        self : object
            The fitted estimator. If a call raises, an earlier fit stays as it was.
        """
        return self._fit(X, y, sample_weight)

    @with_callbacks
    def _fit(self, X, y, sample_weight, **fit_params):
        self._check_skorch_params()
        device = resolve_device(self.device)
        # Before anything can fail: they hear of the end only if they heard of the beginning.
        listeners = Listeners(self, X, y, None if self.max_epochs == "auto" else self.max_epochs)
        folder = None if self.checkpoint_dir is None else CheckpointFolder(self.checkpoint_dir)
        resumed = None if folder is None else folder.state
        seed = check_random_state(self.random_state).randint(MAX_SEED)
        if resumed is not None and not isinstance(self.random_state, Integral):
            seed = resumed["seed"]
        open_folder = nullcontext() if folder is None else closing(folder)
        with open_folder, unchanged_on_error(self), seeded(seed, device):
            X, labels = self._validate_fit(X, y)
            weights = self._row_weights(labels, sample_weight)
            X, callback_params = self._check_fit_params(X, labels, **fit_params)
            checkpoint = Checkpoint(folder, seed=seed)
            if folder is not None:
                checkpoint.identity = identity_of(self, X, labels, weights, **callback_params)
                folder.check(checkpoint.identity)
            net, checkpoint.found_warmup = self._make_net(
                X,
                labels,
                weights,
                callback_params,
                [*listeners.skorch_callbacks(), ("checkpoint", checkpoint)],
                resumed and resumed["found_warmup"],
            )
            # skorch sees row numbers as y; the criterion owns the labels.
            self.net_ = net.fit(X, np.arange(X.shape[0]))
            self._n_labels = len(labels)
            if not net.history or (net.interrupted_ and is_called_by_joblib()):
                raise KeyboardInterrupt
        listeners.end()
        if net.interrupted_:
            warn(
                f"Training interrupted by user after {len(net.history)} of {net.max_epochs}"
                " epochs; the fit so far is kept.",
            )
        if not (np.isfinite(net.history[-1, "train_loss"]) and is_finite(net.module_)):
            warn(
                f"Training diverged: the loss of the last epoch is"
                f" {net.history[-1, 'train_loss']}. Lower lr={net.lr:g}, or scale X; a Dataset must"
                " hold finite numbers.",
                ConvergenceWarning,
            )
        return self

    def _check_fit_params(self, X, labels):
        """Return all inputs, and the label callback's parameters, from what `fit` was given."""
        return X, {}

    def predict_proba(self, X):
        """Return the class probabilities of X, shape (n_samples, n_classes).

        In float32, or in float64 as a module in float64 returns them.
        """
        net = self._fitted_net()
        rows = self._validate(X, reset=False)
        dtype = np.float64 if net.criterion_.targets.dtype == torch.float64 else np.float32
        proba = np.empty((rows.shape[0], len(self.classes_)), dtype=dtype)
        filled = 0
        for logits in net.forward_iter(rows):  # a list of them would splinter the heap
            proba[filled : filled + len(logits)] = logits.softmax(dim=1).numpy()
            filled += len(logits)
        if isinstance(rows, DatasetRows) and not np.isfinite(proba).all():
            row = np.flatnonzero(~np.isfinite(proba).all(axis=1))[0]
            raise ValueError(f"X must hold finite numbers, got others in row {row} of the Dataset.")
        return proba

    def predict(self, X):
        """Return the most probable label of each row of X, shape (n_samples,)."""
        proba = self.predict_proba(X)
        return self.classes_[proba.argmax(axis=1)]

    def score(self, X, y=None, sample_weight=None):
        """Return the accuracy on X and y; y None takes the labels of a Dataset."""
        if y is None and is_dataset(X):
            y = DatasetRows(X).labels(self._num_workers())
        return super().score(X, y, sample_weight=sample_weight)

    @property
    def soft_labels_(self):
        """What the estimator believes the training labels to be."""
        return read_only(self._fitted_net().criterion_.targets[: self._n_labels])

    @property
    def given_labels_(self):
        """The labels of `fit`, in the order of X."""
        given = self._fitted_net().criterion_.given
        return self.classes_[read_only(given)]

    def label_issues(self):
        """Return a table of the training labels, those most probably wrong first.

        See `sknoisy.issues.find_label_issues`.
        """
        return find_label_issues(self)

    @property
    def warmup_epochs_(self):
        """The `warmup_epochs` that fit used: as given, or as found."""
        return dict(self._fitted_net().callbacks_)["labels"].warmup_epochs

    @property
    def module_(self):
        """The trained network."""
        return self._fitted_net().module_

    @property
    def history_(self):
        """Skorch's history of the fit, an entry an epoch."""
        return self._fitted_net().history

    @property
    def n_iter_(self):
        """Number of epochs run."""
        return len(self._fitted_net().history)

    def _fitted_net(self):
        check_is_fitted(self, "net_")
        return self.net_

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.three_d_array = True
        return tags


def read_only(tensor):
    """Return the numbers of a tensor that has another writer."""
    view = tensor.numpy(force=True).view()
    view.flags.writeable = False
    return view
