"""Mixtures of neighbours: how they are weighed, and the callback that trains on them.

Source: Y. Lu, W. He, "Mitigating Noisy Supervision Using Synthetic Samples with Soft Labels",
arXiv 2406.16966, 2024, and the authors' published code.
"""

import warnings
from collections import deque

import torch
from sklearn import config_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from skorch.utils import to_device
from torch import Tensor

from sknoisy.features import find_feature_layer, no_trace, pass_through, plain
from sknoisy.functional import at_least_float32, blend, soft_cross_entropy, weighted_mean
from sknoisy.neighbors import nearest, nearest_in_set
from sknoisy.net import as_inputs, as_training_inputs
from sknoisy.targets import LabelCallback

EPSILON = 1e-10
AGREEMENT = 0.8
FEW_CLASSES = 5
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
    matrix = torch.eye(len(partners), dtype=share.dtype, device=partners.device)
    return share * matrix + (1 - share) * matrix[partners]


def weigh(matrix: Tensor, weights: Tensor) -> Tensor:
    """Scale the shares (B, M) in a mixture by the weights (M,) of the rows; rows sum to 1.

    A mixture of rows that all weigh nothing stays as it is: its loss weighs nothing either.
    """
    weighed = matrix * weights.to(matrix.dtype)
    total = weighed.sum(dim=1, keepdim=True)
    return torch.where(total > 0, weighed / total.where(total > 0, 1), matrix)


def mix(matrix: Tensor, X: Tensor) -> Tensor:
    """Rows (B, ...) mixed from the rows of X (M, ...) by the matrix (B, M), in its precision."""
    return (matrix @ X.flatten(start_dim=1).to(matrix.dtype)).unflatten(1, X.shape[1:])


def auto_neighbors(n_classes: int, agreement: float) -> int:
    """Return 3 neighbours for more than 5 classes that lie apart, else 1.

    They lie apart where the network predicts the same class for a row and for `AGREEMENT` of its 3
    nearest neighbours, on average. More neighbours say more about noise, if they are of one class.
    """
    return 3 if n_classes > FEW_CLASSES and agreement >= AGREEMENT else 1


class MixNeighbors(LabelCallback):
    """Train on mixtures of neighbours, weighted by how clean their labels look.

    For use in a skorch net whose criterion is a `SoftTargetLoss` and whose y are row numbers.
    Parameters as in `SyntheticMixClassifier`, each but `n_neighbors` a number; a `mix_end` of
    None mixes to the end.
    """

    def __init__(
        self,
        n_neighbors="auto",
        warmup_epochs=3,
        mix_start=10,
        mix_end=None,
        max_noise_rate=1.0,
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
        self.mix_end = mix_end
        self.max_noise_rate = max_noise_rate
        self.target_momentum = target_momentum
        self.target_update_every = target_update_every
        self.mixup_alpha = mixup_alpha
        self.mixup_loss = mixup_loss
        self.loss_history = loss_history
        self.feature_layer = feature_layer
        self.neighbors = neighbors

    def phase(self, epoch):
        """Return 'warmup', 'mixup', 'mix' or 'unmixed', for epochs counted from 1."""
        if epoch >= self.mix_start:
            return "mix" if self.mix_end is None or epoch <= self.mix_end else "unmixed"
        return "mixup" if epoch >= self.warmup_epochs and self.mixup_alpha else "warmup"

    def updates_targets(self, epoch):
        """Tell whether the soft labels are corrected in this epoch."""
        since = epoch - self.mix_start
        return self.phase(epoch) == "mix" and since % self.target_update_every == 0

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
        # Mixtures are no float32 numbers; a network that is float64 throughout sees them whole.
        self.is_float64_ = all(p.dtype == torch.float64 for p in net.module_.parameters())
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
            is_asked = n_classes > FEW_CLASSES
            agreement = self.agreement(net, dataset_train) if is_asked else 0.0
            self.n_neighbors_ = auto_neighbors(n_classes, agreement)
        is_early = epoch < self.warmup_epochs or epoch <= self.mix_start - self.loss_history
        if is_early or self.phase(epoch) == "unmixed":
            return  # nobody would read this pass
        rows, features = self.judge(net, dataset_train)
        if self.neighbors == "all" and self.phase(epoch) == "mix":
            found = rows[nearest_in_set(features, self.n_neighbors_)]  # (n, K)
            self.neighbors_ = found.new_zeros(len(self.data_), found.shape[1])
            self.neighbors_[rows] = found

    @torch.no_grad()
    def agreement(self, net, dataset) -> float:
        """Return how many of a row's 3 nearest neighbours in a batch are predicted as it is."""
        generator = torch.Generator().manual_seed(0)  # leaves the fit's own draws as they are
        rows = torch.randperm(len(dataset), generator=generator)
        batch_rows = net.batch_size if net.batch_size > 0 else len(dataset)
        rows = rows[: AGREEMENT_BATCHES * batch_rows]
        net.module_.eval()
        agree = []
        for numbers in rows.split(batch_rows):
            X, _ = dataset.__getitems__(numbers.tolist())
            logits, features = pass_through(net, X, self.layer_)
            predicted = logits.argmax(dim=1)
            if len(numbers) > 1:
                same = predicted[:, None] == predicted[nearest(features, 3)]
                agree.append(same.float().mean(dim=1))
        return torch.cat(agree).mean().item() if agree else 0.0

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
        if not training or phase in ("warmup", "unmixed"):
            return
        X, rows = as_inputs(batch[0], net.device), to_device(batch[1], net.device)
        if phase == "mixup":
            # On the CPU, in the table's precision: the generator there is the one that fit seeds.
            alpha = torch.tensor(self.mixup_alpha, dtype=net.criterion_.targets.dtype)
            share = torch.distributions.Beta(alpha, alpha).sample()
            matrix = mixup_matrix(share.to(X.device), torch.randperm(len(rows), device=X.device))
        else:
            X, rows, matrix = self.mix_with_neighbors(net, X, rows, self.updates_targets(epoch))
        weights = net.criterion_.weights_of(rows)
        if weights is not None:
            matrix = weigh(matrix, weights)
        mixed = mix(matrix, X)
        batch[0], batch[1] = mixed if self.is_float64_ else mixed.to(X.dtype), [rows, matrix]

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

    @torch.no_grad()
    def on_epoch_end(self, net, **kwargs):
        """When mixing ends, put back more corrected labels than can have been wrong."""
        epoch = len(net.history)
        last = net.max_epochs if self.mix_end is None else min(self.mix_end, net.max_epochs)
        if epoch == last and self.phase(epoch) == "mix":
            self.put_back(net)
        super().on_epoch_end(net, **kwargs)

    def put_back(self, net):
        """Leave no more of the training rows' labels corrected than can have been wrong."""
        criterion = net.criterion_
        is_trained = torch.ones_like(criterion.given, dtype=torch.bool)
        if self.held_out_ is not None:
            is_trained[torch.as_tensor(self.held_out_.indices)] = False
        criterion.put_back(self.max_noise_rate, is_trained.nonzero().flatten())

    def on_train_end(self, net, **kwargs):
        """Judge rows that no epoch has judged: held-out ones, or all if mixing never began."""
        with torch.no_grad():
            self.put_back(net)  # again, or for the first time where training ended while mixing
        if not self.losses_ or self.held_out_ is not None:
            self.losses_.clear()
            self.judge(net, self.data_)
        del self.layer_, self.is_float64_, self.losses_, self.data_
        vars(self).pop("neighbors_", None)
        super().on_train_end(net, **kwargs)
