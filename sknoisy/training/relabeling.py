"""Labels judged by networks that have not seen them, for what is memorized at once.

A network that memorizes what it is given at once, as of text with as many words as rows, confirms
it, whatever a method makes of its predictions. One that was not trained on a row does not: each
label is replaced by p(class | held-out prediction, given label), and a network is trained on these,
plainly. Whether that helps is told by rows that had no part in it: networks on one fold alone judge
its labels, and the one that is trained on these predicts the other fold.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from sknoisy.networks.sparse_linear import occurring_columns
from sknoisy.training.fold_nets import held_out_logits, train_for, train_plain
from sknoisy.training.gains import gains, paired, told_apart
from sknoisy.training.halves import Halves
from sknoisy.training.judging import posterior
from sknoisy.training.noise_model import NoiseModel, chunks, fit_noise_model
from sknoisy.training.recipe import table_dtype
from sknoisy.training.warmup_search import GivenLabels


@dataclass(frozen=True)
class Relabeling:
    """What training on judged labels did for held-out ones.

    Attributes
    ----------
    gain, gain_error : float
        By how much likelier, in nats, it makes a held-out label than other training does, and the
        standard error; of one fold alone where that shows no gain.
    model : NoiseModel or None
        Of the networks, where both folds were tried.
    helps : bool
        Whether that gain is above two standard errors, and trusted rows, pooled with it, do not
        tell by one that it harms: they are too few to tell much, and more must not hurt.
    """

    gain: float
    gain_error: float
    model: NoiseModel | None = None
    helps: bool = False


def is_wide(data) -> bool:
    """Return whether X is a table of so many columns that a linear layer can fit any labels.

    Of up to two rows a column it can: T. M. Cover, "Geometrical and Statistical Properties of
    Systems of Linear Inequalities", 1965. Narrower tables are memorized later than they are
    learned: on none of 25 was it worth the time.
    """
    if len(data.X.shape) != 2:
        return False
    is_sparse = hasattr(data.X, "toarray")
    n_columns = len(occurring_columns(data.X)) if is_sparse else data.X.shape[1]
    return 2 * n_columns >= len(data.labels)


def try_relabeling(
    recipe,
    data,
    halves: Halves,
    weights: Tensor,
    other: NoiseModel,
    model_of: Callable,
    epochs: int,
) -> Relabeling | None:
    """Train on judged labels, fold by fold, as long as held-out labels gain; None if it diverged.

    Parameters
    ----------
    recipe, data : NetRecipe, TrainingData
        Of the fit.
    halves : Halves
        The folds.
    weights : Tensor of shape (n,)
        What each label counts.
    other : NoiseModel
        Of networks that were trained on the given labels, or by the method.
    model_of : callable
        Returns the noise model of two networks; None where they diverged.
    epochs : int
        How long to train. Such labels are not memorized: longer does no harm.
    """
    nets = []
    for k, (held_out, seed) in enumerate(zip(halves.held_out, halves.seeds, strict=True)):
        judged = _judge_fold(recipe, data, halves, 1 - k, weights)
        if judged is None:
            return None
        judged = replace(data, label_proba=judged)
        nets.append(train_for(recipe, judged, held_out, seed, GivenLabels(), epochs=epochs))
        del judged
        if k == 0:
            rows, model = _model_of_rows(recipe, data, [held_out], nets, weights)
            if model is None:
                return None
            gained = model.log_likelihood - other.log_likelihood[rows]
            gain = recipe.ranks.first(paired(gained, weights[rows]))
            if gain[0] <= 0:
                return Relabeling(*gain)
    model = model_of(nets, data.given_prior)
    if model is None:
        return None
    gain, _, pooled = recipe.ranks.first(gains(model, other, weights))
    helps = told_apart(gain) and pooled[0] >= -pooled[1]
    return Relabeling(*gain, model, helps)


def _judge_fold(recipe, data, halves, k, weights):
    """Return labels (n, C): those of fold k as networks on its halves judge them, others as given.

    None where such a network diverged. Trusted rows keep their label.
    """
    inner = halves.within(k, data.labels, weights.numpy() > 0)
    train = partial(train_plain, recipe, data, rows=halves.held_out[k])
    nets = inner.each(train, GivenLabels())
    rows, model = _model_of_rows(recipe, data, inner.held_out, nets, weights)
    if model is None:
        return None
    judged = recipe.ranks.zeros((len(data.labels), recipe.n_classes), table_dtype(recipe.module))
    recipe.ranks.once(judged, partial(_write_judged, judged, data, rows, model))
    keep_trusted(judged, data.labels, halves.trusted_rows, recipe.ranks)
    return judged


def _write_judged(judged, data, rows, model):
    data.write_given(judged)
    judged[rows] = posterior(model.proba, model.transition, model.given).to(judged)


def _model_of_rows(recipe, data, held_out, nets, weights):
    """Return the rows (m,) that nets held out, and their noise model; None where nets diverged."""
    rows = torch.cat([torch.from_numpy(part) for part in held_out])
    logits = held_out_logits(recipe, data, held_out, nets, data.given_prior)[0][rows]
    if not all(logits[part].isfinite().all() for part in chunks(logits)):
        return rows, None
    return rows, fit_noise_model(logits, data.given[rows], weights[rows])


def keep_trusted(table: Tensor, labels, trusted_rows, ranks) -> None:
    """Give trusted rows of a table (n, C), which processes may share, their label."""
    rows = torch.from_numpy(trusted_rows)
    known = one_hot(torch.from_numpy(labels)[rows], table.shape[1]).to(table)
    ranks.once(table, lambda: table.index_copy_(0, rows, known))


def begin_with(data, evidence):
    """Return the training data with the labels that the network of a fit begins with."""
    return data if evidence is None or not evidence.is_judged else evidence.judge(data)
