"""By which noise single labels are judged."""

import pytest
import torch

from sknoisy.training import noise_model
from sknoisy.training.judging import fit_symmetric_noise, posterior
from sknoisy.training.noise_model import fit_noise_model, spread_noise

pytestmark = pytest.mark.evidence


def drawn(n, n_classes, transition, temperature, bias=0.0, scale=3.0, seed=0):
    """Logits, classes, and given labels of rows; logits are wrong by a bias of the first class."""
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(n, n_classes, generator=generator, dtype=torch.float64)
    classes = torch.multinomial((logits / temperature).softmax(1), 1, generator=generator)[:, 0]
    given = torch.multinomial(transition[classes], 1, generator=generator)[:, 0]
    logits[:, 0] += bias
    return logits, classes, given


def pairs(rate, n_classes):
    eye = torch.eye(n_classes, dtype=torch.float64)
    return (1 - rate) * eye + rate * eye.roll(1, dims=1)


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.3])
def test_noise_that_spreads_evenly_is_enough_and_its_rate_is_found(rate):
    logits, _, given = drawn(4000, 4, spread_noise(rate, 4), 2.0)
    model = fit_noise_model(logits, given)
    found, is_enough = fit_symmetric_noise(model, torch.ones(4000))
    assert is_enough
    assert found == pytest.approx(rate, abs=0.02)


def test_noise_of_pairs_is_more_once_rows_tell_of_it():
    logits, _, given = drawn(2000, 4, pairs(0.3, 4), 1.0)
    model = fit_noise_model(logits, given)
    assert not fit_symmetric_noise(model, torch.ones(2000))[1]
    few = fit_noise_model(logits[:30], given[:30])
    assert fit_symmetric_noise(few, torch.ones(30))[1]


def test_pairs_that_are_too_few_to_be_told_are_corrected_all_the_same():
    logits, classes, given = drawn(300, 10, pairs(0.2, 10), 1.0, scale=8.0)
    model = fit_noise_model(logits, given)
    rate, is_enough = fit_symmetric_noise(model, torch.ones(300))
    assert is_enough
    assert rate > 0.1
    found = posterior(model.proba, spread_noise(rate, 10), given).argmax(1)
    left = (found != classes).sum()
    assert left < (given != classes).sum() / 2


@pytest.mark.parametrize("heavy", [1e3, 1e12])
def test_a_row_that_outweighs_all_others_does_not_tell_of_a_matrix(heavy):
    logits, _, given = drawn(120, 3, spread_noise(0.2, 3), 1.0)
    weights = torch.ones(120).index_fill(0, torch.tensor([5]), heavy)
    model = fit_noise_model(logits, given, weights)
    assert fit_symmetric_noise(model, weights)[1]


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.2])
def test_what_a_network_of_few_rows_confuses_does_not_overrule_right_labels(rate):
    """A full matrix takes its bias for mistakes of people."""
    by_matrix = judged = as_given = 0
    for seed in range(5):
        logits, classes, given = drawn(200, 3, spread_noise(rate, 3), 1.0, bias=1.0, seed=seed)
        model = fit_noise_model(logits, given)
        symmetric, is_enough = fit_symmetric_noise(model, torch.ones(200))
        assert is_enough
        found = posterior(model.proba, spread_noise(symmetric, 3), given).argmax(1)
        judged += (found != classes).sum().item()
        found = posterior(model.proba, model.transition, given).argmax(1)
        by_matrix += (found != classes).sum().item()
        as_given += (given != classes).sum().item()
    assert judged < by_matrix - 10  # of 1,000
    assert judged < as_given + 10


@pytest.mark.parametrize("transition", [pairs(0.25, 3), spread_noise(0.25, 3)])
def test_weights_count_as_they_relate_and_rows_without_any_not_at_all(transition):
    logits, _, given = drawn(600, 3, transition, 1.0)
    weights = torch.where(torch.arange(600) < 300, 1.0, 0.0)
    half = fit_symmetric_noise(fit_noise_model(logits[:300], given[:300]), torch.ones(300))
    model = fit_noise_model(logits, given, weights)
    for scale in (1.0, 100.0):
        assert fit_symmetric_noise(model, scale * weights) == pytest.approx(half)


def test_a_sample_of_the_rows_tells_nearly_the_same(monkeypatch):
    logits, _, given = drawn(6000, 4, spread_noise(0.3, 4), 1.5)
    model = fit_noise_model(logits, given)
    whole = fit_symmetric_noise(model, torch.ones(6000))
    monkeypatch.setattr(noise_model, "MOST_FITTED", 12_000)
    sample = fit_symmetric_noise(model, torch.ones(6000))
    assert sample == pytest.approx(whole, abs=0.05)
    assert sample[0] != whole[0]
