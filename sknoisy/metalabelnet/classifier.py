"""MetaLabelNet: soft labels from a network that learns from a small trusted set.

Source: G. Algan, I. Ulusoy, "MetaLabelNet: Learning to Generate Soft-Labels from Noisy-Labels",
IEEE TIP 31, 2022, arXiv 2103.10869, and the authors' published code.
"""

import inspect
from dataclasses import replace
from numbers import Integral, Real

import torch

from sknoisy.base import NoisyLabelClassifier
from sknoisy.inputs import read_rows
from sknoisy.metalabelnet.callback import GenerateLabels
from sknoisy.metalabelnet.hypergradient import METHODS
from sknoisy.metalabelnet.trusted import (
    TrustedRows,
    check_mask,
    check_meta_labels,
    unpack,
    warn_if_cut,
)
from sknoisy.parameters import check_choice, check_number
from sknoisy.training.data import stack_rows, stored_type
from sknoisy.training.datasets import DatasetRows, is_dataset
from sknoisy.user_warnings import warn

MAX_META_BATCH = 1024  # trusted rows a virtual step, where the batch is the whole set
WIDE, WIDE_LR, NARROW_LR = 1000, 0.05, 0.2  # columns, and the rates from and below there


def auto_virtual_lr(optimizer, lr: float, given: dict) -> float:
    """``max(1, 10 lr / (1 - momentum))``: never shorter than the optimizer's own steps.

    The momentum is the optimizer's ``momentum`` or first beta, as `given` or by its default.
    """
    defaults = {k: p.default for k, p in inspect.signature(optimizer).parameters.items()}
    params = {**defaults, **given}
    momentum = params.get("momentum", params.get("betas", (0.0,))[0])
    return max(1.0, 10 * lr / (1 - momentum))


def auto_warmup_epochs(epochs_of_65_steps: int, max_epochs: int) -> int:
    """Return a fifth of the epochs, at most 10 or a tenth; 65 steps, but at most a third."""
    fraction = min(max_epochs // 5, max(10, max_epochs // 10))
    return max(1, min(max(epochs_of_65_steps, fraction), max_epochs // 3))


def auto_meta_batch_size(batch_size: int) -> int:
    """Three eighths of the batch, but all of one below 32; 1024 where a batch is all rows.

    The graph of the batch is kept while the trusted rows run: more of them take more memory.
    """
    if batch_size < 0:
        return MAX_META_BATCH
    return max(3 * batch_size // 8, min(batch_size, 32))


class MetaLabelNetClassifier(NoisyLabelClassifier):
    """Classifier whose soft labels come from a network that learns from a small trusted set.

    After a warm-up on the given labels, a linear label network on frozen features generates the
    soft labels of each batch. It is trained through a virtual step: its gradient is that of the
    loss on trusted rows after the classifier has taken a step on the generated labels. A row's
    given label counts as far as the classifier's predictions support such labels. Trusted rows come
    as ``meta_X`` and ``meta_y``, or as the mask ``trusted`` of rows of X.

    Parameters
    ----------
    module : None, str, nn.Module class, factory or instance, default=None
        Maps a batch to logits (B, n_classes). None builds `sknoisy.networks.MLP`, or for images
        `sknoisy.networks.SmallResNet`, sized from the data, which standardize their inputs. A name
        of a torchvision model, such as 'resnet18', builds that, pretrained with
        ``module__weights='DEFAULT'``. A class or factory gets the ``module__*`` parameters, and
        ``n_features`` and ``n_classes`` where it takes them; an instance is copied.
    warmup_epochs : 'auto' or int >= 1, default='auto'
        Epochs of cross-entropy on the given labels. What the network has memorized by then cannot
        be undone: stop it early. 'auto' is a fifth of `max_epochs`, up to 10 epochs or a tenth of
        them, or the number that holds 65 steps if that is more, but at most a third.
    meta_lr : float, default=0.0005
        Learning rate of the label network's Adam ("beta"); the authors, who begin it at random
        weights, take 0.01.
    meta_every : int >= 1, default=2
        Steps from one meta-update to the next: the label network is updated in each such step, and
        generates labels in all. The authors update it in every step, 1, which takes half as long
        again.
    virtual_lr : 'auto' or float > 0, default='auto'
        Length of the virtual step ("alpha"). 'auto' is ``max(1, 10 * lr / (1 - momentum))``; with a
        step shorter than the real one the labels do not get better.
    entropy_weight : float, default=1.0
        Weight of the prediction's entropy in the classifier's loss ("gamma"). With 1 the loss is
        the reverse cross-entropy.
    given_weight : float >= 0, default=1.0
        Weight of the likelihood term ``log T[class, given label]`` in the label network's logits,
        with T the noise transition matrix; 1 is the rule of Bayes. T is estimated when the warm-up
        ends, from the given labels by predicted class, with at most as many wrong labels as
        `noise_rate_`. The authors do without: 0.
    max_noise_rate : 'auto' or float in [0, 1], default='auto'
        Upper bound of the fraction of wrong labels. Below 0.2 the classifier's loss on generated
        labels has the cross-entropy as a part, ``1 - max_noise_rate / 0.2`` of it, while the
        virtual step keeps the reverse cross-entropy: labels that are hard to learn, right or
        wrong, are then learned sooner. 'auto' estimates it after the warm-up as the larger of (a)
        the noise rate implied by the accuracy on the trusted rows and (b) the label disagreement
        between trusted rows and their nearest training rows, plus one standard error: see
        `sknoisy.neighbor_noise.highest_noise_rate_near`. 1 without trusted rows, and where neither
        can be estimated. The authors do without: 1. Found: `max_noise_rate_`.
    meta_batch_size : 'auto' or int >= 1, default='auto'
        Trusted rows a virtual step. 'auto' is three eighths of `batch_size`, or all of one below
        32: as good as `batch_size`, the authors' choice, in less time and memory. A smaller trusted
        set is used whole.
    trusted_weight : float >= 0, default=0.5
        Weight of the cross-entropy of trusted rows, an eighth of the batch size appended to each
        batch: the classifier learns from them directly as well. The authors do without: 0.
    reduction : {'batchmean', 'mean'}, default='batchmean'
        Whether the classifier's loss is a mean over rows, or over rows and classes as in the
        authors' code.
    hypergradient : {'auto', 'jvp', 'double-backward', 'finite-difference'}, default='auto'
        How the virtual step is differentiated. 'jvp' is exact and the cheapest; 'auto' takes the
        first of the three that the module's operations support, and warns if it is not 'jvp'.
    label_start : {'classifier', 'random'}, default='classifier'
        Where the label network begins: at the classifier's own last layer, so that the first
        labels are the warmed-up classifier's predictions, updated by the given labels, or at random
        weights as in the authors' code, which on small data unlearns the warm-up before good
        labels are found.
    feature_layer : None or str, default=None
        Name of the layer whose input is the features; None takes the last nn.Linear. If that is
        the module's only layer, the labels can be no richer than a logistic model's.
    restore_best : bool, default=False
        Whether to return to the epoch of best accuracy on the trusted rows, the loss deciding
        ties, as the authors do. The accuracy is optimistic for rows that are also trained on.
    class_prior : {'estimated', 'trusted'}, default='estimated'
        The class priors by which trusted rows count. 'estimated' are those of the training rows,
        estimated when the warm-up ends from the given labels and the predicted classes: trusted
        rows may then be drawn class by class. 'trusted' are those of the trusted rows, as the
        authors have it.
    max_grad_norm : None or float > 0, default=1.0
        Norm to which the gradient of a step is clipped. Where labels are confident the reverse
        cross-entropy is steep: a single batch could throw the classifier off. The authors do
        without: None.
    class_weight : None, 'balanced' or dict, default=None
        What the loss of rows is multiplied by, by their given label: ``{label: weight}``, or
        inversely to the labels' counts.
    optimizer : class, default=torch.optim.SGD
        A torch optimizer; its parameters as ``optimizer__*``. The virtual step is a plain gradient
        step, and serves best if the real step is one too.
    lr : 'auto' or float, default='auto'
        Learning rate. 'auto' is 0.2, or 0.05 for tables of 1,000 columns or more: the more
        inputs, the steeper the loss.
    max_epochs : 'auto' or int, default='auto'
        Number of epochs. 'auto' is 50, or as many as hold 100 steps a class, but at most 200: few
        rows of many classes need more epochs.
    batch_size : int, default=128
        Rows a step; -1 takes all rows. A last batch of one row joins the one before.
    train_split : None or skorch.dataset.ValidSplit, default=None
        Holds rows out for validation. Their row of `soft_labels_` is the prediction for them.
    evidence : bool, default=True
        Whether to gather out-of-sample evidence first, which about doubles the time of a fit: two
        networks, each trained on half of the rows, predict the other half. It decides whether
        correcting labels helps: else the network is trained on the given labels alone, for the
        epochs that foretell held-out labels best. It finds the warm-up where that is searched for,
        calibrates `predict_proba`, and lets `label_issues` rest on probabilities that have not
        seen the labels. False is the method as published, as are fits of fewer than 50 rows or 4
        epochs. Found: `evidence_`.
    calibrate : bool, default=True
        Whether `predict_proba` is calibrated by the evidence: its logits are divided by the
        temperature found. Predictions stay the same. Read when predicting.
    callbacks : None or list of skorch callbacks, default=None
        Copied in `fit`. Their parameters as ``callbacks__<name>__*``. The inner net's y are row
        numbers: a scoring callback must not read y as labels.
    augment : None, 'auto' or callable, default=None
        What changes the inputs of a training batch, on the device; predictions and the method's
        own evaluations see plain ones. 'auto' shifts images by up to an eighth of their height
        and, where they have 3 channels, mirrors half of them. A callable takes and returns a
        batch, images as float32 (B, channels, height, width); a transform of
        `torchvision.transforms.v2` draws once a batch.
    device : {'auto', 'cpu', 'cuda', 'mps'} or alike, default='cpu'
        Where to train; 'auto' takes a GPU if there is one.
    amp : {False, 'bf16', 'fp16'}, default=False
        Whether the network's passes run in mixed precision; losses stay in float32.
    compile : bool, default=False
        Whether to compile the network with `torch.compile`.
    verbose : int, default=0
        1 prints skorch's table, a line an epoch.
    random_state : int, RandomState or None, default=None
        Decides the initial weights, the order of the batches, dropout and the method's own draws.
        numpy's and torch's global generators are left as they were.
    checkpoint_dir : None, str or Path, default=None
        A folder for the state after each epoch, of this fit alone. The same call after a crash
        goes on there, and ends as if nothing had happened; other data, parameters or versions are
        refused.
    **skorch_params : dict
        ``module__*``, ``optimizer__*``, ``iterator_train__*``, ``iterator_valid__*``,
        ``callbacks__*`` and ``compile__*``, as in `skorch.NeuralNet`.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels seen in `fit`; the columns of `predict_proba` and `soft_labels_`.
    soft_labels_ : ndarray of shape (n_samples, n_classes)
        What the label network generates for the training rows, without the likelihood term of the
        given labels that it is trained with: rows in the order of X, columns in the order of
        `classes_`, each row a distribution. Rows that `trusted` marks keep their label, unless
        `trusted_weight` is 0.
    label_net_ : nn.Linear or None
        The label network, from features to logits of labels; None if training ended in the
        warm-up.
    noise_rate_ : float or None
        Estimated fraction of wrong given labels, on the high side, as implied by the accuracy on
        the trusted rows, at most `max_noise_rate_`; too low where labels were memorized in the
        warm-up. None if training ended there.
    max_noise_rate_ : float or None
        The `max_noise_rate` that was used: as given, or as found.
    cross_entropy_share_ : float or None
        The fraction of the cross-entropy in the loss after the warm-up.
    hypergradient_ : str or None
        How the virtual step was differentiated.
    best_epoch_ : int
        The epoch whose weights are kept, counted from 1: the last one, or with `restore_best` the
        best.
    n_meta_ : int
        Number of trusted rows.
    n_features_in_ : int
        Number of features seen in `fit`, ``X.shape[1]``; not there after a fit on a Dataset.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, if X had names that are all strings.
    n_iter_ : int
        Number of epochs run.
    warmup_epochs_ : int
        Epochs of the warm-up.
    evidence_ : Evidence or None
        What held-out rows tell of the labels and of correcting them; ``print`` it. None without
        `evidence`. See `sknoisy.training.evidence.Evidence`.
    corrected_labels_ : ndarray of shape (n_samples,)
        The labels of `fit`, but where there is a label issue the one that it suggests.
    net_ : skorch.NeuralNet
        The fitted net; its criterion holds the soft labels.
    module_ : nn.Module
        The trained network.
    history_ : skorch.history.History
        Loss and duration of each epoch, ``meta_accuracy`` and ``meta_loss`` on the trusted rows.

    Notes
    -----
    The authors' procedure for CIFAR-10: ``MetaLabelNetClassifier(module, warmup_epochs=44,
    max_epochs=120, meta_lr=1e-2, meta_every=1, virtual_lr=1.0, entropy_weight=1.0,
    given_weight=0.0, max_noise_rate=1.0, meta_batch_size=128, trusted_weight=0.0, reduction='mean',
    label_start='random', restore_best=True, class_prior='trusted', max_grad_norm=None,
    optimizer=torch.optim.SGD, lr=1e-2, optimizer__momentum=0.9, optimizer__weight_decay=1e-4,
    batch_size=128, callbacks=[LRScheduler(MultiStepLR, milestones=[41, 81], gamma=0.1)])``, with
    skorch's LRScheduler and torch's scheduler, and 5,000 trusted images.

    References
    ----------
    G. Algan, I. Ulusoy, "MetaLabelNet: Learning to Generate Soft-Labels from Noisy-Labels",
    IEEE TIP 31, 2022, arXiv 2103.10869. The direct use of trusted rows and of given labels, the
    automatic values and the forward-mode hypergradient are this library's.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from sknoisy import MetaLabelNetClassifier
    >>> X, y = make_classification(200, flip_y=0.2, random_state=0)
    >>> clf = MetaLabelNetClassifier(max_epochs=20, random_state=0)
    >>> clf.fit(X[40:], y[40:], meta_X=X[:40], meta_y=y[:40]).soft_labels_.shape
    (160, 2)
    """

    def __init__(
        self,
        module=None,
        *,
        warmup_epochs="auto",
        meta_lr=0.0005,
        meta_every=2,
        virtual_lr="auto",
        entropy_weight=1.0,
        given_weight=1.0,
        max_noise_rate="auto",
        meta_batch_size="auto",
        trusted_weight=0.5,
        reduction="batchmean",
        hypergradient="auto",
        label_start="classifier",
        feature_layer=None,
        restore_best=False,
        class_prior="estimated",
        max_grad_norm=1.0,
        class_weight=None,
        optimizer=torch.optim.SGD,
        lr="auto",
        max_epochs="auto",
        batch_size=128,
        train_split=None,
        evidence=True,
        calibrate=True,
        callbacks=None,
        augment=None,
        device="cpu",
        amp=False,
        compile=False,
        verbose=0,
        random_state=None,
        checkpoint_dir=None,
        **skorch_params,
    ):
        super().__init__(
            module,
            class_weight=class_weight,
            optimizer=optimizer,
            lr=lr,
            max_epochs=max_epochs,
            batch_size=batch_size,
            train_split=train_split,
            evidence=evidence,
            calibrate=calibrate,
            callbacks=callbacks,
            augment=augment,
            device=device,
            amp=amp,
            compile=compile,
            verbose=verbose,
            random_state=random_state,
            checkpoint_dir=checkpoint_dir,
            skorch_params=skorch_params,
        )
        self.warmup_epochs = warmup_epochs
        self.meta_lr = meta_lr
        self.meta_every = meta_every
        self.virtual_lr = virtual_lr
        self.entropy_weight = entropy_weight
        self.given_weight = given_weight
        self.max_noise_rate = max_noise_rate
        self.meta_batch_size = meta_batch_size
        self.trusted_weight = trusted_weight
        self.reduction = reduction
        self.hypergradient = hypergradient
        self.label_start = label_start
        self.feature_layer = feature_layer
        self.restore_best = restore_best
        self.class_prior = class_prior
        self.max_grad_norm = max_grad_norm

    def fit(
        self,
        X,
        y=None,
        sample_weight=None,
        *,
        meta_X=None,
        meta_y=None,
        trusted=None,
        unlabeled_X=None,
    ):
        """Train the network on labels that are learned from the trusted rows.

        Parameters
        ----------
        X : array-like or CSR matrix of shape (n_samples, n_features), ndarray of shape \
                (n_samples, channels, height, width), (n_samples, height, width) or other with a \
                `module` of your own, or torch Dataset
            Training data; finite numbers, converted to float32 once. Images of type uint8 stay so
            in memory and are scaled to [0, 1] batch by batch on the device. A Dataset holds
            tensors, or pairs (tensor, label), read when they are needed.
        y : array-like of shape (n_samples,)
            Given labels, some of them wrong; any type that sorts. None takes those of a Dataset.
        sample_weight : array-like of shape (n_samples,), default=None
            What each row's loss is multiplied by, relative to their mean; a row of weight 0 does
            not contribute. None weighs all rows the same.
        meta_X : array-like of shape (n_meta, ...), or a 1-tuple of one, default=None
            Trusted rows, like rows of X, or a Dataset of them. scikit-learn's cross-validation
            slices an array that is as long as X to each fold, but never a 1-tuple: ``meta_X=(M,)``.
        meta_y : array-like of shape (n_meta,), or a 1-tuple of one, default=None
            Their labels, each class of y at least once; None takes those of a Dataset.
        trusted : array-like of bool of shape (n_samples,), default=None
            Instead of meta_X and meta_y: the rows of X whose label is right.
        unlabeled_X : array-like of shape (n_unlabeled, ...), or a 1-tuple of one, default=None
            Rows without a label, or a Dataset of them; they join after the warm-up.

        Returns
        -------
        self : object
            The fitted estimator. Without trusted rows, those of lowest loss after the warm-up
            stand in for them, with a warning. If a call raises, an earlier fit stays as it was.
        """
        return self._fit(
            X,
            y,
            sample_weight,
            meta_X=meta_X,
            meta_y=meta_y,
            trusted=trusted,
            unlabeled_X=unlabeled_X,
        )

    @property
    def label_net_(self):
        """The label network, from features to logits of labels."""
        return self._labels.label_net_

    @property
    def noise_rate_(self):
        """The estimated fraction of given labels that are wrong."""
        return self._labels.noise_rate_

    @property
    def max_noise_rate_(self):
        """The `max_noise_rate` that fit used: as given, or as found."""
        return self._labels.max_noise_rate_

    @property
    def cross_entropy_share_(self):
        """The fraction of the cross-entropy in the loss after the warm-up."""
        return self._labels.cross_entropy_share_

    @property
    def hypergradient_(self):
        """How the virtual step was differentiated."""
        return self._labels.hypergradient_

    @property
    def best_epoch_(self):
        """The epoch whose weights are kept, counted from 1."""
        return self._labels.best_epoch_

    @property
    def n_meta_(self):
        """Number of trusted rows."""
        return self._labels.n_meta_

    def _learning_rate(self, X):
        if self.lr != "auto":
            return self.lr
        return WIDE_LR if X.ndim == 2 and X.shape[1] >= WIDE else NARROW_LR

    def _check_params(self):
        check_number(self.warmup_epochs, "warmup_epochs", Integral, 1, auto=True)
        check_number(self.meta_lr, "meta_lr", Real, 0)
        check_number(self.meta_every, "meta_every", Integral, 1)
        check_number(self.virtual_lr, "virtual_lr", Real, 0, auto=True)
        check_number(self.entropy_weight, "entropy_weight", Real, 0)
        check_number(self.given_weight, "given_weight", Real, 0)
        check_number(self.max_noise_rate, "max_noise_rate", Real, 0, 1, auto=True)
        check_number(self.meta_batch_size, "meta_batch_size", Integral, 1, auto=True)
        check_number(self.trusted_weight, "trusted_weight", Real, 0)
        check_choice(self.reduction, "reduction", ("batchmean", "mean"))
        if self.max_grad_norm is not None:
            check_number(self.max_grad_norm, "max_grad_norm", Real, 0, closed="neither")
        check_choice(self.class_prior, "class_prior", ("estimated", "trusted"))
        check_choice(self.label_start, "label_start", ("classifier", "random"))
        check_choice(self.hypergradient, "hypergradient", ("auto", *METHODS))

    def _read_fit_params(self, data, row_format, *, meta_X, meta_y, trusted, unlabeled_X):
        X, labels, rows = data.X, data.labels, None
        warn_if_cut(meta_X, len(labels))
        if trusted is not None:
            if meta_X is not None or meta_y is not None:
                raise ValueError("trusted must not be given together with meta_X and meta_y.")
            indices = check_mask(trusted, labels, data.classes)
            rows = TrustedRows(X[indices], labels[indices], indices)
        elif meta_X is not None or meta_y is not None:
            rows = self._read_meta(unpack(meta_X), unpack(meta_y), data.classes, row_format)
        else:
            warn(
                "No trusted rows were given: pass meta_X and meta_y, or trusted. The rows of"
                " lowest loss after the warm-up stand in for them.",
            )
        if unlabeled_X is not None:
            if self.train_split is not None:
                raise ValueError("train_split must be None when unlabeled_X is given.")
            unlabeled_X = read_rows(self, unpack(unlabeled_X), row_format, "unlabeled_X")
            if stored_type(unlabeled_X) != stored_type(X):
                raise ValueError(
                    f"unlabeled_X must have the type of X, {stored_type(X).__name__}, got"
                    f" {stored_type(unlabeled_X).__name__}."
                )
            X = stack_rows(X, unlabeled_X)
        if rows is None:
            return replace(data, X=X)
        extra = {"trusted rows": [rows.X, rows.labels], "trusted mask": [rows.indices]}
        return replace(data, X=X, extra=extra)

    def _read_meta(self, meta_X, meta_y, classes, row_format):
        if meta_y is None and is_dataset(meta_X):
            meta_y = DatasetRows(meta_X).labels()
        for name, value, other in (("meta_X", meta_X, "meta_y"), ("meta_y", meta_y, "meta_X")):
            if value is None:
                raise ValueError(f"{name} must be given with {other}, got None; pass both.")
        meta_X = read_rows(self, meta_X, row_format, "meta_X")
        labels = check_meta_labels(meta_y, classes)
        if len(labels) != meta_X.shape[0]:
            raise ValueError(
                f"meta_X and meta_y must have the same length, got {meta_X.shape[0]} rows and"
                f" {len(labels)} labels."
            )
        return TrustedRows(meta_X, labels)

    _new_label_callback = staticmethod(GenerateLabels)

    def _label_callback(self, search, data):
        warmup = self.warmup_epochs
        if warmup == "auto":
            warmup = auto_warmup_epochs(search.epochs_of(65), search.max_epochs)
        if search.max_epochs <= warmup:
            warn(
                f"max_epochs must exceed warmup_epochs for any label to be generated, got"
                f" max_epochs={search.max_epochs} and warmup_epochs={warmup}.",
            )
        virtual_lr = self.virtual_lr
        if virtual_lr == "auto":
            given = {
                name.removeprefix("optimizer__"): value
                for name, value in self.skorch_params.items()
                if name.startswith("optimizer__")
            }
            lr = self._learning_rate(data.X)
            virtual_lr = auto_virtual_lr(self.optimizer, lr, given)
        meta_batch_size = self.meta_batch_size
        if meta_batch_size == "auto":
            meta_batch_size = auto_meta_batch_size(self.batch_size)
        trusted, given = None, data.extra
        if given:
            trusted = TrustedRows(*given["trusted rows"], *given["trusted mask"])
        return GenerateLabels(
            trusted=trusted,
            warmup_epochs=warmup,
            meta_lr=self.meta_lr,
            meta_every=self.meta_every,
            virtual_lr=virtual_lr,
            entropy_weight=self.entropy_weight,
            given_weight=self.given_weight,
            meta_batch_size=meta_batch_size,
            trusted_weight=self.trusted_weight,
            reduction=self.reduction,
            label_start=self.label_start,
            feature_layer=self.feature_layer,
            restore_best=self.restore_best,
            class_prior=self.class_prior,
            max_noise_rate=self.max_noise_rate,
            max_grad_norm=self.max_grad_norm,
            hypergradient=self.hypergradient,
        )
