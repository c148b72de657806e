"""Plain networks against corrected ones: what their noise models tell of a fit.

A label that is foretold better by the corrected networks than by the plain ones was worth
correcting, whether it is right or wrong, since both predict through a noise model of their own (see
`fit_noise_model`).
"""

import numpy as np
from torch import Tensor

from sknoisy.training.calibration import held_out_spread
from sknoisy.training.evidence import Evidence
from sknoisy.training.gains import gains, paired
from sknoisy.training.judging import fit_symmetric_noise
from sknoisy.training.noise_model import NoiseModel, log_proba, of_labels


def compare(
    plain: NoiseModel,
    corrected: NoiseModel,
    weights: Tensor,
    epochs: tuple[int, int],
    losses: tuple[np.ndarray, np.ndarray],
) -> Evidence:
    """Return what the noise models of plain and corrected nets tell of their labels, less `proba`.

    Each label counts as it weighs (n,); `epochs` are those of plain training, to its lowest loss
    and to what `plain` tells of; `losses` those of held-out labels after each epoch, plain and
    corrected.
    """
    given = plain.given
    of_given, of_trusted, (gain, gain_error) = gains(corrected, plain, weights)
    is_corrected = gain >= -gain_error
    before, after = (_hits(model.logits.argmax(dim=1), given) for model in (plain, corrected))
    agreement = paired(before, weights)[0]
    difference, agreement_error = paired(after - before, weights)
    del before, after  # a number a row, as the models' likelihoods are
    return Evidence(
        is_held_out=weights.numpy() > 0,
        warmup_epochs=epochs[0],
        plain_epochs=epochs[1],
        agreement_plain=agreement,
        agreement_corrected=agreement + difference,
        agreement_error=agreement_error,
        gain=gain,
        gain_error=gain_error,
        given_gain=of_given[0],
        given_gain_error=of_given[1],
        trusted_gain=of_trusted[0],
        trusted_gain_error=of_trusted[1],
        is_corrected=is_corrected,
        proba=None,
        losses_plain=losses[0],
        losses_corrected=losses[1],
        **told_by(corrected if is_corrected else plain, weights),
    )


def told_by(chosen: NoiseModel, weights: Tensor) -> dict:
    """Return the attributes of `Evidence` that the noise model of the chosen nets tells."""
    log_loss = -paired(of_labels(chosen.logits, chosen.given, log_proba), weights)[0]
    above_chance = _above_chance(chosen, weights)
    symmetric_rate, is_symmetric = fit_symmetric_noise(chosen, weights)
    return {
        "temperature": chosen.temperature,
        "held_out_temperature": chosen.temperature,
        "spread": held_out_spread(chosen.logits, weights),
        "log_loss_before": log_loss,
        "log_loss_after": -paired(chosen.log_likelihood, weights)[0],
        "joint": chosen.joint.numpy(),
        "label_transition": chosen.transition.numpy(),
        "symmetric_rate": symmetric_rate,
        "is_symmetric": is_symmetric,
        "above_chance": above_chance[0],
        "above_chance_error": above_chance[1],
    }


def _above_chance(model: NoiseModel, weights: Tensor) -> tuple[float, float]:
    """Return by how much the probability of given labels is above that of random ones."""
    given, weights = model.given, weights.double()
    if given.ndim == 1:
        counts = given.bincount(weights, minlength=len(model.transition))
    else:
        counts = weights @ given.double()
    frequencies = counts / counts.sum()

    def differences(logits):
        proba = (logits.double() / model.temperature).softmax(dim=1)
        return proba - (proba @ frequencies)[:, None]

    return paired(of_labels(model.logits, given, differences), weights)


def _hits(predicted: Tensor, given: Tensor) -> Tensor:
    """Return how much of each given label is the class (n,) that was predicted for its row."""
    if given.ndim == 1:
        return (predicted == given).double()
    return given.gather(1, predicted[:, None])[:, 0]
