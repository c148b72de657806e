"""The callback that trains the label network and writes its labels.

Source: G. Algan, I. Ulusoy, "MetaLabelNet: Learning to Generate Soft-Labels from Noisy-Labels",
IEEE TIP 31, 2022, arXiv 2103.10869, and the authors' published code.
"""

from functools import partial

import torch
from skorch.callbacks import GradientNormClipping
from torch import nn
from torch.nn.functional import one_hot

from sknoisy.metalabelnet.evaluation import confusion_counts, counted_rows, evaluate_rows
from sknoisy.metalabelnet.hypergradient import METHODS, VirtualStep, first_that_works
from sknoisy.metalabelnet.label_net import (
    BestEpoch,
    FrozenFeatures,
    LabelNetwork,
    given_offsets,
    linear_from,
    new_linear,
    warn_if_linear,
)
from sknoisy.metalabelnet.losses import (
    cross_entropy_share,
    generated_labels_loss,
    given_labels_loss,
    with_trusted_rows,
)
from sknoisy.metalabelnet.noise_estimate import estimate_noise
from sknoisy.metalabelnet.trusted import TrustedSet, select_rows
from sknoisy.training.features import find_feature_layer, unwrap
from sknoisy.training.label_callback import LabelCallback
from sknoisy.training.net import as_inputs

META_WEIGHT_DECAY = 1e-4  # of the label network, as in the authors' code


class GenerateLabels(LabelCallback):
    """Write the soft labels that a label network generates, which learns from trusted rows.

    For use in a skorch net whose criterion is a `SoftTargetLoss` and whose y are row numbers; rows
    beyond the criterion's table have no given label.

    Parameters
    ----------
    trusted : TrustedRows or None
        Inputs and class numbers; None selects the rows of lowest loss after the warm-up.
    warmup_epochs, meta_lr, ..., max_grad_norm, hypergradient
        As in `MetaLabelNetClassifier`, each but `max_noise_rate` a number where that takes 'auto'.
    """

    fitted = (
        "label_net_",
        "noise_rate_",
        "max_noise_rate_",
        "cross_entropy_share_",
        "hypergradient_",
        "best_epoch_",
        "n_meta_",
    )
    trusted_ = None
    label_network_ = None

    def __init__(
        self,
        trusted=None,
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

    def always_seen(self):
        """Return the rows of X that are trusted: copies of them join each batch."""
        indices = self.trusted and self.trusted.indices
        return super().always_seen() if indices is None else indices

    def with_companions(self):
        """Return this callback and, where gradients are clipped, skorch's that does it."""
        callbacks = super().with_companions()
        if self.max_grad_norm is not None:
            callbacks.append(("sknoisy_clip", GradientNormClipping(self.max_grad_norm)))
        return callbacks

    def loss_at(self, epoch):
        """Cross-entropy in the warm-up, then the loss to generated labels; plus trusted rows'."""
        loss = given_labels_loss
        if epoch > self.warmup_epochs:
            loss = partial(
                generated_labels_loss,
                entropy_weight=self.entropy_weight,
                scale=self.scale_,
                cross_entropy_share=self.cross_entropy_share_,
            )
        if self.trusted_ is None or not self.trusted_.n_appended:
            return loss
        return partial(
            with_trusted_rows,
            loss=loss,
            n_trusted=self.trusted_.n_appended,
            trusted_weight=self.trusted_weight,
            class_weights=self.class_weights_,
        )

    def start(self, net, X):
        """Lengthen the table: rows without a given label, then the trusted rows' labels."""
        criterion, table = net.criterion_, net.criterion_.targets
        vars(self).update(dict.fromkeys(self.fitted))
        self.max_noise_rate_ = None if self.max_noise_rate == "auto" else self.max_noise_rate
        criterion.lengthen(table.new_zeros(X.shape[0] - len(table), table.shape[1]))
        self.layer_ = find_feature_layer(unwrap(net.module_), self.feature_layer)
        warn_if_linear(unwrap(net.module_), self.layer_)
        self.scale_ = 1.0 if self.reduction == "batchmean" else 1 / table.shape[1]
        self.class_weights_ = self.frozen_ = self.chosen_ = None
        self.steps_, self.best_ = 0, BestEpoch()
        if self.trusted is not None:
            self.trust(net, self.trusted.X, torch.from_numpy(self.trusted.labels))

    def trust(self, net, X, labels):
        """Begin to use trusted rows; their labels join the table's end."""
        table = net.criterion_.targets
        net.criterion_.lengthen(one_hot(labels, table.shape[1]).to(table))
        self.draw_from(net, X, labels)

    def draw_from(self, net, X, labels):
        """Draw batches of the trusted rows, whose labels end the table."""
        first = len(net.criterion_.targets) - len(labels)
        batch_size = net.batch_size if self.trusted_weight else None
        self.trusted_ = TrustedSet(X, labels, first, self.meta_batch_size, batch_size)

    def start_epoch(self, net, epoch):
        """After the warm-up, estimate the noise and begin the label network."""
        if epoch == self.warmup_epochs + 1:
            net.module_.eval()
            self.frozen_ = FrozenFeatures.of(net, self.feature_layer)
            counted = counted_rows(net.criterion_, self.split_.train_rows)
            seen = evaluate_rows(net, self.split_.data, self.layer_, counted)
            if self.trusted_ is None:
                self.trust_small_losses(net, seen.losses)
            noise = self.estimate_noise(net, seen.counts, counted)
            given, n_rows = net.criterion_.given, len(seen.features)
            offsets = given_offsets(noise.log_transition, given, n_rows, self.given_weight)
            self.begin_label_network(net, seen.features, offsets)

    def trust_small_losses(self, net, losses):
        """Begin to trust the lowest losses of the training rows that have a label and a weight."""
        self.chosen_ = select_rows(net.criterion_, self.split_.train_rows, losses)
        labels = net.criterion_.targets[self.chosen_].argmax(dim=1).cpu()
        self.trust(net, self.chosen_inputs(), labels)

    def chosen_inputs(self):
        """Return the inputs of the rows that stand in for trusted ones."""
        return self.split_.data.__getitems__(self.chosen_.numpy())[0].numpy()

    def estimate_noise(self, net, counts, counted):
        """Estimate how given labels come from classes, and keep the estimate's numbers."""
        trusted, given = self.trusted_.data, net.criterion_.given
        confusion = confusion_counts(net, trusted, self.layer_, len(counts)).to(counts)

        def neighbor_bound(priors):
            if self.trusted is None:
                return 1.0
            return self.trusted.neighbor_bound(self.split_.data.X, given, counted, priors)

        noise = estimate_noise(
            counts,
            confusion,
            neighbor_bound,
            max_noise_rate=self.max_noise_rate,
            class_prior=self.class_prior,
        )
        self.class_weights_ = noise.class_weights
        self.noise_rate_, self.max_noise_rate_ = noise.noise_rate, noise.max_noise_rate
        self.cross_entropy_share_ = cross_entropy_share(noise.max_noise_rate)
        return noise

    def begin_label_network(self, net, features, offsets):
        """Make the label network, and its optimizer."""
        table = net.criterion_.targets
        linear = new_linear(features, self.layer_, table, start=self.label_start)
        self.label_network_ = LabelNetwork(features, offsets, linear)
        self.label_optimizer_ = torch.optim.Adam(
            linear.parameters(), lr=self.meta_lr, weight_decay=META_WEIGHT_DECAY
        )

    def start_batch(self, net, batch, epoch):
        """Append trusted rows to the batch; keep what draws its dropout."""
        if self.trusted_ is not None:
            self.trusted_.append_to(net, batch)
        self.X_ = as_inputs(batch[0], net.device)
        self.generator_state_ = torch.get_rng_state()
        self.cuda_state_ = torch.cuda.get_rng_state(net.device) if self.X_.is_cuda else None

    def before_loss(self, net, logits, rows):
        """Update the label network, now and then, and write the labels it generates."""
        if len(net.history) <= self.warmup_epochs:
            return
        n = len(logits) - self.trusted_.n_appended
        rows = rows[:n]
        features = self.label_network_.features[rows]
        if self.frozen_ is not None:
            features = self.frozen_(net, self.X_[:n])
        if self.steps_ % self.meta_every == 0:
            self.meta_update(net, logits[:n], rows, features)
        self.steps_ += 1
        with torch.no_grad():
            net.criterion_.targets[rows] = self.label_network_(rows, features).softmax(dim=1)

    def meta_update(self, net, logits, rows, features):
        """Move the label network to where a step on its labels would help on trusted rows."""
        z = self.label_network_(rows, features)
        gradient = self.hypergradient_of(self.virtual_step(net, logits, z, rows))
        is_scaled = getattr(net, "gradient_scale", 1.0) != 1
        if is_scaled and not gradient.isfinite().all():  # the optimizer skips this step as well
            gradient = torch.zeros_like(gradient)
        self.label_optimizer_.zero_grad()
        z.backward(gradient=gradient)
        self.label_optimizer_.step()

    def virtual_step(self, net, logits, z, rows):
        """Return the virtual step of this batch, with a trusted batch of its own."""
        X, labels = self.trusted_.meta_batch(net)
        return VirtualStep(
            module=unwrap(net.module_),
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
        """Return dL/dz (B, C) by the chosen method; 'auto' chooses once, and warns if slower."""
        if self.hypergradient_ is None:
            is_auto = self.hypergradient == "auto"
            self.hypergradient_ = first_that_works(step) if is_auto else self.hypergradient
        return METHODS[self.hypergradient_](step)

    def end_epoch(self, net, epoch):
        """Record the score on the trusted rows; keep the best epoch."""
        if self.trusted_ is None:
            return
        accuracy, loss = self.trusted_.score(net)
        net.history.record("meta_accuracy", accuracy)
        net.history.record("meta_loss", loss)
        if self.restore_best:
            self.best_.see(epoch, accuracy, loss, net.module_, self.linear)

    @property
    def linear(self) -> nn.Linear | None:
        """What the label network has learned, after the warm-up."""
        return None if self.label_network_ is None else self.label_network_.linear

    def finish(self, net):
        """Restore the best epoch if asked; write the labels generated for every row."""
        self.best_epoch_ = self.best_.epoch or len(net.history)
        self.best_.restore(net.module_, self.linear)
        self.n_meta_ = 0 if self.trusted_ is None else len(self.trusted_)
        if self.label_network_ is None:
            return
        table, features = net.criterion_.targets, self.label_network_.features
        # Without what given labels add, which keeps more wrong labels than it is worth here.
        table[: len(features)] = self.linear(features).softmax(dim=1)
        # The trusted rows stand at the table's end as well.
        if len(self.always_seen()) and self.trusted_weight:
            indices = torch.as_tensor(self.always_seen())
            table[indices] = table[self.trusted_.first :].clone()
        self.label_net_ = self.linear

    def state_dict(self):
        """Return, during a fit, also the trusted rows to come and the label network."""
        state = super().state_dict()
        if self.trusted_ is not None:
            state["trusted"] = self.trusted_.state_dict()
            state["best"] = vars(self.best_)
        if self.label_network_ is not None:
            state["chosen"] = self.chosen_
            state["class_weights"] = self.class_weights_
            state["frozen"] = self.frozen_ and dict(self.frozen_.module.state_dict())
            state["label_network"] = dict(self.label_network_.state_dict())
            state["label_optimizer"] = self.label_optimizer_.state_dict()
            state["steps"] = self.steps_
        return state

    @torch.no_grad()
    def load_state_dict(self, state, net=None, split=None):
        """Go on with the label network and its optimizer; a finished fit has the former alone."""
        super().load_state_dict(state, net, split)
        if self.label_net_ is not None:
            self.label_net_ = linear_from(self.label_net_)
        if "label_network" in state:
            self.load_label_network(state, net)
        if "trusted" in state:
            self.trusted_.load_state_dict(state["trusted"])
            vars(self.best_).update(state["best"])

    def load_label_network(self, state, net):
        """Put what the end of the warm-up began where it was."""
        self.frozen_ = FrozenFeatures.of(net, self.feature_layer)
        if self.frozen_ is not None:
            self.frozen_.module.load_state_dict(state["frozen"])
        if self.trusted is None:
            self.chosen_ = state["chosen"]
            labels = net.criterion_.targets[-len(self.chosen_) :].argmax(dim=1).cpu()
            self.draw_from(net, self.chosen_inputs(), labels)
        weights = state["class_weights"]
        self.class_weights_ = None if weights is None else weights.to(net.device)
        network = {k: tensor.to(net.device) for k, tensor in state["label_network"].items()}
        self.begin_label_network(net, network["features"], network["offsets"])
        self.label_network_.load_state_dict(network)
        self.label_optimizer_.load_state_dict(state["label_optimizer"])
        self.steps_ = state["steps"]
