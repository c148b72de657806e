"""MetaLabelNet: soft labels from a network that learns from a small trusted set.

Source: G. Algan, I. Ulusoy, "MetaLabelNet: Learning to Generate Soft-Labels from Noisy-Labels",
IEEE TIP 31, 2022, arXiv 2103.10869, and the authors' published code.
"""

import inspect
from dataclasses import replace
from numbers import Integral, Real
from typing import ClassVar

import numpy as np
import torch

from sknoisy.answers import answers
from sknoisy.base import NoisyLabelClassifier
from sknoisy.inputs import read_rows
from sknoisy.metalabelnet.callback import CorrectLabels
from sknoisy.metalabelnet.hypergradient import METHODS
from sknoisy.metalabelnet.trusted import (
    TrustedRows,
    check_labeled,
    check_mask,
    read_trusted,
    unpack,
    warn_if_cut,
    warn_of_classes,
)
from sknoisy.parameters import OF_FIT, check_choice, check_number
from sknoisy.row_index import check_order
from sknoisy.rows import stack_rows, stored_type, take_rows
from sknoisy.training.refine_labels import auto_momentum
from sknoisy.user_warnings import warn

MAX_META_BATCH = 1024  # trusted rows a virtual step, where the batch is the whole set


def auto_virtual_lr(optimizer, lr: float, given: dict) -> float:
    """``max(1, 10 lr / (1 - momentum))``: never shorter than the optimizer's own steps.

    The momentum is the optimizer's ``momentum`` or first beta, as `given` or by its default.
    """
    defaults = {k: p.default for k, p in inspect.signature(optimizer).parameters.items()}
    params = {**defaults, **given}
    momentum = params.get("momentum", params.get("betas", (0.0,))[0])
    return max(1.0, 10 * lr / (1 - momentum))


def auto_meta_batch_size(batch_size: int) -> int:
    """Three eighths of the batch, but all of one below 32; 1024 where a batch is all rows.

    The graph of the batch is kept while the trusted rows run: more of them take more memory.
    """
    if batch_size < 0:
        return MAX_META_BATCH
    return max(3 * batch_size // 8, min(batch_size, 32))


class MetaLabelNetClassifier(NoisyLabelClassifier):
    """Classifier that refines its labels by predictions which trusted rows correct.

    After a warm-up on the given labels, the soft label of each row moves a little towards the
    network's prediction at every epoch, as in `ALRClassifier`, but the prediction is corrected by a
    label network first: a linear layer on frozen features, zero at the start, trained through a
    virtual step. Its gradient is that of the loss on trusted rows after the classifier has taken a
    step on the labels. Trusted rows come as ``meta_X`` and ``meta_y``, or as the mask ``trusted``
    of rows of X; they also join the batches, and are the first to be asked, held out, whether
    correcting labels helps.

    Parameters
    ----------
    module : None, str, nn.Module class, factory or instance, default=None
        Maps a batch to logits (B, n_classes). None builds `sknoisy.networks.MLP`, or for images
        `sknoisy.networks.SmallResNet`, sized from the data, which standardize their inputs. A name
        of a torchvision model, such as 'resnet18', builds that, pretrained with
        ``module__weights='DEFAULT'``. A class or factory gets the ``module__*`` parameters, and
        ``n_features`` and ``n_classes`` where it takes them; an instance is copied.
        For a CSR matrix of 10,000 columns or more, None gives weights to the columns alone that
        occur in X; others change no prediction. Batches then stay sparse, also for callbacks, and a
        step moves the weights of their columns, by `sknoisy.training.lazy_adamw`, unless inputs are
        augmented, the network is compiled, or `optimizer` is another than AdamW; in
        `MetaLabelNetClassifier` batches are dense.
    warmup_epochs : 'auto' or int >= 1, default='auto'
        Epochs of cross-entropy on the given labels. What the network has memorized by then cannot
        be undone: stop it early. 'auto' picks the epoch of lowest loss on rows held out, whose
        labels are as noisy: of the networks of `evidence`, or without it of one trained on 90 % of
        the rows. At most half of `max_epochs`, or 100. Found: `warmup_epochs_`.
    momentum : 'auto' or float in [0, 1], default='auto'
        Weight of the old soft label at each update. 'auto' is 0.9, or less, down to 0.7, where the
        epochs after the warm-up do not hold five half-lives. Not read for generated labels.
    labels : {'refined', 'generated'}, default='refined'
        How soft labels come about after the warm-up. 'refined' blends them with predictions, whose
        logits the label network corrects; 'generated' takes what the label network, from random
        weights, makes of the features alone, as the authors do.
    meta_lr : float, default=0.001
        Learning rate of the label network's Adam ("beta"), less in proportion where trusted rows do
        not fill a batch of `meta_batch_size`; the authors take 0.01.
    meta_every : int >= 1, default=2
        Steps from one meta-update to the next: the label network is updated in each such step, and
        is used in all. The authors update it in every step, 1, which takes half as long again.
    virtual_lr : 'auto' or float > 0, default='auto'
        Length of the virtual step ("alpha"). 'auto' is ``max(1, 10 * lr / (1 - momentum))``; with a
        step shorter than the real one the labels do not get better.
    entropy_weight : float >= 0, default=0.5
        Weight of the prediction's entropy in the classifier's loss after the warm-up: beside the
        cross-entropy to refined labels, or ("gamma") beside the divergence from generated ones,
        where 1, the authors' choice, makes it the reverse cross-entropy.
    meta_batch_size : 'auto' or int >= 1, default='auto'
        Trusted rows a virtual step. 'auto' is three eighths of `batch_size`, or all of one below
        32: as good as `batch_size`, the authors' choice, in less time and memory. A smaller trusted
        set is used whole, and training goes on until labels have settled, see `max_epochs`.
    trusted_weight : float >= 0, default=0.5
        Weight of the cross-entropy of trusted rows, an eighth of the batch size appended to each
        batch: the classifier learns from them directly as well. Less in proportion where there are
        fewer. The authors do without: 0.
    reduction : {'batchmean', 'mean'}, default='batchmean'
        Whether the loss of the virtual step, and to generated labels, is a mean over rows, or over
        rows and classes as in the authors' code.
    hypergradient : {'auto', 'jvp', 'double-backward', 'finite-difference'}, default='auto'
        How the virtual step is differentiated. 'jvp' is exact and the cheapest; 'auto' takes the
        first of the three that the module's operations support, and warns if it is not 'jvp'.
    feature_layer : None or str, default=None
        Name of the layer whose input is the features; None takes the last nn.Linear. If that is
        the module's only layer, the labels can be no richer than a logistic model's.
    restore_best : bool, default=False
        Whether to return to the epoch of best accuracy on the trusted rows, the loss deciding
        ties, as the authors do. The accuracy is optimistic for rows that are also trained on.
    class_prior : {'estimated', 'trusted'}, default='estimated'
        The class priors by which trusted rows count. 'estimated' are those of the training rows, by
        `evidence_`, or without it by the given labels: trusted rows may then be drawn class by
        class. 'trusted' are those of the trusted rows, as the authors have it.
    class_weight : None, 'balanced' or dict, default=None
        What the loss of rows is multiplied by, by their given label: ``{label: weight}``, or
        inversely to the labels' counts.
    optimizer : class, default=torch.optim.AdamW
        A torch optimizer; its parameters as ``optimizer__*``. The virtual step is a plain gradient
        step.
    lr : float, default=0.001
        Learning rate.
    max_epochs : 'auto' or int, default='auto'
        Number of epochs. 'auto' is the warm-up and 15 more, or as many more as hold 30 steps a
        class, and 30 batches of rows of the rarest one, but at most 100: few rows of many classes,
        or of a rare one, need more epochs. `ALRClassifier`, and `MetaLabelNetClassifier` with fewer
        trusted rows than `meta_batch_size`, go on until their labels have settled, for at most 80
        steps a class beyond the first; labels wrong in pairs take long.
    batch_size : int, default=128
        Rows a step; -1 takes all rows. A last batch of one row joins the one before.
    train_split : None, skorch.dataset.ValidSplit or alike, default=None
        Holds rows out for validation. Their row of `soft_labels_` is the prediction for them.
        ``skorch.helper.predefined_split(dataset)`` judges by rows of another Dataset of pairs, with
        labels of y, such as clean ones.
    evidence : bool, default=True
        Whether to gather out-of-sample evidence first, which about doubles the time of a fit: two
        networks, each trained on half of the rows, predict the other half. It decides whether
        correcting labels helps: else the network is trained on the given labels alone, for the
        epochs that foretell held-out labels best; or, of wide tables, on labels that networks
        which have not seen them have judged, if that helps. It finds the warm-up where that is
        searched for, calibrates `predict_proba`, and lets `label_issues` rest on probabilities
        that have not seen the labels. False is the method as published, as are fits of fewer than
        50 rows, without trusted ones, or 4 epochs. Found: `evidence_`.
    calibrate : bool, default=True
        Whether `predict_proba` is calibrated by the evidence: its logits are divided by the
        temperature found. Predictions stay the same. Read when predicting.
    callbacks : None or list of skorch callbacks, default=None
        Used as they are, as in skorch, and with the given labels' class numbers as y; where a
        callback fits another estimator that has it as well, that fit copies it. Their parameters as
        ``callbacks__<name>__*``. They run in the fit itself, not in that of `evidence`.
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
    distributed : bool, 'exact' or timedelta, default=False
        Whether to share the fit with the other processes of a torch.distributed process group, as
        torchrun starts them: each passes its part of every batch of `batch_size` rows through the
        network. All get the same data and parameters, and all end with the same fit; predictions
        are each process's own. BatchNorm normalizes by the part, or if 'exact' by the whole batch,
        which takes messages a layer. A timedelta is how long to wait for another process, else 10
        minutes. Where one fails, all raise.
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
        The refined labels: rows in the order of X, columns in the order of `classes_`, each row a
        distribution; generated ones are what the label network makes of the features. What training
        used and brought about itself; `corrected_labels_` rest on predictions that have not seen
        the labels. Rows that `trusted` marks keep their label, unless `trusted_weight` is 0 or
        `train_split` holds them out.
    label_net_ : nn.Linear or None
        The label network, from features to logits; None if training ended in the warm-up.
    hypergradient_ : str or None
        How the virtual step was differentiated; None if there was none, as without trusted rows.
    best_epoch_ : int
        The epoch whose weights are kept, counted from 1: the last one, or with `restore_best` the
        best.
    n_meta_ : int
        Number of trusted rows, and of those that stand in for them where labels are generated.
    n_features_in_ : int
        Number of features seen in `fit`, ``X.shape[1]``; not there after a fit on a Dataset.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, if X had names that are all strings.
    n_iter_ : int
        Number of epochs run.
    warmup_epochs_ : int
        Epochs of the warm-up.
    momentum_ : float
        Weight of the old soft label at each update.
    evidence_ : Evidence or None
        What held-out rows tell of the labels and of correcting them; ``print`` it. None without
        `evidence`. See `sknoisy.training.evidence.Evidence`.
    given_labels_ : ndarray of shape (n_samples,)
        The labels of `fit`; of `label_proba` alone, the most probable ones.
    corrected_labels_ : ndarray of shape (n_samples,)
        The labels of `fit`; where there is a label issue, the most probable one in view of both,
        prediction and given label.
    net_ : skorch.NeuralNet
        The fitted net; its criterion holds the soft labels.
    module_ : nn.Module
        The trained network, in evaluation mode; it returns logits, which `predict_proba` divides by
        the temperature of `evidence_`.
    history_ : skorch.history.History
        Loss and duration of each epoch, ``meta_accuracy`` and ``meta_loss`` on the trusted rows;
        with `train_split` also ``valid_acc`` and ``valid_loss`` of the held-out rows' given labels.
        That is at the temperature that suits it best: so epochs compare, before labels are
        corrected and after.

    Notes
    -----
    The authors' procedure for CIFAR-10: ``MetaLabelNetClassifier(module, warmup_epochs=44,
    max_epochs=120, labels='generated', meta_lr=1e-2, meta_every=1, virtual_lr=1.0,
    entropy_weight=1.0, meta_batch_size=128, trusted_weight=0.0, reduction='mean',
    restore_best=True, class_prior='trusted', evidence=False, optimizer=torch.optim.SGD, lr=1e-2,
    optimizer__momentum=0.9, optimizer__weight_decay=1e-4, batch_size=128,
    callbacks=[LRScheduler(MultiStepLR, milestones=[41, 81], gamma=0.1)])``, with skorch's
    LRScheduler and torch's scheduler, and 5,000 trusted images.

    References
    ----------
    G. Algan, I. Ulusoy, "MetaLabelNet: Learning to Generate Soft-Labels from Noisy-Labels",
    IEEE TIP 31, 2022, arXiv 2103.10869. Refined labels are those of W. Zhang et al., "Efficient
    Adaptive Label Refinement for Label Noise Learning", arXiv 2502.00386, 2025; that the label
    network corrects them, the direct use of trusted rows, the automatic values and the forward-mode
    hypergradient are this library's.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from sknoisy import MetaLabelNetClassifier
    >>> X, y = make_classification(200, flip_y=0.2, random_state=0)
    >>> clf = MetaLabelNetClassifier(max_epochs=20, random_state=0)
    >>> clf.fit(X[40:], y[40:], meta_X=X[:40], meta_y=y[:40]).soft_labels_.shape
    (160, 2)
    """

    # Whoever passes the mask to a search means it for fit; for score it has to be requested.
    __metadata_request__score: ClassVar = {"trusted": False}

    def __init__(
        self,
        module=None,
        *,
        warmup_epochs="auto",
        momentum="auto",
        labels="refined",
        meta_lr=0.001,
        meta_every=2,
        virtual_lr="auto",
        entropy_weight=0.5,
        meta_batch_size="auto",
        trusted_weight=0.5,
        reduction="batchmean",
        hypergradient="auto",
        feature_layer=None,
        restore_best=False,
        class_prior="estimated",
        class_weight=None,
        optimizer=torch.optim.AdamW,
        lr=0.001,
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
        distributed=False,
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
            distributed=distributed,
            verbose=verbose,
            random_state=random_state,
            checkpoint_dir=checkpoint_dir,
            skorch_params=skorch_params,
        )
        self.warmup_epochs = warmup_epochs
        self.momentum = momentum
        self.labels = labels
        self.meta_lr = meta_lr
        self.meta_every = meta_every
        self.virtual_lr = virtual_lr
        self.entropy_weight = entropy_weight
        self.meta_batch_size = meta_batch_size
        self.trusted_weight = trusted_weight
        self.reduction = reduction
        self.hypergradient = hypergradient
        self.feature_layer = feature_layer
        self.restore_best = restore_best
        self.class_prior = class_prior

    @answers(OF_FIT)
    def fit(
        self,
        X,
        y=None,
        sample_weight=None,
        *,
        label_proba=None,
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
            NaN in every column: whatever y says of it, it joins after the warm-up, as rows of
            `unlabeled_X` do, and its soft label becomes the network's prediction. See
            `sknoisy.crowd`.
        meta_X : array-like of shape (n_meta, ...), or a 1-tuple of one, default=None
            Trusted rows, like rows of X, or a Dataset of them. scikit-learn's cross-validation
            slices an array that is as long as X to each fold, but never a 1-tuple: ``meta_X=(M,)``.
        meta_y : array-like of shape (n_meta,), or a 1-tuple of one, default=None
            Their labels, all of them in y; None takes those of a Dataset, named as those of X are.
        trusted : array-like of bool of shape (n_samples,), default=None
            Instead of meta_X and meta_y: the rows of X whose label is right. Those of weight 0 do
            not count.
        unlabeled_X : array-like of shape (n_unlabeled, ...), or a 1-tuple of one, default=None
            Rows without a label, or a Dataset of them; they join after the warm-up.

        Returns
        -------
        self : object
            The fitted estimator. Classes without trusted rows are named in a warning: their labels
            are corrected as far as predictions can; of generated labels, rows of lowest loss after
            the warm-up stand in for trusted ones. If a call raises, an earlier fit stays as it was.
        """
        if trusted is None and str(getattr(sample_weight, "dtype", "")) == "bool":
            raise TypeError(
                "sample_weight must hold numbers, got booleans; of a mask of trusted rows pass"
                " trusted=mask, else sample_weight.astype(float)."
            )
        check_order("trusted", trusted, "X", X)
        check_order("meta_y", meta_y, "meta_X", meta_X)
        return self._fit(
            X,
            y,
            sample_weight,
            label_proba=label_proba,
            meta_X=meta_X,
            meta_y=meta_y,
            trusted=trusted,
            unlabeled_X=unlabeled_X,
        )

    def score(self, X, y=None, sample_weight=None, *, trusted=None):
        """Return the accuracy on X and y, or on those rows that are trusted.

        Parameters
        ----------
        X, y, sample_weight
            As in `sklearn.base.ClassifierMixin.score`; y None takes a Dataset's labels.
        trusted : array-like of bool of shape (n_samples,), default=None
            The rows whose label is right: noisy ones reward a model that repeats their mistakes.
            With ``set_score_request(trusted=True)`` a search chooses by these rows alone.
        """
        if trusted is not None:
            n_samples = X.shape[0] if hasattr(X, "shape") else len(X)
            rows = check_mask(trusted, n_samples)
            if not len(rows):
                raise ValueError(
                    "trusted must be True for at least one row to score, got none; in a search pass"
                    " cv=StratifiedKFold(shuffle=True), so that every fold has some."
                )
            is_trusted = np.asarray(trusted, dtype=float)
            sample_weight = is_trusted if sample_weight is None else is_trusted * sample_weight
        return super().score(X, y, sample_weight)

    @property
    def label_net_(self):
        """The label network, from features to logits of labels."""
        return self._labels.label_net_

    @property
    def momentum_(self):
        """Weight of the old soft label at each update."""
        return self._labels.momentum

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

    def _check_params(self):
        check_number(self.warmup_epochs, "warmup_epochs", Integral, 1, auto=True)
        check_number(self.momentum, "momentum", Real, 0, 1, auto=True)
        check_choice(self.labels, "labels", ("refined", "generated"))
        check_number(self.meta_lr, "meta_lr", Real, 0)
        check_number(self.meta_every, "meta_every", Integral, 1)
        check_number(self.virtual_lr, "virtual_lr", Real, 0, auto=True)
        check_number(self.entropy_weight, "entropy_weight", Real, 0)
        check_number(self.meta_batch_size, "meta_batch_size", Integral, 1, auto=True)
        check_number(self.trusted_weight, "trusted_weight", Real, 0)
        check_choice(self.reduction, "reduction", ("batchmean", "mean"))
        check_choice(self.class_prior, "class_prior", ("estimated", "trusted"))
        check_choice(self.hypergradient, "hypergradient", ("auto", *METHODS))

    def _read_fit_params(self, data, row_format, *, meta_X, meta_y, trusted, unlabeled_X):
        X, labels, rows = data.X, data.labels, None
        warn_if_cut(meta_X, len(labels))
        if trusted is not None:
            if meta_X is not None or meta_y is not None:
                raise ValueError("trusted must not be given together with meta_X and meta_y.")
            indices = check_mask(trusted, len(labels))
            if data.label_proba is not None:
                check_labeled(indices, data.label_proba)
            if data.sample_weights is not None:  # rows of weight 0 teach nothing
                indices = indices[(data.sample_weights[indices] > 0).numpy()]
            rows = TrustedRows(take_rows(X, indices), labels[indices], indices)
        elif meta_X is not None or meta_y is not None:
            rows = read_trusted(self, unpack(meta_X), unpack(meta_y), data.classes, row_format)
        warn_of_classes(labels[:0] if rows is None else rows.labels, data.classes)
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
        if rows is None or not len(rows.labels):
            return replace(data, X=X)
        extra = {"trusted rows": [rows.X, rows.labels], "trusted mask": [rows.indices]}
        return replace(data, X=X, extra=extra)

    _new_label_callback = staticmethod(CorrectLabels)
    _reads_sparse_batches = False  # the hypergradient needs formulas that sparse products lack

    def _label_callback(self, search, data):
        trusted = None
        if data.extra:
            trusted = TrustedRows(*data.extra["trusted rows"], *data.extra["trusted mask"])
        meta_batch_size = self.meta_batch_size
        if meta_batch_size == "auto":
            meta_batch_size = auto_meta_batch_size(self.batch_size)
        # Fewer teach little: labels are refined until they settle, as by ALRClassifier.
        has_few = trusted is None or len(trusted.labels) < meta_batch_size
        settles = has_few and self.labels == "refined" and self.momentum != 1
        warmup = search.warmup_epochs(self.warmup_epochs, until_settled=settles)
        if search.max_epochs <= warmup:
            warn(
                f"max_epochs must exceed warmup_epochs for any label to be corrected, got"
                f" max_epochs={search.max_epochs} and warmup_epochs={warmup}.",
            )
        least, settles_after = search.refined_epochs(warmup)
        momentum = self.momentum
        if self.labels == "generated":  # they keep nothing of the old ones
            momentum = 0.0
        elif momentum == "auto":
            momentum = auto_momentum(least)
        virtual_lr = self.virtual_lr
        if virtual_lr == "auto":
            given = {
                name.removeprefix("optimizer__"): value
                for name, value in self.skorch_params.items()
                if name.startswith("optimizer__")
            }
            virtual_lr = auto_virtual_lr(self.optimizer, self.lr, given)
        return CorrectLabels(
            trusted=trusted,
            momentum=momentum,
            entropy_weight=self.entropy_weight,
            warmup_epochs=warmup,
            settles_after=settles_after if settles else None,
            labels=self.labels,
            meta_lr=self.meta_lr,
            meta_every=self.meta_every,
            virtual_lr=virtual_lr,
            meta_batch_size=meta_batch_size,
            trusted_weight=self.trusted_weight,
            reduction=self.reduction,
            feature_layer=self.feature_layer,
            restore_best=self.restore_best,
            class_prior=self.class_prior,
            hypergradient=self.hypergradient,
        )
