"""Synthetic samples with soft labels, mixed from nearest neighbours.

Source: Y. Lu, W. He, "Mitigating Noisy Supervision Using Synthetic Samples with Soft Labels",
arXiv 2406.16966, 2024, and the authors' published code.
"""

import warnings
from collections import deque
from numbers import Integral, Real

import torch
from sklearn import config_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from skorch.utils import to_device
from torch import Tensor

from sknoisy.base import NoisyLabelClassifier, check_choice, check_number, read_only
from sknoisy.features import find_feature_layer, no_trace, pass_through, plain
from sknoisy.functional import at_least_float32, blend, soft_cross_entropy, weighted_mean
from sknoisy.neighbors import nearest, nearest_in_set
from sknoisy.net import as_inputs, as_training_inputs
from sknoisy.targets import LabelCallback

EPSILON = 1e-10
AGREEMENT = 0.78
AGREEMENT_BATCHES = 10  # of rows that are asked
MIXTURE_ROWS = 10_000  # more losses tell the two Gaussians no better, and the fit takes longer


def linear_loss(logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Minus the mean probability given to the targets (B, C): bounded, so robust to noise."""
    p = at_least_float32(logits).softmax(dim=1)
    return weighted_mean(-(targets * p).sum(dim=1), weights)


def label_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy (B,) of each row against the class that its soft label (B, C) favours."""
    return torch.nn.functional.cross_entropy(
        at_least_float32(logits), targets.argmax(dim=1), reduction="none"
    )


def scale_to_unit(losses: Tensor, counted: Tensor | slice = slice(None)) -> Tensor:
    """Scale losses (n,) to [0, 1] by the range of the counted ones; zeros without finite range."""
    low, high = losses[counted].min(), losses[counted].max()
    if not (torch.isfinite(low) and torch.isfinite(high)) or low == high:
        return torch.zeros_like(losses)
    return ((losses - low) / (high - low)).clamp(0, 1)


def clean_probability(scaled_losses: Tensor, counted: Tensor | slice = slice(None)) -> Tensor:
    """Posterior (n,) that a row belongs to the lower-loss part of a two-Gaussian mixture.

    The mixture is fitted to the counted rows. Equal losses say nothing: every row is clean then.
    """
    of_counted = scaled_losses[counted]
    if of_counted.min() == of_counted.max():
        return torch.ones_like(scaled_losses)
    mixture = GaussianMixture(2, max_iter=10, tol=1e-2, reg_covar=5e-4, random_state=0)
    column = scaled_losses.double().numpy(force=True)[:, None]
    fitted = of_counted.double().numpy(force=True)[:, None]
    # k-means, which the mixture starts from, refuses scikit-learn's array API dispatch.
    quiet = warnings.catch_warnings(action="ignore", category=ConvergenceWarning)
    with quiet, config_context(array_api_dispatch=False):
        every = -(-len(fitted) // MIXTURE_ROWS)
        posterior = mixture.fit(fitted[::every]).predict_proba(column)
    clean = posterior[:, mixture.means_[:, 0].argmin()]
    return torch.from_numpy(clean).to(scaled_losses)


def mixing_weights(clean: Tensor, neighbors_clean: Tensor) -> Tensor:
    """Weights (B, 1 + K) of each row and its neighbours in the mixed sample; rows sum to 1.

    lambda = (w + eps) / (w + sum_k w_k + eps) and beta_k = w_k / (w + sum_k w_k + eps), from the
    clean probabilities w (B,) of the rows and w_k (B, K) of their neighbours.
    """
    shares = torch.cat([clean[:, None] + EPSILON, neighbors_clean], dim=1)
    return shares / shares.sum(dim=1, keepdim=True)


def mixing_matrix(weights: Tensor, positions: Tensor, n_columns: int) -> Tensor:
    """Matrix (B, n_columns) that mixes: weight j of row i stands in column positions[i, j]."""
    matrix = weights.new_zeros(len(weights), n_columns)
    return matrix.scatter_add_(1, positions, weights)


def mixup_matrix(share: Tensor, partners: Tensor) -> Tensor:
    """Matrix (B, B) of mixup: `share` of each row and the rest of its partner (B,)."""
    matrix = torch.eye(len(partners), device=partners.device)
    return share * matrix + (1 - share) * matrix[partners]


def weigh(matrix: Tensor, weights: Tensor) -> Tensor:
    """Scale the shares (B, M) in a mixture by the weights (M,) of the rows; rows sum to 1.

    A mixture of rows that all weigh nothing stays as it is: its loss weighs nothing either.
    """
    weighed = matrix * weights.to(matrix.dtype)
    total = weighed.sum(dim=1, keepdim=True)
    return torch.where(total > 0, weighed / total.where(total > 0, 1), matrix)


def mix(matrix: Tensor, X: Tensor) -> Tensor:
    """Rows (B, ...) mixed from the rows of X (M, ...) by the matrix (B, M)."""
    mixed = matrix @ X.flatten(start_dim=1).to(matrix.dtype)
    return mixed.to(X.dtype).unflatten(1, X.shape[1:])


def auto_neighbors(n_classes: int, agreement: float) -> int:
    """Return 3 neighbours for more than 5 classes that lie apart, else 1.

    They lie apart where the network predicts the same class for at least `AGREEMENT` of the rows
    and their nearest neighbours. More neighbours say more about noise, if they are of one class.
    """
    return 3 if n_classes > 5 and agreement >= AGREEMENT else 1


def auto_schedule(warmup: int, max_epochs: int, start="auto", every="auto") -> tuple[int, int]:
    """Return the start of mixing and the update interval, in epochs, after the warm-up's end."""
    if start == "auto":
        start = min(max(warmup + 1, round(max_epochs / 10)), max_epochs)
    if every == "auto":
        every = max(1, round((max_epochs - start + 1) / 18))
    return start, every


class MixNeighbors(LabelCallback):
    """Train on mixtures of neighbours, weighted by how clean their labels look.

    For use in a skorch net whose criterion is a `SoftTargetLoss` and whose y are row numbers.
    Parameters as in `SyntheticMixClassifier`, each but `n_neighbors` a number.
    """

    def __init__(
        self,
        n_neighbors="auto",
        warmup_epochs=3,
        mix_start=10,
        target_momentum=0.9,
        target_update_every=5,
        mixup_alpha=1.0,
        mixup_loss="linear",
        loss_history=1,
        feature_layer=None,
        neighbors="batch",
    ):
        self.n_neighbors = n_neighbors
        self.warmup_epochs = warmup_epochs
        self.mix_start = mix_start
        self.target_momentum = target_momentum
        self.target_update_every = target_update_every
        self.mixup_alpha = mixup_alpha
        self.mixup_loss = mixup_loss
        self.loss_history = loss_history
        self.feature_layer = feature_layer
        self.neighbors = neighbors

    def phase(self, epoch):
        """Return 'warmup', 'mixup' or 'mix', for epochs counted from 1."""
        if epoch >= self.mix_start:
            return "mix"
        return "mixup" if epoch >= self.warmup_epochs and self.mixup_alpha else "warmup"

    def updates_targets(self, epoch):
        """Tell whether the soft labels are corrected in this epoch."""
        return epoch >= self.mix_start and (epoch - self.mix_start) % self.target_update_every == 0

    def loss_at(self, epoch):
        """Cross-entropy, but the linear loss in a linear mixup phase."""
        is_linear = self.phase(epoch) == "mixup" and self.mixup_loss == "linear"
        return linear_loss if is_linear else soft_cross_entropy

    def on_train_begin(self, net, **kwargs):
        """Give the criterion the clean probabilities, 1 until the first evaluation pass."""
        super().on_train_begin(net, **kwargs)
        table = net.criterion_.targets
        net.criterion_.register_buffer("clean_probability", table.new_ones(len(table)))
        self.layer_ = find_feature_layer(plain(net.module_), self.feature_layer)
        self.losses_ = deque(maxlen=self.loss_history)
        self.n_neighbors_ = None if self.n_neighbors == "auto" else self.n_neighbors

    def checkpoint_state(self):
        """Return the losses of the last passes, and the number of neighbours."""
        return {"losses": list(self.losses_), "n_neighbors": self.n_neighbors_}

    def restore(self, net, state, dataset_train, dataset_valid):
        """Go on with the losses of the last passes."""
        super().restore(net, state, dataset_train, dataset_valid)
        self.losses_.extend(losses.to(net.device) for losses in state["losses"])
        self.n_neighbors_ = state["n_neighbors"]
        self.data_ = getattr(dataset_train, "dataset", dataset_train)

    def on_epoch_begin(self, net, dataset_train=None, **kwargs):
        """Judge the training rows, and find their neighbours in the whole set."""
        super().on_epoch_begin(net, **kwargs)
        self.data_ = getattr(dataset_train, "dataset", dataset_train)  # a Subset's whole set
        epoch = len(net.history)
        if self.n_neighbors_ is None and self.phase(epoch) == "mix":
            n_classes = net.criterion_.targets.shape[1]
            self.n_neighbors_ = auto_neighbors(n_classes, self.agreement(net, dataset_train))
        if epoch < self.warmup_epochs or epoch <= self.mix_start - self.loss_history:
            return  # nobody would read this pass
        rows, features = self.judge(net, dataset_train)
        if self.neighbors == "all" and self.phase(epoch) == "mix":
            found = rows[nearest_in_set(features, self.n_neighbors_)]  # (n, K)
            self.neighbors_ = found.new_zeros(len(self.data_), found.shape[1])
            self.neighbors_[rows] = found

    @torch.no_grad()
    def agreement(self, net, dataset) -> float:
        """Return the share of rows whose nearest neighbour in a batch is predicted as they are."""
        generator = torch.Generator().manual_seed(0)  # leaves the fit's own draws as they are
        rows = torch.randperm(len(dataset), generator=generator)
        rows = rows[: AGREEMENT_BATCHES * self.batch_rows(net, dataset)]
        net.module_.eval()
        agree = []
        for numbers in rows.split(self.batch_rows(net, dataset)):
            X, _ = dataset.__getitems__(numbers.tolist())
            logits, features = pass_through(net, X, self.layer_)
            predicted = logits.argmax(dim=1)
            if len(numbers) > 1:
                agree.append(predicted == predicted[nearest(features, 1)[:, 0]])
        return torch.cat(agree).float().mean().item() if agree else 0.0

    @staticmethod
    def batch_rows(net, dataset):
        """Return the rows of a training batch."""
        return net.batch_size if net.batch_size > 0 else len(dataset)

    @torch.no_grad()
    def judge(self, net, dataset):
        """Write the clean probabilities of a dataset's rows; return its rows and features."""
        criterion, features = net.criterion_, None
        size = len(dataset)
        rows = torch.empty(size, dtype=torch.int64, device=net.device)
        losses = criterion.targets.new_empty(size)
        net.module_.eval()
        done = 0
        for X, numbers in net.get_iterator(dataset, training=False):
            batch = slice(done, done + len(numbers))
            rows[batch] = to_device(numbers, net.device)
            logits, found = pass_through(net, X, self.layer_)
            losses[batch] = label_losses(logits, criterion.targets[rows[batch]])
            if features is None:
                features = found.new_empty(size, found.shape[1] if self.neighbors == "all" else 0)
            features[batch] = found[:, : features.shape[1]]
            done = batch.stop
        scaled = torch.zeros_like(criterion.clean_probability)
        weights = criterion.weights_of(rows)
        counted = slice(None) if weights is None or not (weights > 0).any() else weights > 0
        scaled[rows] = scale_to_unit(losses, counted)
        self.losses_.append(scaled)
        mean_losses = sum(self.losses_)[rows] / len(self.losses_)
        criterion.clean_probability[rows] = clean_probability(mean_losses, counted)
        return rows, features

    @torch.no_grad()
    def on_batch_begin(self, net, batch, training=False, **kwargs):
        """Replace a training batch by its mixtures; the mixing plan travels in the place of y."""
        super().on_batch_begin(net, **kwargs)
        epoch = len(net.history)
        phase = self.phase(epoch)
        if not training or phase == "warmup":
            return
        X, rows = as_inputs(batch[0], net.device), to_device(batch[1], net.device)
        if phase == "mixup":
            share = torch.distributions.Beta(self.mixup_alpha, self.mixup_alpha).sample()
            matrix = mixup_matrix(share.to(X.device), torch.randperm(len(rows), device=X.device))
        else:
            X, rows, matrix = self.mix_with_neighbors(net, X, rows, self.updates_targets(epoch))
        weights = net.criterion_.weights_of(rows)
        if weights is not None:
            matrix = weigh(matrix, weights)
        batch[0], batch[1] = mix(matrix, X), [rows, matrix]

    def mix_with_neighbors(self, net, X, rows, update_targets):
        """Return inputs (M, ...), their rows (M,) and the matrix (B, M) that mixes them."""
        criterion, n_rows = net.criterion_, len(rows)
        if self.neighbors == "batch" or update_targets:
            module = plain(net.module_).train()
            with no_trace(module):
                logits, features = pass_through(net, X, self.layer_)
        if update_targets:
            predicted = at_least_float32(logits).softmax(dim=1)
            criterion.targets[rows] = blend(
                criterion.targets[rows], predicted, self.target_momentum
            )
        if self.neighbors == "batch":
            positions = nearest(features, self.n_neighbors_)
        else:
            others, positions = self.neighbors_[rows].unique(return_inverse=True)
            X = torch.cat([X, as_training_inputs(net, self.data_.__getitems__(others.cpu())[0])])
            rows, positions = torch.cat([rows, others]), positions + n_rows
        clean = criterion.clean_probability[rows]
        weights = mixing_weights(clean[:n_rows], clean[positions])
        own = torch.arange(n_rows, device=rows.device)[:, None]
        matrix = mixing_matrix(weights, torch.cat([own, positions], dim=1), len(rows))
        return X, rows, matrix

    def on_train_end(self, net, **kwargs):
        """Judge rows that no epoch has judged: held-out ones, or all if mixing never began."""
        if not self.losses_ or self.held_out_ is not None:
            self.losses_.clear()
            self.judge(net, self.data_)
        del self.layer_, self.losses_, self.data_
        vars(self).pop("neighbors_", None)
        super().on_train_end(net, **kwargs)


class SyntheticMixClassifier(NoisyLabelClassifier):
    """Classifier that trains on mixtures of neighbours, weighted by how clean their labels look.

    A warm-up on the given labels; random mixup; then each row is mixed with its nearest neighbours
    in feature space, in the shares that a two-component mixture of the losses gives them for
    clean, and now and then the soft labels move towards the predictions. No trusted data, no noise
    rate. Features are mixed as numbers: encode categories as one-hot columns, not as integers. Rare
    classes are learned late, so their losses look like noise: where they matter, prefer a short
    run of `ALRClassifier`.

    Parameters
    ----------
    module : None, str, nn.Module class, factory or instance, default=None
        Maps a batch to logits (B, n_classes). None builds `sknoisy.backbones.MLP`, or for images
        `sknoisy.images.SmallResNet`, sized from the data, which standardize their inputs. A name
        of a torchvision model, such as 'resnet18', builds that, pretrained with
        ``module__weights='DEFAULT'``. A class or factory gets the ``module__*`` parameters, and
        ``n_features`` and ``n_classes`` where it takes them; an instance is copied.
    n_neighbors : 'auto' or int >= 1, default='auto'
        Neighbours that a row is mixed with ("K"), itself not counted; the authors take 1. 'auto'
        is 3 for more than five classes that lie apart, else 1: when mixing begins, the network
        predicts the same class for at least 78 % of the rows and their nearest neighbours. Found:
        `n_neighbors_`.
    warmup_epochs : 'auto' or int >= 1, default='auto'
        The first epoch, counted from 1, after the warm-up: the epochs before it train on the given
        labels. 'auto' ends the warm-up where memorisation sets in: a net of its own, trained on
        nine tenths of the rows, tells after which epoch the loss on the others was lowest; at most
        half of all epochs. Found: `warmup_epochs_`.
    mix_start : 'auto' or int >= 1, default='auto'
        The first epoch of neighbour mixing; random mixup fills the epochs from `warmup_epochs` to
        it. 'auto' is a tenth of `max_epochs`, after the warm-up and an epoch of mixup.
    target_momentum : float in [0, 1], default=0.9
        Share of the old soft label kept at each update ("m").
    target_update_every : 'auto' or int >= 1, default='auto'
        Epochs between updates of the soft labels, from `mix_start` on. 'auto' gives about 18
        updates.
    mixup_alpha : float >= 0, default=1.0
        Shares of random mixup come from Beta(alpha, alpha); 0 leaves random mixup out.
    mixup_loss : {'linear', 'ce'}, default='linear'
        Loss of the random mixup phase: minus the probability of the label, which is robust to
        symmetric noise, or cross-entropy.
    loss_history : int >= 1, default=1
        Evaluation passes whose losses are averaged before the mixture is fitted; 5 for extreme
        noise.
    feature_layer : None or str, default=None
        Name of the layer whose input is the features; None takes the last nn.Linear.
    neighbors : {'batch', 'all'}, default='batch'
        Where neighbours are looked for. In a batch of B rows a row has about (B - 1) / n_classes
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
        Number of epochs. 'auto' is 50, or as many as hold 100 steps a class, but at most 200: few
        rows of many classes need more epochs.
    batch_size : int, default=128
        Rows a step; -1 takes all rows. A last batch of one row joins the one before.
    train_split : None or skorch.dataset.ValidSplit, default=None
        Holds rows out for validation. Their row of `soft_labels_` is the prediction for them.
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
        Decides the initial weights, the order of the batches, the mixing and dropout. numpy's and
        torch's global generators are left as they were.
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
        By the losses at the start of the last epoch, the probability that the class which a row's
        soft label favours is right ("w").
    n_neighbors_ : int or None
        Neighbours that a row was mixed with; None if mixing never began.
    n_features_in_ : int
        Number of features seen in `fit`, ``X.shape[1]``; not there after a fit on a Dataset.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, if X had names that are all strings.
    n_iter_ : int
        Number of epochs run.
    warmup_epochs_ : int
        The first epoch after the warm-up.
    net_ : skorch.NeuralNet
        The fitted net; its criterion holds the soft labels.
    module_ : nn.Module
        The trained network.
    history_ : skorch.history.History
        Loss and duration of each epoch.

    Notes
    -----
    The authors' setting, for images: ``SyntheticMixClassifier(module, n_neighbors=1,
    warmup_epochs=10, mix_start=60, max_epochs=300, target_momentum=0.9, target_update_every=10,
    mixup_alpha=1.0, mixup_loss='linear', optimizer=torch.optim.SGD, lr=0.02,
    optimizer__momentum=0.9, optimizer__weight_decay=1e-3, batch_size=128,
    callbacks=[LRScheduler(CosineAnnealingWarmRestarts, T_0=10, eta_min=1e-3)])``, with skorch's
    LRScheduler and torch's scheduler. Their code draws its warm-up batches in order and reports
    the best epoch on the test set; this library shuffles always and keeps the last epoch.

    An epoch costs about 1.67 times one of cross-entropy: a forward pass to judge the rows and one
    for the neighbours' features.

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
        self.n_neighbors = n_neighbors
        self.warmup_epochs = warmup_epochs
        self.mix_start = mix_start
        self.target_momentum = target_momentum
        self.target_update_every = target_update_every
        self.mixup_alpha = mixup_alpha
        self.mixup_loss = mixup_loss
        self.loss_history = loss_history
        self.feature_layer = feature_layer
        self.neighbors = neighbors

    @property
    def clean_probability_(self):
        """How probably the class that each row's soft label favours is right."""
        return read_only(self._fitted_net().criterion_.clean_probability)

    @property
    def n_neighbors_(self):
        """How many neighbours a row was mixed with."""
        return dict(self._fitted_net().callbacks_)["labels"].n_neighbors_

    def _check_params(self):
        check_number(self.n_neighbors, "n_neighbors", Integral, 1, auto=True)
        check_number(self.warmup_epochs, "warmup_epochs", Integral, 1, auto=True)
        check_number(self.mix_start, "mix_start", Integral, 1, auto=True)
        check_number(self.target_momentum, "target_momentum", Real, 0, 1)
        check_number(self.target_update_every, "target_update_every", Integral, 1, auto=True)
        check_number(self.mixup_alpha, "mixup_alpha", Real, 0)
        check_number(self.loss_history, "loss_history", Integral, 1)
        check_choice(self.mixup_loss, "mixup_loss", ("linear", "ce"))
        check_choice(self.neighbors, "neighbors", ("batch", "all"))

    _new_label_callback = staticmethod(MixNeighbors)

    def _label_callback(self, pilot):
        warmup = self.warmup_epochs
        if warmup == "auto":
            warmup = 1 + pilot.epochs_before_memorisation()
        start, every = auto_schedule(
            warmup, pilot.max_epochs, self.mix_start, self.target_update_every
        )
        self._warn_if_idle(pilot.max_epochs, start, every)
        return MixNeighbors(
            n_neighbors=self.n_neighbors,
            warmup_epochs=warmup,
            mix_start=start,
            target_momentum=self.target_momentum,
            target_update_every=every,
            mixup_alpha=self.mixup_alpha,
            mixup_loss=self.mixup_loss,
            loss_history=self.loss_history,
            feature_layer=self.feature_layer,
            neighbors=self.neighbors,
        )

    def _warn_if_idle(self, max_epochs, start, every):
        updates = len(range(start, max_epochs + 1, every))
        if updates == 0:
            warnings.warn(
                f"max_epochs must reach mix_start for any label to be corrected, got max_epochs="
                f"{max_epochs} and mix_start={start}.",
                UserWarning,
                stacklevel=6,
            )
        elif self.target_momentum**updates > 0.5:
            warnings.warn(
                f"target_momentum ** updates must be at most 0.5 for labels to flip, got"
                f" {self.target_momentum} ** {updates}; lower target_momentum or"
                " target_update_every, or raise max_epochs.",
                UserWarning,
                stacklevel=6,
            )
