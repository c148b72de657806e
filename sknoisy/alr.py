"""Adaptive label refinement (ALR).

Source: W. Zhang, D. Cheng, G. Lu, B. Zhou, J. Li, S. Zhang, "Efficient Adaptive Label Refinement
for Label Noise Learning", arXiv 2502.00386, 2025.
"""

from numbers import Integral, Real

import torch

from sknoisy.base import NoisyLabelClassifier
from sknoisy.parameters import check_number
from sknoisy.training.refine_labels import RefineLabels, auto_momentum
from sknoisy.user_warnings import warn


class ALRClassifier(NoisyLabelClassifier):
    """Classifier that refines its own training labels by what it has learned.

    After a short warm-up on the given labels, the soft label of each row moves a little towards
    the network's prediction at every epoch, and an entropy term hardens the confident ones. One
    network, no trusted data, no noise rate. Predictions correct labels without what `class_weight`
    did to them, and leave no class rarer than `evidence_` estimates it.

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
    momentum : 'auto' or float in [0, 1], default='auto'
        Weight of the old soft label at each update ("m"). After k epochs the given label has weight
        ``momentum ** k``; at 1 it never changes. 'auto' is 0.9, or less, down to 0.7, where the
        fewest epochs after the warm-up do not hold five half-lives. Found: `momentum_`.
    entropy_weight : float >= 0, default=0.5
        Weight of the prediction's entropy in the loss ("lambda"). With 0 and momentum 1 training
        is ordinary cross-entropy, and `max_epochs` 'auto' twice what would follow a warm-up. Large
        values suppress rare classes.
    warmup_epochs : 'auto' or int >= 0, default='auto'
        Epochs on the given labels before the first update. 'auto' picks the epoch of lowest
        loss on rows held out, whose labels are as noisy: of the networks of `evidence`, or without
        it of one trained on 90 % of the rows. At most half of `max_epochs`, or 100. Found:
        `warmup_epochs_`.
    class_weight : None, 'balanced' or dict, default=None
        What the loss of rows is multiplied by, by their given label: ``{label: weight}``, or
        inversely to the labels' counts.
    optimizer : class, default=torch.optim.AdamW
        A torch optimizer; its parameters as ``optimizer__*``.
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
        The refined labels: rows in the order of X, columns in the order of `classes_`, each row
        a distribution. What training used and brought about itself; `corrected_labels_` rest on
        predictions that have not seen the labels.
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
        Loss and duration of each epoch; with `train_split` also ``valid_acc`` and ``valid_loss`` of
        the held-out rows' given labels. That is at the temperature that suits it best: so epochs
        compare, before labels are corrected and after.

    References
    ----------
    W. Zhang et al., "Efficient Adaptive Label Refinement for Label Noise Learning",
    arXiv 2502.00386, 2025. Momentum, entropy weight and warm-up are this library's choices.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from sknoisy import ALRClassifier
    >>> X, y = make_classification(200, flip_y=0.2, random_state=0)
    >>> clf = ALRClassifier(max_epochs=20, random_state=0).fit(X, y)
    >>> clf.soft_labels_.shape
    (200, 2)
    """

    def __init__(
        self,
        module=None,
        *,
        momentum="auto",
        entropy_weight=0.5,
        warmup_epochs="auto",
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
        self.momentum = momentum
        self.entropy_weight = entropy_weight
        self.warmup_epochs = warmup_epochs

    @property
    def momentum_(self):
        """Weight of the old soft label at each update."""
        return self._labels.momentum

    def _check_params(self):
        check_number(self.momentum, "momentum", Real, 0, 1, auto=True)
        check_number(self.entropy_weight, "entropy_weight", Real, 0)
        check_number(self.warmup_epochs, "warmup_epochs", Integral, 0, auto=True)

    _new_label_callback = staticmethod(RefineLabels)

    def _label_callback(self, search, data):
        is_plain = self.momentum == 1 and self.entropy_weight == 0  # the phases are the same
        if is_plain and self.warmup_epochs == "auto":
            warmup = 1
        else:
            moves = self.momentum != 1
            warmup = search.warmup_epochs(self.warmup_epochs, until_settled=moves)
        if search.max_epochs <= warmup:
            warn(
                f"max_epochs must exceed warmup_epochs for any label to be refined, got"
                f" max_epochs={search.max_epochs} and warmup_epochs={warmup}.",
            )
        least, settles_after = search.refined_epochs(warmup)
        momentum = auto_momentum(least) if self.momentum == "auto" else self.momentum
        return RefineLabels(momentum, self.entropy_weight, warmup, settles_after)
