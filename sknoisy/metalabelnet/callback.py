"""The callback that trains the label network and lets it correct labels.

Source: G. Algan, I. Ulusoy, "MetaLabelNet: Learning to Generate Soft-Labels from Noisy-Labels",
IEEE TIP 31, 2022, arXiv 2103.10869, and the authors' published code.
"""

from functools import partial

import numpy as np
import torch
from skorch.utils import to_device
from torch import Tensor, nn
from torch.nn.functional import one_hot

from sknoisy.functional import blend
from sknoisy.metalabelnet.evaluation import ScoreTrusted, counted_rows, evaluate_rows
from sknoisy.metalabelnet.hypergradient import (
    METHODS,
    VirtualStep,
    first_that_works,
    generator_states,
)
from sknoisy.metalabelnet.label_net import (
    BestEpoch,
    FrozenFeatures,
    LabelNetwork,
    corrected,
    linear_from,
    new_linear,
    warn_if_linear,
)
from sknoisy.metalabelnet.losses import generated_labels_loss, given_labels_loss, with_trusted_rows
from sknoisy.metalabelnet.trusted import (
    TrustedSet,
    class_weights,
    joined_inputs,
    select_rows,
    selected_at_most,
)
from sknoisy.training.features import find_feature_layer, preserved, unwrap
from sknoisy.training.label_callback import ranks_of
from sknoisy.training.net import as_inputs, find_augmentation
from sknoisy.training.refine_labels import RefineLabels, refinement_loss
from sknoisy.training.targets import ROWS_AT_ONCE

MOST_KEPT = 2**28  # bytes of features; a million rows of default networks would keep four times it
META_WEIGHT_DECAY = 1e-4  # of the label network, as in the authors' code


class CorrectLabels(RefineLabels):
    """Refine labels towards predictions that a label network corrects; trusted rows teach it.

    For use in a skorch net whose criterion is a `SoftTargetLoss` and whose y are row numbers; rows
    beyond the criterion's table have no given label. The table's end holds the trusted rows'
    labels, and, where labels are generated, those of rows that stand in for classes without any.

    Parameters
    ----------
    trusted : TrustedRows or None
        Inputs and class numbers.
    momentum, entropy_weight, warmup_epochs, ..., hypergradient
        As in `MetaLabelNetClassifier`, each a number where that takes 'auto'.
    settles_after : int or None, default=None
        As in `RefineLabels`.
    """

    fitted = ("label_net_", "hypergradient_", "best_epoch_", "n_meta_")
    trusted_ = None
    label_network_ = None

    def __init__(
        self,
        trusted=None,
        momentum=0.9,
        entropy_weight=0.5,
        warmup_epochs=2,
        meta_lr=1e-3,
        meta_every=1,
        virtual_lr=1.0,
        meta_batch_size=128,
        trusted_weight=0.5,
        labels="refined",
        reduction="batchmean",
        feature_layer=None,
        restore_best=False,
        class_prior="estimated",
        hypergradient="auto",
        settles_after=None,
    ):
        super().__init__(momentum, entropy_weight, warmup_epochs, settles_after)
        self.trusted = trusted
        self.meta_lr = meta_lr
        self.meta_every = meta_every
        self.virtual_lr = virtual_lr
        self.meta_batch_size = meta_batch_size
        self.trusted_weight = trusted_weight
        self.labels = labels
        self.reduction = reduction
        self.feature_layer = feature_layer
        self.restore_best = restore_best
        self.class_prior = class_prior
        self.hypergradient = hypergradient

    def scorers(self):
        """Return the callback that scores the trusted rows."""
        return [("sknoisy_meta_score", ScoreTrusted())]

    @property
    def n_beside(self):
        """Number of trusted rows that are appended to each training batch, of all processes."""
        is_beside = self.trusted_ is not None and self.trusted_.appended is not None
        return self.trusted_.appended.size if is_beside else 0

    def room(self, data):
        """Return how many rows without a label there are, trusted ones, and those that stand in."""
        counts = np.bincount(data.labels, minlength=data.n_classes)
        n_trusted = 0 if self.trusted is None else len(self.trusted.labels)
        n_stand_ins = 0
        if self.labels == "generated":
            n_stand_ins = sum(map(selected_at_most, counts.tolist()))
        return data.X.shape[0] - len(data.labels) + n_trusted + n_stand_ins

    def loss_at(self, epoch):
        """Cross-entropy in the warm-up, then the method's loss; plus that of trusted rows."""
        if epoch <= self.warmup_epochs:
            loss = partial(given_labels_loss, count=self.count_labels)
        elif self.labels == "refined":
            loss = partial(refinement_loss, entropy_weight=self.entropy_weight)
        else:
            loss = partial(
                generated_labels_loss, entropy_weight=self.entropy_weight, scale=self.scale_
            )
        if self.trusted_ is None or not self.trusted_.n_appended:
            return loss
        return partial(
            with_trusted_rows,
            loss=loss,
            n_trusted=self.trusted_.n_appended,
            trusted_weight=self.trusted_weight * self.trusted_.fullness[1],
            share=self.share_of_trusted,
            class_weights=self.class_weights_,
        )

    def share_of_trusted(self) -> float:
        """Return what this process's trusted rows weigh beside its part of the batch."""
        if self.ranks_.size == 1:
            return 1.0
        return self.ranks_.share(self.trusted_.appended.size) / self.ranks_.share(self.n_rows_)

    def count_labels(self, n_labels: Tensor) -> Tensor:
        """Return by what a sum of losses is divided, `n_labels` in this process's part.

        The number of labels in the whole batch, times the share that multiplies the loss later.
        """
        if self.ranks_.size == 1:
            return n_labels.clamp_min(1)
        counts = self.ranks_.counts(self.n_rows_)
        total = n_labels * counts
        self.ranks_.sum_([total])
        return total.clamp_min(1) * self.ranks_.share(self.n_rows_) / counts

    def start(self, net, X):
        """Lengthen the table: rows without a given label, trusted rows, those that stand in."""
        criterion, table = net.criterion_, net.criterion_.targets
        vars(self).update(dict.fromkeys(self.fitted))
        self.ranks_, self.n_rows_ = ranks_of(net), 0
        n_classes, self.first_ = table.shape[1], X.shape[0]
        self.layer_ = find_feature_layer(unwrap(net.module_), self.feature_layer)
        warn_if_linear(unwrap(net.module_), self.layer_)
        self.scale_ = 1.0 if self.reduction == "batchmean" else 1 / n_classes
        self.class_weights_ = self.absent_ = self.frozen_ = self.chosen_ = None
        self.steps_, self.best_ = 0, BestEpoch()
        labels = torch.empty(0, dtype=torch.int64)
        if self.trusted is not None:
            labels = torch.from_numpy(self.trusted.labels)
        counts = criterion.given.bincount(minlength=n_classes).cpu()
        self.untrusted_ = (labels.bincount(minlength=n_classes) == 0) & (counts > 0)
        self.has_stand_ins_ = self.labels == "generated" and bool(self.untrusted_.any())
        n_stand_ins = 0
        if self.has_stand_ins_:
            n_stand_ins = sum(selected_at_most(int(count)) for count in counts[self.untrusted_])
        criterion.weigh_unlabeled()
        criterion.lengthen(self.first_ - len(table) + len(labels) + n_stand_ins)
        if len(labels):
            last = self.first_ + len(labels)
            criterion.targets[self.first_ : last] = one_hot(labels, n_classes).to(table)
            self.draw_from(net, self.trusted.X, labels)

    def draw_from(self, net, X, labels):
        """Draw batches of the trusted rows, whose labels stand at the table's end."""
        batch_size = net.batch_size if self.trusted_weight else None
        sizes = self.meta_batch_size, batch_size
        self.trusted_ = TrustedSet(X, labels, self.first_, *sizes, self.rng_, self.ranks_)

    def start_epoch(self, net, epoch):
        """Weigh the trusted rows; after the warm-up, begin the label network."""
        super().start_epoch(net, epoch)
        if epoch == 1:
            self.leave_held_out(net)
        if epoch == self.warmup_epochs + 1:
            net.module_.eval()
            is_augmented = find_augmentation(net) is not None
            most = float("inf")  # labels that are generated are those of all rows, at the end
            if self.labels == "refined":
                most = 0 if is_augmented else MOST_KEPT
            features, losses = evaluate_rows(net, self.split_.data, self.layer_, most)
            if is_augmented or not len(features):
                self.frozen_ = FrozenFeatures(net.module_, self.feature_layer)
            if self.has_stand_ins_:
                self.trust_small_losses(net, losses)
            self.begin_label_network(net, features)
        if self.trusted_ is None:
            return
        counts = self.trusted_.labels.bincount(minlength=net.criterion_.targets.shape[1])
        self.absent_ = (counts == 0).to(net.device) if (counts == 0).any() else None
        if self.class_prior == "estimated":
            counted = counted_rows(net.criterion_, self.split_.train_rows)
            self.class_weights_ = class_weights(net.criterion_, counted, self.trusted_.labels)

    def leave_held_out(self, net):
        """Trust no row of X that is held out; the labels of the others close ranks."""
        held_out, trusted = self.split_.held_out, self.trusted
        if held_out is None or trusted is None or trusted.indices is None:
            return
        self.trusted = trusted.take(~np.isin(trusted.indices, held_out.indices))
        table, self.trusted_ = net.criterion_.targets, None
        table[self.first_ : self.first_ + len(trusted.labels)] = 0
        if self.trusted is not None:
            labels = torch.from_numpy(self.trusted.labels)
            last = self.first_ + len(labels)
            table[self.first_ : last] = one_hot(labels, table.shape[1]).to(table)
            self.draw_from(net, self.trusted.X, labels)

    def trust_small_losses(self, net, losses):
        """Of each class without trusted rows, let those of lowest loss stand in for them."""
        criterion = net.criterion_
        of_class = self.untrusted_.to(criterion.given.device)[criterion.given].cpu()
        rows = self.split_.train_rows
        rows = rows[(rows < len(of_class)) & of_class[rows.clamp_max(len(of_class) - 1)]]
        self.trust_rows(net, select_rows(criterion, rows, losses))

    def trust_rows(self, net, rows):
        """Trust the given labels of rows, beside those that are trusted already."""
        criterion, self.chosen_ = net.criterion_, rows
        n_trusted = 0 if self.trusted is None else len(self.trusted.labels)
        labels = criterion.given[rows.to(criterion.given.device)].cpu()
        table, first = criterion.targets, self.first_ + n_trusted
        table[first : first + len(rows)] = one_hot(labels, table.shape[1]).to(table)
        X = joined_inputs(self.trusted, self.split_.data.__getitems__(rows.numpy())[0].numpy())
        if self.trusted is not None:
            labels = torch.cat([torch.from_numpy(self.trusted.labels), labels])
        self.draw_from(net, X, labels)

    def begin_label_network(self, net, features):
        """Make the label network, and its optimizer."""
        is_random = self.labels == "generated"
        linear = new_linear(features, net.criterion_.targets, self.rng_, is_random=is_random)
        self.label_network_ = LabelNetwork(features, linear)
        fullness = 1.0 if self.trusted_ is None else self.trusted_.fullness[0]
        self.label_optimizer_ = torch.optim.Adam(
            linear.parameters(), lr=self.meta_lr * fullness, weight_decay=META_WEIGHT_DECAY
        )

    def start_batch(self, net, batch, epoch):
        """Append trusted rows to the batch; now and then update the label network by it.

        That takes a forward pass of its own: its graph is gone when the real step's begins.
        """
        rows, self.n_rows_ = to_device(batch[1], net.device), getattr(net, "n_rows_", 0)
        if self.trusted_ is not None:
            self.trusted_.append_to(net, batch)
        if epoch <= self.warmup_epochs:
            return
        X = as_inputs(batch[0], net.device)
        if self.frozen_ is None:
            self.features_ = self.label_network_.features[rows]
        else:
            self.features_ = self.frozen_(net, X[: len(rows)])
        if self.trusted_ is not None and self.steps_ % self.meta_every == 0:
            with torch.enable_grad():
                self.meta_update(net, X, rows)
        self.steps_ += 1

    def before_loss(self, net, logits, rows):
        """Write the labels that predictions and the label network lead to."""
        n = len(logits) - (0 if self.trusted_ is None else self.trusted_.n_appended)
        rows, logits, criterion = rows[:n], logits[:n], net.criterion_
        has_label = criterion.has_label(rows)
        self.count_predictions(net, logits[has_label], rows[has_label])
        if len(net.history) <= self.warmup_epochs:
            return
        with torch.no_grad():
            labels = self.label_logits(net, logits, self.features_).softmax(dim=1)
            if self.labels == "refined":
                labels = blend(criterion.targets[rows], labels, self.momentum)
            labels /= labels.sum(dim=1, keepdim=True)  # had none, perhaps
            self.write(net, rows, labels)

    def label_logits(self, net, logits, features):
        """Return the logits (B, C) of what labels are pulled to, or, if generated, become."""
        correction = self.label_network_.linear(features)
        if self.labels == "generated":
            return correction
        return corrected(net.criterion_.as_labels(logits.detach()), correction, self.absent_)

    def meta_update(self, net, X, rows):
        """Move the label network to where a step on its labels would help on trusted rows."""
        trusted, module = self.trusted_.meta_batch(net), unwrap(net.module_).train()
        states = generator_states(X.device)
        with preserved(module):
            logits = net.infer(X)[: len(rows)]
            z = self.label_logits(net, logits, self.features_)
            step = self.virtual_step(net, X, logits, z, trusted, states, rows)
            gradient = self.hypergradient_of(step)
        if step.gradient_scale != 1 and self.ranks_.any(not gradient.isfinite().all()):
            gradient = torch.zeros_like(gradient)  # the optimizer skips this step as well
        self.label_optimizer_.zero_grad()
        z.backward(gradient=gradient.to(z))
        self.ranks_.sum_([p.grad for p in self.label_network_.linear.parameters()])
        self.label_optimizer_.step()

    def virtual_step(self, net, X, logits, z, trusted, states, rows):
        """Return the virtual step of this batch, by the graph of `logits`, and a trusted batch."""
        return VirtualStep(
            unwrap(net.module_),
            X,
            logits,
            z,
            *trusted,
            step_size=self.virtual_lr,
            scale=self.scale_,
            generator_state=states[0],
            cuda_state=states[1],
            weights=net.criterion_.weights_of(rows),
            class_weights=self.class_weights_,
            absent=self.absent_,
            gradient_scale=getattr(net, "gradient_scale", 1.0),
            is_graph_kept=self.hypergradient_ is None,
            ranks=self.ranks_,
            share=self.ranks_.share(self.n_rows_),
            trusted_share=self.ranks_.share(self.trusted_.meta_batches.size),
        )

    def hypergradient_of(self, step):
        """Return dL/dz (B, C) by the chosen method; 'auto' chooses once, and warns if slower."""
        if self.hypergradient_ is None:
            is_auto = self.hypergradient == "auto"
            found = first_that_works(step) if is_auto else self.hypergradient
            self.hypergradient_ = self.ranks_.first(found)
        return METHODS[self.hypergradient_](step)

    def end_epoch(self, net, epoch):
        """Keep the epoch of the best score on the trusted rows."""
        super().end_epoch(net, epoch)
        if self.restore_best and self.trusted_ is not None:
            score = net.history[-1, "meta_accuracy"], net.history[-1, "meta_loss"]
            self.best_.see(epoch, *score, net.module_, self.linear)

    @property
    def linear(self) -> nn.Linear | None:
        """What the label network has learned, after the warm-up."""
        return None if self.label_network_ is None else self.label_network_.linear

    def finish(self, net):
        """Restore the best epoch if asked; give trusted rows of X their labels; forget the rows."""
        self.best_epoch_ = self.best_.epoch or len(net.history)
        self.best_.restore(net.module_, self.linear)
        self.n_meta_ = 0 if self.trusted_ is None else len(self.trusted_)
        indices = None if self.trusted is None else self.trusted.indices
        labels = None if indices is None else torch.from_numpy(self.trusted.labels)
        self.trusted = None  # a fitted estimator keeps no rows
        if self.label_network_ is None:
            return
        table, features = net.criterion_.targets, self.label_network_.features
        if self.labels == "generated":
            for rows in torch.arange(len(features)).split(ROWS_AT_ONCE):
                table[rows] = self.linear(features[rows]).softmax(dim=1)
        if indices is not None and self.trusted_weight:
            table[torch.as_tensor(indices)] = one_hot(labels, table.shape[1]).to(table)
        self.label_net_ = self.linear

    def state_dict(self):
        """Return, during a fit, also the trusted rows to come and the label network."""
        state = super().state_dict()
        if self.trusted_ is not None:
            state["trusted"] = self.trusted_.state_dict()
            state["best"] = vars(self.best_)
        if self.label_network_ is not None:
            state["chosen"] = self.chosen_
            state["frozen"] = self.frozen_ and dict(self.frozen_.module.state_dict())
            state["label_network"] = dict(self.label_network_.state_dict())
            state["label_optimizer"] = self.label_optimizer_.state_dict()
            state["steps"] = self.steps_
        return state

    @torch.no_grad()
    def load_state_dict(self, state, net=None, split=None):
        """Go on with the label network and its optimizer; a finished fit has the former alone."""
        super().load_state_dict(state, net, split)
        if split is not None:
            self.leave_held_out(net)
        if self.label_net_ is not None:
            self.label_net_ = linear_from(self.label_net_)
        if "label_network" in state:
            self.load_label_network(state, net)
        if "trusted" in state:
            self.trusted_.load_state_dict(state["trusted"])
            vars(self.best_).update(state["best"])

    def load_label_network(self, state, net):
        """Put what the end of the warm-up began where it was."""
        if state["frozen"] is not None:
            self.frozen_ = FrozenFeatures(net.module_, self.feature_layer)
            self.frozen_.module.load_state_dict(state["frozen"])
        if state["chosen"] is not None:
            self.trust_rows(net, state["chosen"])
        network = {k: tensor.to(net.device) for k, tensor in state["label_network"].items()}
        self.begin_label_network(net, network["features"])
        self.label_network_.load_state_dict(network)
        self.label_optimizer_.load_state_dict(state["label_optimizer"])
        self.steps_ = state["steps"]
