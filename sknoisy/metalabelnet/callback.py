"""The label network of MetaLabelNet: the callback that trains it and writes its labels.

Source: G. Algan, I. Ulusoy, "MetaLabelNet: Learning to Generate Soft-Labels from Noisy-Labels",
IEEE TIP 31, 2022, arXiv 2103.10869, and the authors' published code.
"""

from copy import deepcopy
from functools import partial

import torch
from skorch.utils import to_device
from torch import nn
from torch.nn.functional import cross_entropy, one_hot
from torch.nn.utils import clip_grad_norm_

from sknoisy.functional import at_least_float32
from sknoisy.metalabelnet.evaluation import see_rows, see_trusted_rows
from sknoisy.metalabelnet.hypergradient import METHODS, LookAhead, first_that_works
from sknoisy.metalabelnet.losses import (
    cross_entropy_share,
    generated_labels_loss,
    given_labels_loss,
    with_trusted_rows,
)
from sknoisy.metalabelnet.noise_estimate import (
    class_shares,
    class_weights,
    limit_noise,
    log_transition,
    noise_rate,
)
from sknoisy.metalabelnet.trusted import TrustedBatches, lowest_losses
from sknoisy.neighbor_noise import highest_noise_rate_near
from sknoisy.training.data import RowDataset
from sknoisy.training.features import find_feature_layer, pass_through, plain
from sknoisy.training.label_callback import LabelCallback
from sknoisy.training.net import as_inputs, as_training_inputs, find_augmentation
from sknoisy.user_warnings import warn

META_WEIGHT_DECAY = 1e-4  # of the label network, as in the authors' code
TRUSTED_SHARE = 8  # one trusted row beside so many of the batch: the step's price stays near 3.5


class GenerateLabels(LabelCallback):
    """Write the soft labels that a label network generates, taught by trusted rows.

    For use in a skorch net whose criterion is a `SoftTargetLoss` and whose y are row numbers; rows
    beyond the criterion's table have no given label.

    Parameters
    ----------
    trusted : TrustedRows or None
        Inputs and class numbers; None picks the rows of lowest loss after the warm-up.
    pinned : ndarray of int or None
        Rows of the table whose given label is right and stays.
    warmup_epochs, meta_lr, meta_every, virtual_lr, entropy_weight, given_weight, meta_batch_size, \
trusted_weight, reduction, label_start, feature_layer, restore_best, class_prior, \
max_noise_rate, max_grad_norm, hypergradient
        As in `MetaLabelNetClassifier`, each but `max_noise_rate` a number where that takes 'auto'.
    """

    def __init__(
        self,
        trusted=None,
        pinned=None,
        warmup_epochs=30,
        meta_lr=1e-2,
        meta_every=1,
        virtual_lr=1.0,
        entropy_weight=1.0,
        given_weight=1.0,
        meta_batch_size=128,
        trusted_weight=0.5,
        reduction="batchmean",
        label_start="classifier",
        feature_layer=None,
        restore_best=False,
        class_prior="estimated",
        max_noise_rate=1.0,
        max_grad_norm=None,
        hypergradient="auto",
    ):
        self.trusted = trusted
        self.pinned = pinned
        self.warmup_epochs = warmup_epochs
        self.meta_lr = meta_lr
        self.meta_every = meta_every
        self.virtual_lr = virtual_lr
        self.entropy_weight = entropy_weight
        self.given_weight = given_weight
        self.meta_batch_size = meta_batch_size
        self.trusted_weight = trusted_weight
        self.reduction = reduction
        self.label_start = label_start
        self.feature_layer = feature_layer
        self.restore_best = restore_best
        self.class_prior = class_prior
        self.max_noise_rate = max_noise_rate
        self.max_grad_norm = max_grad_norm
        self.hypergradient = hypergradient

    def loss_at(self, epoch):
        """Cross-entropy in the warm-up, then the loss to generated labels; trusted rows beside."""
        loss = given_labels_loss
        if epoch > self.warmup_epochs:
            loss = partial(
                generated_labels_loss,
                entropy_weight=self.entropy_weight,
                scale=self.scale_,
                cross_entropy_share=self.cross_entropy_share_,
            )
        if not self.n_beside_:
            return loss
        return partial(
            with_trusted_rows,
            loss=loss,
            n_trusted=self.n_beside_,
            trusted_weight=self.trusted_weight,
            class_weights=self.class_weights_,
        )

    def on_train_begin(self, net, X=None, **kwargs):
        """Lengthen the table: rows without a given label, then the trusted rows' labels."""
        super().on_train_begin(net, **kwargs)
        table = net.criterion_.targets
        net.criterion_.lengthen(table.new_zeros(X.shape[0] - len(table), table.shape[1]))
        self.layer_ = find_feature_layer(plain(net.module_), self.feature_layer)
        warn_if_linear(plain(net.module_), self.layer_)
        self.scale_ = 1.0 if self.reduction == "batchmean" else 1 / table.shape[1]
        self.n_beside_ = 0
        self.best_ = None
        self.best_epoch_ = 0
        self.class_weights_ = None
        if self.trusted is not None:
            self.trust(net, self.trusted.X, torch.from_numpy(self.trusted.labels))

    def trust(self, net, X, labels):
        """Begin to use trusted rows: at the end of the table, in batches, beside each batch."""
        table = net.criterion_.targets
        net.criterion_.lengthen(one_hot(labels, table.shape[1]).to(table))
        self.draw_from(net, X, labels)

    def draw_from(self, net, X, labels):
        """Draw batches of the trusted rows, whose labels end the table."""
        self.first_trusted_ = len(net.criterion_.targets) - len(labels)
        self.trusted_data_ = RowDataset(X, labels.numpy())
        self.meta_batches_ = TrustedBatches(labels, self.meta_batch_size)
        if self.trusted_weight:
            size = max(1, net.batch_size // TRUSTED_SHARE) if net.batch_size > 0 else len(labels)
            self.beside_ = TrustedBatches(labels, size)
            self.n_beside_ = self.beside_.size

    def on_epoch_begin(self, net, dataset_train=None, **kwargs):
        """After the warm-up, freeze the features and begin the label network."""
        if len(net.history) == self.warmup_epochs + 1:
            self.begin(net, getattr(dataset_train, "dataset", dataset_train), dataset_train)
        super().on_epoch_begin(net, **kwargs)

    @torch.no_grad()
    def begin(self, net, data, dataset_train):
        """Cache the features of all rows, begin to trust, and see how labels come about."""
        table = net.criterion_.targets
        net.module_.eval()
        self.freeze(net)
        in_training = torch.as_tensor(getattr(dataset_train, "indices", range(len(data))))
        counted = table.new_zeros(len(table))
        counted[in_training] = 1
        weights = net.criterion_.weights_of(in_training)
        if weights is not None:
            counted[in_training] = weights
        self.features_, counts, losses = see_rows(net, data, self.layer_, counted)
        if self.trusted is None:
            self.trust_lowest_losses(net, data, losses, in_training)
        confusion = see_trusted_rows(net, self.trusted_data_, self.layer_, len(counts)).to(counts)
        shares = class_shares(counts, confusion)
        if self.class_prior == "estimated":
            self.class_weights_ = class_weights(confusion, shares)
        self.max_noise_rate_ = noise_rate(counts, confusion, shares)  # by accuracy
        if self.max_noise_rate == "auto":
            near = self.noise_rate_near_trusted(net.criterion_.given, data.X, counted, shares)
            highest = max(self.max_noise_rate_, near)
        else:
            highest = self.max_noise_rate
            self.max_noise_rate_ = min(self.max_noise_rate_, highest)
        self.cross_entropy_share_ = cross_entropy_share(highest)
        counts = limit_noise(counts, self.max_noise_rate_)
        self.begin_offsets(net.criterion_, log_transition(counts))
        self.begin_label_net(table)

    def freeze(self, net):
        """Keep the network as it is where inputs are augmented: features then follow each batch."""
        self.frozen_ = None
        if find_augmentation(net) is not None:
            self.frozen_ = deepcopy(plain(net.module_)).eval()
            self.frozen_layer_ = find_feature_layer(self.frozen_, self.feature_layer)

    def trust_lowest_losses(self, net, data, losses, rows):
        """Begin to trust those of these rows that have a label, a weight, and the lowest losses."""
        table = net.criterion_.targets
        rows = rows[table[rows].sum(dim=1).cpu() > 0]
        weights = net.criterion_.weights_of(rows)
        if weights is not None and (weights > 0).any():
            rows = rows[weights.cpu() > 0]
        given = table[rows].argmax(dim=1).cpu()
        self.chosen_ = rows[lowest_losses(losses.cpu()[rows], given, 0.1, 50)]
        X = data.__getitems__(self.chosen_.numpy())[0].numpy()
        self.trust(net, X, table[self.chosen_].argmax(dim=1).cpu())

    def noise_rate_near_trusted(self, given, X, weights, shares):
        """Return the share of labels that can be wrong, as rows nearest to trusted ones tell."""
        if self.trusted is None:
            return 1.0
        given, weights = given.cpu(), weights.cpu().clone()
        if self.pinned is not None:  # trusted rows themselves
            weights[torch.as_tensor(self.pinned)] = 0
        return highest_noise_rate_near(
            self.trusted.X,
            self.trusted.labels,
            X,
            given.numpy(),
            weights[: len(given)],
            shares.numpy(force=True),
        )

    def begin_offsets(self, criterion, log_transition):
        """Write down what each row's given label adds to its generated logits; 0 without one."""
        self.log_transition_ = log_transition
        n_rows, given = len(self.features_), criterion.given
        self.offsets_ = criterion.targets.new_zeros(n_rows, len(log_transition))
        self.offsets_[: len(given)] = self.given_weight * log_transition.T[given]

    def label_logits(self, features, rows):
        """Return the logits (B, C) of the labels that the network generates for rows."""
        return self.label_net_(features) + self.offsets_[rows]

    def begin_label_net(self, table):
        """Make the label network for the features, and its optimizer."""
        label_net = nn.Linear(self.features_.shape[1], table.shape[1], dtype=table.dtype)
        heads = [p.shape for p in self.layer_.state_dict().values()]
        same = heads == [p.shape for p in label_net.state_dict().values()]
        if self.label_start == "classifier" and same:  # a named layer may be no head
            label_net.load_state_dict(self.layer_.state_dict())
        self.steps_ = 0
        self.label_net_ = label_net.to(self.features_.device)
        self.label_optimizer_ = torch.optim.Adam(
            self.label_net_.parameters(), lr=self.meta_lr, weight_decay=META_WEIGHT_DECAY
        )

    def checkpoint_state(self):
        """Return the label network, its features and the trusted rows that wait."""
        state = {"best": self.best_, "best_epoch": self.best_epoch_}
        if self.best_ is not None:
            state["best_states"] = self.best_states_
        if hasattr(self, "trusted_data_"):
            state["waiting"] = self.meta_batches_.waiting
            state["beside"] = self.beside_.waiting if self.n_beside_ else None
        if hasattr(self, "label_net_"):
            state["chosen"] = self.chosen_ if self.trusted is None else None
            state["features"] = self.features_
            state["max_noise_rate"] = self.max_noise_rate_
            state["cross_entropy_share"] = self.cross_entropy_share_
            state["log_transition"] = self.log_transition_
            state["class_weights"] = self.class_weights_
            state["frozen"] = None if self.frozen_ is None else self.frozen_.state_dict()
            state["label_net"] = self.label_net_.state_dict()
            state["steps"] = self.steps_
            state["label_optimizer"] = self.label_optimizer_.state_dict()
            state["hypergradient"] = getattr(self, "hypergradient_", None)
        return state

    @torch.no_grad()
    def restore(self, net, state, dataset_train, dataset_valid):
        """Go on with the label network, its features and the trusted rows that wait."""
        super().restore(net, state, dataset_train, dataset_valid)
        table, data = net.criterion_.targets, getattr(dataset_train, "dataset", dataset_train)
        if "label_net" in state:
            self.freeze(net)
            if self.frozen_ is not None:
                self.frozen_.load_state_dict(state["frozen"])
            if self.trusted is None:
                self.chosen_ = state["chosen"]
                X = data.__getitems__(self.chosen_.numpy())[0].numpy()
                self.draw_from(net, X, table[-len(self.chosen_) :].argmax(dim=1).cpu())
            self.class_weights_ = state["class_weights"]
            if self.class_weights_ is not None:
                self.class_weights_ = self.class_weights_.to(net.device)
            self.max_noise_rate_ = state["max_noise_rate"]
            self.cross_entropy_share_ = state["cross_entropy_share"]
            self.features_ = state["features"].to(net.device)
            self.begin_offsets(net.criterion_, state["log_transition"].to(net.device))
            self.begin_label_net(table)
            self.label_net_.load_state_dict(state["label_net"])
            self.steps_ = state["steps"]
            self.label_optimizer_.load_state_dict(state["label_optimizer"])
            if state["hypergradient"] is not None:
                self.hypergradient_ = state["hypergradient"]
        if "waiting" in state:
            self.meta_batches_.waiting = state["waiting"]
            if state["beside"] is not None:
                self.beside_.waiting = state["beside"]
        self.best_, self.best_epoch_ = state["best"], state["best_epoch"]
        if self.best_ is not None:
            self.best_states_ = state["best_states"]

    def on_batch_begin(self, net, batch, training=False, **kwargs):
        """Put trusted rows beside the batch; remember what draws its dropout."""
        super().on_batch_begin(net, **kwargs)
        if not training:
            return
        if self.n_beside_:
            beside = self.beside_.draw()
            X, _ = self.trusted_batch(net, beside)
            batch[0] = torch.cat([as_inputs(batch[0], net.device), X])
            batch[1] = torch.cat([batch[1], self.first_trusted_ + beside])
        self.X_ = as_inputs(batch[0], net.device)
        self.generator_state_ = torch.get_rng_state()
        self.cuda_state_ = torch.cuda.get_rng_state(net.device) if self.X_.is_cuda else None

    def trusted_batch(self, net, numbers):
        """Return inputs and class numbers of trusted rows, as the network sees them in training."""
        X, labels = self.trusted_data_.__getitems__(numbers.numpy())
        return as_training_inputs(net, X), to_device(labels, net.device)

    @torch.no_grad()
    def features_of(self, net, rows):
        """Return the frozen features (B, D) of the batch: cached, or of its transformed inputs."""
        if self.frozen_ is None:
            return self.features_[rows]
        X = self.X_[: len(rows)]
        return pass_through(net, X, self.frozen_layer_, module=self.frozen_)[1]

    def before_loss(self, net, logits, rows):
        """Teach the label network, now and then, and write the labels it generates."""
        if len(net.history) <= self.warmup_epochs:
            return
        n = len(logits) - self.n_beside_
        rows = rows[:n]
        features = self.features_of(net, rows)
        if self.steps_ % self.meta_every == 0:
            self.teach(net, logits[:n], features, rows)
        self.steps_ += 1
        with torch.no_grad():
            net.criterion_.targets[rows] = self.label_logits(features, rows).softmax(dim=1)

    def teach(self, net, logits, features, rows):
        """Move the label network to where a step on its labels would help on trusted rows."""
        z = self.label_logits(features, rows)
        gradient = self.hypergradient_of(self.look_ahead(net, logits, z, rows))
        is_scaled = getattr(net, "gradient_scale", 1.0) != 1
        if is_scaled and not gradient.isfinite().all():  # the optimizer skips this step as well
            gradient = torch.zeros_like(gradient)
        self.label_optimizer_.zero_grad()
        z.backward(gradient=gradient)
        self.label_optimizer_.step()

    def on_grad_computed(self, net, **kwargs):
        """Cut the gradient to its largest norm."""
        if self.max_grad_norm is not None:
            clip_grad_norm_(net.module_.parameters(), self.max_grad_norm)

    def look_ahead(self, net, logits, z, rows):
        """Return the look-ahead step of this batch, with a trusted batch of its own."""
        X, labels = self.trusted_batch(net, self.meta_batches_.draw())
        return LookAhead(
            module=plain(net.module_),
            X=self.X_,
            logits=logits,
            label_logits=z,
            trusted_X=X,
            trusted_y=labels,
            step_size=self.virtual_lr,
            scale=self.scale_,
            generator_state=self.generator_state_,
            cuda_state=self.cuda_state_,
            weights=net.criterion_.weights_of(rows),
            class_weights=self.class_weights_,
            gradient_scale=getattr(net, "gradient_scale", 1.0),
        )

    def hypergradient_of(self, step):
        """Return dL/dz (B, C) by the chosen method; 'auto' chooses once, and says so if slower."""
        if not hasattr(self, "hypergradient_"):
            self.hypergradient_ = self.hypergradient
            if self.hypergradient == "auto":
                self.hypergradient_ = first_that_works(step)
                warn_if_not_jvp(self.hypergradient_)
        return METHODS[self.hypergradient_](step)

    @torch.no_grad()
    def on_epoch_end(self, net, **kwargs):
        """Record the score on the trusted rows; remember the best epoch."""
        super().on_epoch_end(net, **kwargs)
        if not hasattr(self, "trusted_data_"):
            return
        logits = torch.cat(list(net.forward_iter(self.trusted_data_, device=net.device)))
        labels = to_device(torch.from_numpy(self.trusted_data_.rows), net.device)
        accuracy = (logits.argmax(dim=1) == labels).float().mean().item()
        loss = cross_entropy(at_least_float32(logits), labels).item()
        net.history.record("meta_accuracy", accuracy)
        net.history.record("meta_loss", loss)
        if self.restore_best and (self.best_ is None or (accuracy, -loss) > self.best_):
            self.best_ = accuracy, -loss
            self.best_epoch_ = len(net.history)
            label_net = getattr(self, "label_net_", None)
            self.best_states_ = deepcopy(
                (net.module_.state_dict(), label_net and label_net.state_dict())
            )

    @torch.no_grad()
    def on_train_end(self, net, **kwargs):
        """Restore the best epoch if asked; write the labels generated for every row."""
        self.best_epoch_ = self.best_epoch_ or len(net.history)
        if self.best_ is not None:
            module_state, label_state = self.best_states_
            net.module_.load_state_dict(module_state)
            if label_state is not None:
                self.label_net_.load_state_dict(label_state)
        if hasattr(self, "label_net_"):
            table = net.criterion_.targets
            # Without the given labels' share, which keeps more wrong labels than it is worth here.
            table[: len(self.features_)] = self.label_net_(self.features_).softmax(dim=1)
            # The trusted rows stand at the table's end as well.
            if self.pinned is not None and self.trusted_weight:
                table[torch.as_tensor(self.pinned)] = table[self.first_trusted_ :].clone()
        self.n_meta_ = len(self.trusted_data_) if hasattr(self, "trusted_data_") else 0
        if hasattr(self, "label_net_"):
            self.label_net_.cpu()
        kept = {
            "label_net_",
            "max_noise_rate_",
            "cross_entropy_share_",
            "hypergradient_",
            "best_epoch_",
            "n_meta_",
        }
        fitted = {name for name in vars(self) if name.endswith("_")}
        for name in fitted - kept - {"handle_", "held_out_"}:
            delattr(self, name)
        super().on_train_end(net, **kwargs)


def warn_if_linear(module, layer):
    """Warn where nothing is learned before the features: weights are in `layer` alone."""
    own = {id(p) for p in layer.parameters()}
    if all(id(p) in own for p in module.parameters() if p.ndim > 1):
        warn(
            f"module should have a hidden layer, got none before the features of"
            f" {type(module).__name__}: the generated labels can then be no richer than a logistic"
            " model's.",
        )


def warn_if_not_jvp(method):
    """Say once why steps are slower than they could be."""
    if method != "jvp":
        warn(
            f"module has an operation without a forward-mode derivative: the hypergradient comes"
            f" by {method}, which is slower"
            f"{' and approximate' if method == 'finite-difference' else ''}. Pass"
            f" hypergradient={method!r} to silence this.",
        )
