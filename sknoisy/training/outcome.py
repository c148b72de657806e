"""What a user should be told of a fit that has ended."""

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from sknoisy.user_warnings import listed, warn


def warn_of_outcome(net, evidence, classes) -> None:
    """Warn of labels left as given, classes without labels, interruption and divergence."""
    if evidence is not None and not (evidence.is_corrected or evidence.is_relabeled):
        warn(
            "Labels were left as given: correcting them makes labels of held-out rows less likely,"
            f" by {-evidence.gain:.2g} +- {evidence.gain_error:.2g} nats. The network was trained"
            f" on the given labels for {evidence.plain_epochs} epochs; corrected_labels_ and label"
            " issues rest on held-out predictions all the same. That is right where few labels are"
            " wrong; else fewer columns, or more epochs, may change it. See evidence_."
        )
    if evidence is not None and evidence.tells_nothing:
        warn(
            "X seems to tell nothing of y: networks do not predict labels of held-out rows better"
            " than chance, so that label issues mean nothing. Are their rows in the same order?"
            " Else too many labels are wrong, or rows are too few."
        )
    warn_if_never_corrected(net)
    if net.interrupted_:
        warn(
            f"Training interrupted by user after {len(net.history)} of {net.max_epochs}"
            " epochs; the fit so far is kept."
        )
    loss = net.history[-1, "train_loss"]
    tensors = net.module_.state_dict().values()  # in parts, or the check doubles their memory
    is_finite = all(part.isfinite().all() for t in tensors for part in t.flatten().split(2**20))
    if not (np.isfinite(loss) and is_finite):
        warn(
            f"Training diverged: the loss of the last epoch is {loss}. Lower lr={net.lr:g}, or"
            " scale X; a Dataset must hold finite numbers.",
            ConvergenceWarning,
        )
        return
    lost = net.criterion_.lost_classes()
    if lost:
        is_judged = evidence is not None and evidence.is_judged
        out = "class_weight='balanced' or a longer warmup_epochs"
        warn(
            f"soft_labels_ keep no row of {listed(classes[lost])} in y: predictions corrected all"
            " labels of such a class. If they are rare and not wrong, pass"
            f" {'evidence=False' if is_judged else out}."
        )


def warn_if_never_corrected(net) -> None:
    """Warn where a callback ended training, or went back, before any label can have changed."""
    labels, n_epochs = net.label_callback, len(net.history)
    if net.interrupted_ or labels.can_flip(n_epochs) or not labels.can_flip(net.max_epochs):
        return
    begins = next(k for k in range(n_epochs, net.max_epochs + 1) if labels.can_flip(k))
    warn(
        f"Training ended with epoch {n_epochs} of {net.max_epochs}, by a callback, before labels"
        f" can have changed, which takes {begins} epochs: soft_labels_ favor the given ones. Give"
        " EarlyStopping more patience, or leave out the callback that ends training, or the"
        " load_best that goes back."
    )
