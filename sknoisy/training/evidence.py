"""What held-out labels tell of a fit: does correcting help, how noisy are they, how sure to be."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from sknoisy.training.gains import told_apart
from sknoisy.training.judging import posterior
from sknoisy.training.noise_model import spread_noise


@dataclass(frozen=True, repr=False)
class Evidence:
    """What networks foretold for rows that they were not trained on.

    Attributes
    ----------
    is_held_out : ndarray of bool of shape (n_samples,)
        The rows that tell something: of positive weight, and not trusted.
    warmup_epochs : int
        Epochs of plain training to the lowest loss on held-out rows.
    plain_epochs : int
        Epochs of plain training that foretell held-out labels best: as many, or those to the lowest
        loss at the best temperature, if that is better by more than its standard error.
    agreement_plain, agreement_corrected : float
        Fraction of held-out labels that were predicted, by plain training for `plain_epochs` and by
        the method to its last epoch.
    agreement_error : float
        Standard error of the difference of the two.
    gain, gain_error : float
        By how much likelier, in nats, correcting makes a held-out label, and the standard error:
        that of given labels, or pooled with that of trusted ones. Above 0 correcting helps.
    given_gain, given_gain_error : float
        Log-likelihood of a given label under the corrected networks' noise model, minus that under
        the plain ones', and its standard error over the rows.
    trusted_gain, trusted_gain_error : float
        The same for the labels of trusted rows, which need no noise model; nan below two of them.
    is_corrected : bool
        Whether labels were corrected: the gain is at least minus one standard error, and labels
        were not judged out of sample instead, see `is_relabeled`; or see `is_pooled`.
    temperature : float
        What the last network's logits are divided by, for calibrated probabilities: what suits
        held-out ones, times by how much wider its own are, if they are, see `spread`.
    log_loss_before, log_loss_after : float
        Cross-entropy of held-out labels by the networks that were chosen: as they are, and by the
        noise model with temperature and transition matrix.
    noise_rate : float
        Estimated fraction of wrong given labels.
    class_prior : ndarray of shape (n_classes,)
        Estimated fraction of the rows of each class.
    transition : ndarray of shape (n_classes, n_classes)
        Probability of each given label (column) for each class (row).
    joint : ndarray of shape (n_classes, n_classes)
        Estimated fraction of the rows of each class (row) with each given label (column); trusted
        rows are of the class of their label.
    proba : ndarray of shape (n_samples, n_classes)
        Out-of-sample class probabilities, calibrated, which have not seen the row's label, in the
        precision of the network; of trusted rows that label.
    losses_plain, losses_corrected : ndarray of shape (n_epochs,)
        Cross-entropy of held-out labels after each epoch, in nats, mean of the folds.
    label_transition : ndarray of shape (n_classes, n_classes) or None
        The noise model's own matrix, of labels as they were given: distributions with
        `label_proba`, and no trusted ones. None in files of earlier versions.
    symmetric_rate : float
        The noise rate of the symmetric noise that suits the same labels best: of votes, with
        `label_proba`. In files of earlier versions nan.
    held_out_temperature : float
        What held-out logits were divided by for `proba`. In files of earlier versions nan: it was
        `temperature`.
    spread : float
        Standard deviation of held-out logits about the means of their row and class, of all classes
        together, in nats. In files of earlier versions nan.
    is_symmetric : bool
        Whether labels do not tell `label_transition` from it, see `fit_symmetric_noise`. They are
        judged by it then. Not where `is_relabeled`: by the matrix, which was seen to help.
    relabeling_gain, relabeling_gain_error : float
        By how much likelier, in nats, a held-out given label is by plain training on labels that
        held-out predictions have judged, than by what was decided before, and the standard error.
        Of one fold alone where that shows no gain. Tried for tables of a column for every two rows,
        without a `train_split`; else, and in files of earlier versions, nan.
    is_relabeled : bool
        Whether the network was trained on such labels: that gain is above two standard errors, and
        trusted rows, pooled with it, do not tell by one that it harms. `temperature`, `log_loss_*`,
        `proba` and all that rests on them are then of this training.
    judged_epochs : int
        How long it was trained on them; 0 otherwise.
    linear_gain, linear_gain_error : float
        By how much likelier, in nats, the label of a trusted row is by a linear model of the
        trusted rows alone than by networks that saw the given labels as well, and the standard
        error. Tried for tables of which each class has two trusted rows, without a `train_split`;
        else, and in files of earlier versions, nan.
    is_pooled : bool
        Whether that gain is above two standard errors. Given labels misled the networks then: they
        were left out, and labels began as the pooled predictions of both. The method corrected
        them from there on; `temperature` is that of correcting, `log_loss_*`, `proba` and all
        that rests on them are the pool's.
    above_chance, above_chance_error : float
        Mean probability that out-of-sample predictions give to the given label, minus what they
        would give to labels drawn at random by their frequencies, and its standard error; nan in
        files of earlier versions.
    """

    is_held_out: np.ndarray
    warmup_epochs: int
    plain_epochs: int
    agreement_plain: float
    agreement_corrected: float
    agreement_error: float
    gain: float
    gain_error: float
    given_gain: float
    given_gain_error: float
    trusted_gain: float
    trusted_gain_error: float
    is_corrected: bool
    temperature: float
    log_loss_before: float
    log_loss_after: float
    joint: np.ndarray
    proba: np.ndarray
    losses_plain: np.ndarray
    losses_corrected: np.ndarray
    above_chance: float = np.nan
    above_chance_error: float = np.nan
    relabeling_gain: float = np.nan
    relabeling_gain_error: float = np.nan
    is_relabeled: bool = False
    judged_epochs: int = 0
    linear_gain: float = np.nan
    linear_gain_error: float = np.nan
    is_pooled: bool = False
    label_transition: np.ndarray | None = None
    symmetric_rate: float = np.nan
    is_symmetric: bool = False
    held_out_temperature: float = np.nan
    spread: float = np.nan

    @property
    def n_rows(self) -> int:
        """Number of rows that were held out, each once."""
        return int(self.is_held_out.sum())

    @property
    def is_judged(self) -> bool:
        """Whether labels began as what out-of-sample predictions say of them."""
        return self.is_relabeled or self.is_pooled

    @property
    def tells_nothing(self) -> bool:
        """Whether predictions cannot be told from chance: not by two standard errors.

        Not where trusted rows told that given labels mislead, and predictions do not.
        """
        return not (self.is_pooled or told_apart((self.above_chance, self.above_chance_error)))

    @property
    def noise_rate(self) -> float:
        """Estimated fraction of wrong given labels."""
        return max(0.0, 1 - float(np.trace(self.joint)))

    @property
    def class_prior(self) -> np.ndarray:
        """Estimated fraction of the rows of each class (n_classes,)."""
        return self.joint.sum(axis=1)

    @property
    def transition(self) -> np.ndarray:
        """Noise transition matrix: probability of each given label (column) for each class (row).

        The row of a class without rows is that of the identity.
        """
        rows = self.joint.sum(axis=1, keepdims=True)
        return np.where(rows > 0, self.joint / np.where(rows > 0, rows, 1), np.eye(len(rows)))

    def posterior(
        self, given: Tensor, rows=slice(None), *, is_symmetric: bool | None = None
    ) -> Tensor:
        """Return p(class | held-out prediction, given label) of rows, (m, C).

        Their labels are class numbers (m,), or distributions (m, C), of which zeros stay zeros. By
        symmetric noise, or by the noise model's matrix; by default as labels tell, see
        `is_symmetric`. Where `is_pooled`, or the symmetric noise is not known, the label tells
        nothing.
        """
        matrix = self.transition if self.label_transition is None else self.label_transition
        if is_symmetric is None:
            is_symmetric = self.is_symmetric
        if self.is_pooled or (is_symmetric and np.isnan(self.symmetric_rate)):
            matrix = np.ones_like(matrix)
        elif is_symmetric:
            matrix = spread_noise(self.symmetric_rate, len(matrix)).numpy()
        return posterior(_tensor(self.proba[rows]), _tensor(matrix), given)

    def judge(self, data):
        """Return training data with the `posterior` as labels; rows without any keep none."""
        return replace(data, label_proba=self.posterior(data.given))

    def state_dict(self) -> dict:
        """Return the attributes as numbers and tensors."""
        return {
            name: _tensor(value) if isinstance(value, np.ndarray) else value
            for name, value in vars(self).items()
        }

    @classmethod
    def from_state(cls, state: dict) -> "Evidence":
        """Return the evidence of a state dict."""
        return cls(**{k: v.numpy() if isinstance(v, Tensor) else v for k, v in state.items()})

    def __repr__(self):
        """Return the evidence as a table."""
        decision = "labels were corrected" if self.is_corrected else "labels were left as given"
        relabeling = []
        if np.isfinite(self.relabeling_gain):
            told = f"{self.relabeling_gain:+.3f} +- {self.relabeling_gain_error:.3f}"
            relabeling = [("gain of judging labels out of sample", told)]
        if self.is_relabeled:
            decision = "labels were judged by networks that had not seen them"
            relabeling.append(("epochs on judged labels", f"{self.judged_epochs}"))
        elif told_apart((self.relabeling_gain, self.relabeling_gain_error)):
            decision += "; trusted rows contradict judging them"
        if self.is_pooled:
            decision = "labels began as predictions, given ones were left out, and were corrected"
        trusted = []
        if np.isfinite(self.trusted_gain):
            trusted = [
                (f"of {kind} labels alone", f"{gain:+.3f} +- {error:.3f}")
                for kind, gain, error in (
                    ("given", self.given_gain, self.given_gain_error),
                    ("trusted", self.trusted_gain, self.trusted_gain_error),
                )
            ]
        if np.isfinite(self.linear_gain):
            told = f"{self.linear_gain:+.3f} +- {self.linear_gain_error:.3f}"
            trusted.append(("gain of a linear model of trusted rows", told))
        judged_by = "noise transition matrix"
        if self.is_pooled:
            judged_by = "predictions alone"
        elif self.is_symmetric:
            judged_by = f"symmetric noise, {self.symmetric_rate:.1%}"
        rows = [
            ("rows held out, once each", f"{self.n_rows}"),
            ("epoch of their lowest loss, plain", f"{self.warmup_epochs}"),
            ("best epoch for held-out labels, plain", f"{self.plain_epochs}"),
            ("held-out labels predicted, plain", f"{self.agreement_plain:.1%}"),
            (
                "held-out labels predicted, corrected",
                f"{self.agreement_corrected:.1%} (difference +- {self.agreement_error:.1%})",
            ),
            ("gain of correcting, nats a label", f"{self.gain:+.3f} +- {self.gain_error:.3f}"),
            *trusted,
            *relabeling,
            ("decision", decision),
            ("estimated noise rate", f"{self.noise_rate:.1%}"),
            ("a label is judged by", judged_by),
            ("temperature", f"{self.temperature:.2f}"),
            (
                "log loss of held-out labels",
                f"{self.log_loss_before:.3f}, by the noise model {self.log_loss_after:.3f}",
            ),
        ]
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def _tensor(array: np.ndarray) -> Tensor:
    """Return an array as a tensor: its own memory, but of a memory map that is read only a copy."""
    return torch.from_numpy(array if array.flags.writeable else array.copy())
