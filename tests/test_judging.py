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
def test_noise_that_spreads_evenly_is_enough_and_its_rate_and_temperature_are_found(rate):
    logits, _, given = drawn(4000, 4, spread_noise(rate, 4), 2.0)
    model = fit_noise_model(logits, given)
    found = fit_symmetric_noise(model, torch.ones(4000))
    assert found.is_enough
    assert found.rate == pytest.approx(rate, abs=0.02)
    assert model.temperature / found.power == pytest.approx(2.0, rel=0.15)
    by_hand = posterior(model.proba, spread_noise(found.rate, 4), given, found.power)
    assert (found.posterior(model) == by_hand).all()


def test_noise_of_pairs_is_more_once_rows_tell_of_it():
    logits, _, given = drawn(2000, 4, pairs(0.3, 4), 1.0)
    model = fit_noise_model(logits, given)
    found = fit_symmetric_noise(model, torch.ones(2000))
    assert not found.is_enough
    assert (found.posterior(model) == posterior(model.proba, model.transition, given)).all()
    few = fit_noise_model(logits[:30], given[:30])
    assert fit_symmetric_noise(few, torch.ones(30)).is_enough


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.2])
def test_what_a_network_of_few_rows_confuses_does_not_overrule_right_labels(rate):
    """A full matrix takes its bias for mistakes of people."""
    by_matrix = judged = as_given = 0
    for seed in range(5):
        logits, classes, given = drawn(200, 3, spread_noise(rate, 3), 1.0, bias=1.0, seed=seed)
        model = fit_noise_model(logits, given)
        found = fit_symmetric_noise(model, torch.ones(200)).posterior(model).argmax(1)
        judged += (found != classes).sum().item()
        found = posterior(model.proba, model.transition, given).argmax(1)
        by_matrix += (found != classes).sum().item()
        as_given += (given != classes).sum().item()
    assert judged < by_matrix - 10  # of 1,000
    assert judged < as_given + 5


@pytest.mark.parametrize("transition", [pairs(0.25, 3), spread_noise(0.25, 3)])
def test_weights_count_as_they_relate_and_rows_without_any_not_at_all(transition):
    logits, _, given = drawn(600, 3, transition, 1.0)
    weights = torch.where(torch.arange(600) < 300, 1.0, 0.0)
    half = fit_symmetric_noise(fit_noise_model(logits[:300], given[:300]), torch.ones(300))
    model = fit_noise_model(logits, given, weights)
    for scale in (1.0, 100.0):
        assert vars(fit_symmetric_noise(model, scale * weights)) == pytest.approx(vars(half))


def test_trusted_rows_tell_the_temperature_of_symmetric_noise_too():
    logits, classes, given = drawn(400, 3, spread_noise(0.2, 3), 3.0)
    known = logits[:50], classes[:50]
    model = fit_noise_model(logits[50:], given[50:], known=known)
    assert fit_symmetric_noise(model, torch.ones(350)).power == pytest.approx(1)


def test_a_sample_of_the_rows_tells_nearly_the_same(monkeypatch):
    logits, _, given = drawn(6000, 4, spread_noise(0.3, 4), 1.5)
    model = fit_noise_model(logits, given)
    whole = fit_symmetric_noise(model, torch.ones(6000))
    monkeypatch.setattr(noise_model, "MOST_FITTED", 12_000)
    sample = fit_symmetric_noise(model, torch.ones(6000))
    assert vars(sample) == pytest.approx(vars(whole), abs=0.05)
    assert sample.rate != whole.rate


def test_a_power_sharpens_predictions_before_labels_are_weighed():
    proba = torch.tensor([[0.6, 0.3, 0.1], [0.2, 0.2, 0.6]])
    matrix, given = spread_noise(0.3, 3), torch.tensor([1, 0])
    expected = proba.double() ** 0.5 * matrix.T[given]
    expected /= expected.sum(dim=1, keepdim=True)
    found = posterior(proba, matrix, given, 0.5)
    torch.testing.assert_close(found, expected.float())
    of_table = posterior(proba, matrix, torch.eye(3)[given], 0.5)
    torch.testing.assert_close(of_table, expected.float())
