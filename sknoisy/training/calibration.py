"""The temperature of the last network, told by networks that were trained on halves of the rows.

It takes twice the steps, so that its logits are wider, the more so where training was short; and on
rows that it was trained on a network is surer than on others. Both are measured: calibrated, its
logits there are no wider than those of the halves' networks for rows that they have not seen.
"""

from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor
from torch.utils.data import Subset

from sknoisy.training.noise_model import centered, chunks, fitted_rows


def spread_of(tables: Iterable[Tensor]) -> float:
    """Return the standard deviation of logits (k, C) about the means of their row and class.

    No class prior changes it. Of their sum over the classes, as a number of the whole.
    """
    n_rows, sums, squares = 0, 0.0, 0.0
    for table in tables:
        z = centered(table)
        n_rows += len(z)
        sums, squares = sums + z.sum(dim=0), squares + z.square().sum(dim=0)
    return (squares / n_rows - (sums / n_rows).square()).sum().clamp_min(0).sqrt().item()


def held_out_spread(logits: Tensor, weights: Tensor) -> float:
    """Return the spread of the held-out logits (n, C) of rows that count by their weights (n,)."""
    return spread_of(logits[rows][weights[rows] > 0] for rows in chunks(logits))


def calibrated(evidence, net, X, ranks):
    """Return the evidence with the temperature of a fitted net, as wide as its logits for X."""
    if evidence is None or not evidence.spread > 0:  # nan in what earlier versions gathered
        return evidence
    is_counted = torch.from_numpy(evidence.is_held_out.copy())
    sample = torch.arange(len(is_counted))[fitted_rows(net.criterion_.targets[: len(is_counted)])]
    rows = sample[is_counted[sample]].sort().values.numpy()
    spread = spread_of(net.forward_iter(Subset(net.get_dataset(X), rows)))
    wider = ranks.first(max(1.0, spread / evidence.spread))
    return replace(evidence, temperature=evidence.temperature * wider)
