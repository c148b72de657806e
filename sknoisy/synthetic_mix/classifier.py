"""Synthetic samples with soft labels, mixed from nearest neighbors.

Source: Y. Lu, W. He, "Mitigating Noisy Supervision Using Synthetic Samples with Soft Labels",
arXiv 2406.16966, 2024, and the authors' published code.
"""

from numbers import Integral, Real

import torch

from sknoisy.base import NoisyLabelClassifier, read_only
from sknoisy.neighbor_noise import highest_noise_rate
from sknoisy.parameters import check_choice, check_number
from sknoisy.synthetic_mix.callback import MixNeighbors
from sknoisy.synthetic_mix.schedule import auto_schedule, warn_if_idle


class SyntheticMixClassifier(NoisyLabelClassifier):
    """Classifier that trains on mixtures of neighbors, weighted by how clean their labels are.

    A warm-up on the given labels; random mixup; then each row is mixed with its nearest neighbors
    in feature space, with weights from a two-component mixture model of the losses, and every few
    epochs the soft labels move towards the predictions; at last fine-tuning on the rows themselves
    with their soft labels. No trusted data, no noise rate. Features are mixed as numbers: encode
    categories as one-hot columns, not as integers. Rare classes are learned late, so that their
    losses resemble noise: where they matter, prefer a short run of `ALRClassifier`.

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
    n_neighbors : 'auto' or int >= 1, default='auto'
        Neighbors that a row is mixed with ("K"), itself not counted; the authors take 1. 'auto' is
        3 for more than five well-separated classes, else 1: when mixing begins, at least 80 % of
        the 3 nearest neighbors have the row's predicted class. Found: `n_neighbors_`.
    warmup_epochs : 'auto' or int >= 0, default='auto'
        Epochs on the given labels. 'auto' picks the epoch of lowest loss on rows held out, whose
        labels are as noisy: of the networks of `evidence`, or without it of one trained on 90 % of
        the rows. At most half of `max_epochs`, or 100. Found: `warmup_epochs_`.
    mix_start : 'auto' or int >= 1, default='auto'
        The first epoch of neighbor mixing, counted from 1; random mixup fills the epochs from the
        warm-up to it. 'auto' is a tenth of `max_epochs`, after the warm-up and an epoch of mixup.
    mix_end : 'auto' or int >= 1, default='auto'
        The last epoch of neighbor mixing and of updates; a fine-tuning phase without mixing
        follows. 'auto' is four fifths of `max_epochs`, or the end of 10 updates if that is later;
        a short fit mixes to its end, as the authors do, and as does any number of `max_epochs` or
        more.
    max_noise_rate : 'auto' or float in [0, 1], default='auto'
        Upper bound of the fraction of wrong labels. When mixing ends, that many rows, those whose
        given label is least probable, keep their soft label; the others revert to the given one.
        'auto' is the label disagreement of nearest neighbors in input space: see
        `sknoisy.neighbor_noise.highest_noise_rate`. Errors that neighbors have in common make it
        too low: where labels come from rules, or are wrong by regions, pass 1, which reverts
        nothing, as the authors have it. Found: `max_noise_rate_`.
    target_momentum : float in [0, 1], default=0.9
        Weight of the old soft label at each update ("m").
    target_update_every : 'auto' or int >= 1, default='auto'
        Epochs between updates of the soft labels, from `mix_start` to `mix_end`. 'auto' gives
        about 18 updates.
    mixup_alpha : float >= 0, default=1.0
        Weights of random mixup are drawn from Beta(alpha, alpha); 0 leaves random mixup out.
    mixup_loss : {'linear', 'ce'}, default='linear'
        Loss of the random mixup phase: minus the probability of the label, which is robust to
        symmetric noise, or cross-entropy.
    loss_history : int >= 1, default=1
        Evaluation passes whose losses are averaged before the mixture is fitted; 5 for extreme
        noise.
    feature_layer : None or str, default=None
        Name of the layer whose input is the features; None takes the last nn.Linear.
    neighbors : {'batch', 'all'}, default='batch'
        Where neighbors are searched. In a batch of B rows a row has about (B - 1) / n_classes
        mates of its class: with many classes search 'all' rows, by the features of the evaluation
        pass; faiss is used for it on the CPU where it is installed.
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
        The corrected labels: rows in the order of X, columns in the order of `classes_`, each row
        a distribution.
    clean_probability_ : ndarray of shape (n_samples,)
        By the losses at the start of the last epoch of mixing, the probability that the class
        of largest soft label is right ("w"); with rows held out, by their losses at
        the end.
    n_neighbors_ : int or None
        Neighbors that a row was mixed with; None if training ended before 'auto' chose.
    max_noise_rate_ : float
        The `max_noise_rate` that was used: as given, or as found.
    n_features_in_ : int
        Number of features seen in `fit`, ``X.shape[1]``; not there after a fit on a Dataset.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, if X had names that are all strings.
    n_iter_ : int
        Number of epochs run.
    warmup_epochs_ : int
        Epochs of the warm-up.
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

    Notes
    -----
    The authors' setting, for images: ``SyntheticMixClassifier(module, n_neighbors=1,
    warmup_epochs=9, mix_start=60, mix_end=300, max_epochs=300, max_noise_rate=1.0,
    target_momentum=0.9, target_update_every=10, mixup_alpha=1.0, mixup_loss='linear',
    optimizer=torch.optim.SGD, lr=0.02, optimizer__momentum=0.9, optimizer__weight_decay=1e-3,
    batch_size=128, callbacks=[LRScheduler(CosineAnnealingWarmRestarts, T_0=10,
    eta_min=1e-3)])``, with skorch's LRScheduler and torch's scheduler. Their code draws its
    warm-up batches in order and reports the best epoch on the test set; this library shuffles
    always and keeps the last epoch.

    An epoch of mixing costs about 1.67 times one of cross-entropy: a forward pass to judge the
    rows and one for the neighbors' features.

    References
    ----------
    Y. Lu, W. He, "Mitigating Noisy Supervision Using Synthetic Samples with Soft Labels",
    arXiv 2406.16966, 2024. The automatic choices are this library's.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from sknoisy import SyntheticMixClassifier
    >>> X, y = make_classification(200, flip_y=0.2, random_state=0)
    >>> clf = SyntheticMixClassifier(max_epochs=20, random_state=0).fit(X, y)
    >>> clf.clean_probability_.shape
    (200,)
    """

    def __init__(
        self,
        module=None,
        *,
        n_neighbors="auto",
        warmup_epochs="auto",
        mix_start="auto",
        mix_end="auto",
        max_noise_rate="auto",
        target_momentum=0.9,
        target_update_every="auto",
        mixup_alpha=1.0,
        mixup_loss="linear",
        loss_history=1,
        feature_layer=None,
        neighbors="batch",
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
        self.n_neighbors = n_neighbors
        self.warmup_epochs = warmup_epochs
        self.mix_start = mix_start
        self.mix_end = mix_end
        self.max_noise_rate = max_noise_rate
        self.target_momentum = target_momentum
        self.target_update_every = target_update_every
        self.mixup_alpha = mixup_alpha
        self.mixup_loss = mixup_loss
        self.loss_history = loss_history
        self.feature_layer = feature_layer
        self.neighbors = neighbors

    @property
    def clean_probability_(self):
        """Probability that the class of largest soft label is right, for each row."""
        return read_only(self._fitted_net().criterion_.clean_probability)

    @property
    def n_neighbors_(self):
        """Number of neighbors that a row was mixed with."""
        return self._labels.n_neighbors_

    @property
    def max_noise_rate_(self):
        """The `max_noise_rate` that fit used: as given, or as found."""
        return self._labels.max_noise_rate

    def _check_params(self):
        check_number(self.n_neighbors, "n_neighbors", Integral, 1, auto=True)
        check_number(self.warmup_epochs, "warmup_epochs", Integral, 0, auto=True)
        check_number(self.mix_start, "mix_start", Integral, 1, auto=True)
        check_number(self.mix_end, "mix_end", Integral, 1, auto=True)
        if "auto" not in (self.mix_start, self.mix_end) and self.mix_end < self.mix_start:
            raise ValueError(
                f"mix_end must be at least mix_start, got mix_end={self.mix_end} and"
                f" mix_start={self.mix_start}; raise mix_end."
            )
        check_number(self.max_noise_rate, "max_noise_rate", Real, 0, 1, auto=True)
        check_number(self.target_momentum, "target_momentum", Real, 0, 1)
        check_number(self.target_update_every, "target_update_every", Integral, 1, auto=True)
        check_number(self.mixup_alpha, "mixup_alpha", Real, 0)
        check_number(self.loss_history, "loss_history", Integral, 1)
        check_choice(self.mixup_loss, "mixup_loss", ("linear", "ce"))
        check_choice(self.neighbors, "neighbors", ("batch", "all"))

    _new_label_callback = staticmethod(MixNeighbors)

    def _label_callback(self, search, data):
        warmup = search.warmup_epochs(self.warmup_epochs)
        schedule = auto_schedule(
            warmup, search.max_epochs, self.mix_start, self.mix_end, self.target_update_every
        )
        max_noise_rate = self.max_noise_rate
        if max_noise_rate == "auto":
            ranks, max_noise_rate = search.recipe.ranks, None
            if ranks.rank == 0:
                max_noise_rate = highest_noise_rate(data.X, data.labels, data.sample_weights)
            max_noise_rate = ranks.first(max_noise_rate)
        warn_if_idle(search.max_epochs, schedule, self.target_momentum)
        return MixNeighbors(
            n_neighbors=self.n_neighbors,
            warmup_epochs=warmup,
            mix_start=schedule.start,
            mix_end=schedule.end,
            max_noise_rate=max_noise_rate,
            target_momentum=self.target_momentum,
            target_update_every=schedule.every,
            mixup_alpha=self.mixup_alpha,
            mixup_loss=self.mixup_loss,
            loss_history=self.loss_history,
            feature_layer=self.feature_layer,
            neighbors=self.neighbors,
        )
