"""The callback that trains on mixtures of neighbors.

Source: Y. Lu, W. He, "Mitigating Noisy Supervision Using Synthetic Samples with Soft Labels",
arXiv 2406.16966, 2024, and the authors' published code.
"""

from collections import deque

import numpy as np
import torch
from skorch.utils import to_device
from torch.utils.data import Subset

from sknoisy.functional import blend, soft_cross_entropy
from sknoisy.synthetic_mix.equations import (
    FEW_CLASSES,
    auto_neighbors,
    clean_probability,
    label_losses,
    linear_loss,
    mix,
    mixing_matrix,
    mixing_weights,
    mixup_matrix,
    scale_to_unit,
    weigh,
)
from sknoisy.synthetic_mix.neighbors import nearest, nearest_in_set
from sknoisy.training.features import find_feature_layer, pass_through, unwrap
from sknoisy.training.label_callback import LabelCallback, ranks_of
from sknoisy.training.net import as_inputs, as_training_inputs

AGREEMENT_BATCHES = 10  # of query rows


class MixNeighbors(LabelCallback):
    """Train on mixtures of neighbors, weighted by how clean their labels are.

    For use in a skorch net whose criterion is a `SoftTargetLoss` and whose y are row numbers.
    Parameters as in `SyntheticMixClassifier`, each but `n_neighbors` a number; a `mix_end` of
    None mixes to the end.
    """

    fitted = ("n_neighbors_",)
    losses_ = ()

    def __init__(
        self,
        n_neighbors="auto",
        warmup_epochs=2,
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

    def without_correction(self, epochs):
        """Return a new callback whose epochs are all of the warm-up."""
        return self.fresh(warmup_epochs=epochs, mix_start=epochs + 1, mix_end=None)

    def phase(self, epoch):
        """Return 'warmup', 'mixup', 'mix' or 'unmixed', for epochs counted from 1."""
        if epoch >= self.mix_start:
            return "mix" if self.mix_end is None or epoch <= self.mix_end else "unmixed"
        return "mixup" if epoch > self.warmup_epochs and self.mixup_alpha else "warmup"

    def can_flip(self, epoch):
        """Return whether the given label's weight is down to a half."""
        n_updates = sum(map(self.updates_targets, range(self.mix_start, epoch + 1)))
        return self.target_momentum**n_updates <= 0.5

    def updates_targets(self, epoch):
        """Return whether the soft labels are updated in this epoch."""
        since = epoch - self.mix_start
        return self.phase(epoch) == "mix" and since % self.target_update_every == 0

    def loss_at(self, epoch):
        """Cross-entropy, but the linear loss in a linear mixup phase."""
        is_linear = self.phase(epoch) == "mixup" and self.mixup_loss == "linear"
        return linear_loss if is_linear else soft_cross_entropy

    def start(self, net, X):
        """Give the criterion the clean probabilities, 1 until the first evaluation pass."""
        table = net.criterion_.targets
        net.criterion_.register_buffer("clean_probability", table.new_ones(len(table)))
        self.layer_ = find_feature_layer(unwrap(net.module_), self.feature_layer)
        # Mixtures are no float32 numbers; a network that is float64 throughout sees them whole.
        self.is_float64_ = all(p.dtype == torch.float64 for p in net.module_.parameters())
        self.losses_ = deque(maxlen=self.loss_history)
        self.neighbors_ = None
        self.n_neighbors_ = None if self.n_neighbors == "auto" else self.n_neighbors

    def state_dict(self):
        """Return the number of neighbors, and during a fit the losses of the last passes."""
        losses = {"losses": list(self.losses_)} if self.losses_ else {}
        return super().state_dict() | losses

    def load_state_dict(self, state, net=None, split=None):
        """Go on with the losses of the last passes."""
        super().load_state_dict(state, net, split)
        for losses in state.get("losses", ()):
            self.losses_.append(losses.to(net.device))

    def start_epoch(self, net, epoch):
        """Estimate which labels are clean, and find the rows' neighbors in the whole set."""
        if self.n_neighbors_ is None and self.phase(epoch) == "mix":
            n_classes = net.criterion_.targets.shape[1]
            has_many = n_classes > FEW_CLASSES
            agreement = self.agreement(net, self.split_.train) if has_many else 0.0
            agreement = ranks_of(net).first(agreement)
            self.n_neighbors_ = auto_neighbors(n_classes, agreement)
        is_early = epoch <= self.warmup_epochs or epoch <= self.mix_start - self.loss_history
        if is_early or self.phase(epoch) == "unmixed":
            return  # nothing would read this pass
        rows, features = self.model_losses(net, self.split_.train)
        if self.neighbors == "all" and self.phase(epoch) == "mix":
            part = ranks_of(net).own(torch.arange(len(rows)))
            found = nearest_in_set(features, self.n_neighbors_, part)
            found = rows[ranks_of(net).gather_own(found)]  # (n, K)
            self.neighbors_ = found.new_zeros(len(self.split_.data), found.shape[1])
            self.neighbors_[rows] = found

    def agreement(self, net, dataset, seed=0) -> float:
        """Return the fraction of a row's 3 nearest neighbors in a batch of its predicted class."""
        generator = torch.Generator().manual_seed(seed)  # leaves the fit's own draws as they are
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

    def model_losses(self, net, dataset):
        """Write the clean probabilities of a dataset's rows; return its rows and features."""
        criterion, features, ranks = net.criterion_, None, ranks_of(net)
        if ranks.size > 1:
            dataset = Subset(dataset, ranks.own(np.arange(len(dataset))))
        size = len(dataset)
        rows = torch.empty(size, dtype=torch.int64, device=net.device)
        losses = criterion.targets.new_empty(size)
        predicted = criterion.targets.new_zeros(criterion.targets.shape[1])
        net.module_.eval()
        done = 0
        for X, numbers in net.get_iterator(dataset, training=False):
            batch = slice(done, done + len(numbers))
            rows[batch] = to_device(numbers, net.device)
            logits, found = pass_through(net, X, self.layer_)
            judging = criterion.as_labels(logits)
            losses[batch] = label_losses(judging, criterion.targets[rows[batch]])
            if criterion.class_prior is not None:
                predicted += criterion.count_predictions(logits, rows[batch])
            if features is None:
                features = found.new_empty(size, found.shape[1] if self.neighbors == "all" else 0)
            features[batch] = found[:, : features.shape[1]]
            done = batch.stop
        rows, losses = ranks.gather_own(rows), ranks.gather_own(losses)
        if self.neighbors == "all":
            features = ranks.gather_own(features)
        ranks.sum_([predicted])
        if criterion.class_prior is not None:
            criterion.predicted = predicted / predicted.sum() if predicted.sum() > 0 else None
        scaled = torch.zeros_like(criterion.clean_probability)
        weights = criterion.weights_of(rows)
        counted = slice(None) if weights is None or not (weights > 0).any() else weights > 0
        scaled[rows] = scale_to_unit(losses, counted)
        self.losses_.append(scaled)
        mean_losses = sum(self.losses_)[rows] / len(self.losses_)
        criterion.clean_probability[rows] = clean_probability(mean_losses, counted)
        return rows, features

    def start_batch(self, net, batch, epoch):
        """Replace a batch by its mixtures; the mixing plan travels in the place of y."""
        phase = self.phase(epoch)
        if phase in ("warmup", "unmixed"):
            return
        X, rows = as_inputs(batch[0], net.device), to_device(batch[1], net.device)
        if phase == "mixup":
            weight = self.rng_.beta(self.mixup_alpha, self.mixup_alpha)
            weight = torch.tensor(weight, dtype=net.criterion_.targets.dtype, device=X.device)
            X, rows = self.gathered(net, X), self.gathered(net, rows)
            partners = torch.from_numpy(self.rng_.permutation(len(rows)))
            matrix = mixup_matrix(weight, partners.to(X.device))[ranks_of(net).part(len(rows))]
        else:
            X, rows, matrix = self.mix_with_neighbors(net, X, rows, self.updates_targets(epoch))
        weights = net.criterion_.weights_of(rows)
        if weights is not None:
            matrix = weigh(matrix, weights)
        mixed = mix(matrix, X)
        batch[0], batch[1] = mixed if self.is_float64_ else mixed.to(X.dtype), [rows, matrix]

    def mix_with_neighbors(self, net, X, rows, update_targets):
        """Return inputs (M, ...), their rows (M,) and the matrix (B, M) that mixes them."""
        criterion, n_own = net.criterion_, len(rows)
        if self.neighbors == "batch" or update_targets:
            net.module_.eval()  # dropout would move neighbors, and cost a third of the pass
            logits, features = pass_through(net, X, self.layer_)
        if update_targets:
            predicted = self.gathered(net, criterion.as_labels(logits).softmax(dim=1))
            all_rows = self.gathered(net, rows)
            updated = blend(criterion.targets[all_rows], predicted, self.target_momentum)
            ranks_of(net).once(
                criterion.targets, lambda: criterion.targets.index_put_((all_rows,), updated)
            )
        own = torch.arange(n_own, device=rows.device)
        if self.neighbors == "batch":
            X, rows, features = (self.gathered(net, found) for found in (X, rows, features))
            own = torch.arange(len(rows), device=rows.device)[ranks_of(net).part(len(rows))]
            positions = nearest(features, self.n_neighbors_, own)
        else:
            others, positions = self.neighbors_[rows].unique(return_inverse=True)
            found = self.split_.data.__getitems__(others.cpu())[0]
            X = torch.cat([X, as_training_inputs(net, found)])
            rows, positions = torch.cat([rows, others]), positions + n_own
        clean = criterion.clean_probability[rows]
        weights = mixing_weights(clean[own], clean[positions])
        matrix = mixing_matrix(weights, torch.cat([own[:, None], positions], dim=1), len(rows))
        return X, rows, matrix

    def gathered(self, net, tensor):
        """Return the rows of the whole batch, of which several processes may have a part each."""
        ranks = ranks_of(net)
        return tensor if ranks.size == 1 else ranks.gather(net.n_rows_, tensor)

    def end_epoch(self, net, epoch):
        """When mixing ends, revert more corrected labels than can have been wrong."""
        last = net.max_epochs if self.mix_end is None else min(self.mix_end, net.max_epochs)
        if epoch == last and self.phase(epoch) == "mix":
            self.revert(net)

    def revert(self, net):
        """Leave no more of the training rows' labels corrected than can have been wrong."""
        criterion = net.criterion_
        is_trained = torch.ones_like(criterion.given, dtype=torch.bool)
        if self.split_.held_out is not None:
            is_trained[torch.as_tensor(self.split_.held_out.indices)] = False
        rows = criterion.to_revert(self.max_noise_rate, is_trained.nonzero().flatten())
        ranks_of(net).once(criterion.targets, lambda: criterion.revert(rows))

    def finish(self, net):
        """Model the losses of rows once more if some were held out, or if mixing never began."""
        self.revert(net)  # again, or for the first time where training ended while mixing
        if not self.losses_ or self.split_.held_out is not None:
            self.losses_.clear()
            self.model_losses(net, self.split_.data)
