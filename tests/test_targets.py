import pytest
import torch
from torch.nn.functional import cross_entropy

from sknoisy.functional import BatchLabels, blend, soft_cross_entropy
from sknoisy.training import targets
from sknoisy.training.targets import SoftTargetLoss


def test_one_hot_targets_give_torchs_cross_entropy():
    logits, labels = torch.randn(5, 3, dtype=torch.float32), torch.tensor([0, 2, 1, 1, 0])
    expected = cross_entropy(logits, labels)
    torch.testing.assert_close(
        soft_cross_entropy(logits, BatchLabels(torch.eye(3)[labels])), expected
    )


def test_half_precision_logits_give_a_float32_loss():
    loss = soft_cross_entropy(
        torch.randn(4, 3, dtype=torch.bfloat16), BatchLabels(torch.full((4, 3), 1 / 3))
    )
    assert loss.dtype == torch.float32


def test_blend_hand_values():
    old, new = torch.tensor([1.0, 0.0]), torch.tensor([0.5, 0.5])
    torch.testing.assert_close(blend(old, new, 0.8), torch.tensor([0.9, 0.1]))
    assert torch.equal(blend(old, new, 1.0), old)
    assert torch.equal(blend(old, new, 0.0), new)


def test_criterion_reads_the_rows_that_it_is_given():
    criterion = SoftTargetLoss(torch.eye(3))
    logits = torch.randn(2, 3)
    expected = cross_entropy(logits, torch.tensor([2, 0]))
    assert torch.equal(criterion(logits, torch.tensor([2, 0])), expected)


def test_a_mixed_batch_is_scored_against_its_mixed_labels():
    criterion = SoftTargetLoss(torch.eye(3))
    logits, matrix = torch.randn(2, 3), torch.tensor([[0.5, 0.25, 0.25], [0.0, 0.1, 0.9]])
    rows = torch.tensor([2, 0, 1])
    mixed = torch.tensor([[0.25, 0.25, 0.5], [0.1, 0.9, 0.0]])
    torch.testing.assert_close(criterion(logits, [rows, matrix]), cross_entropy(logits, mixed))


def test_a_loss_is_told_the_given_labels_whatever_the_table_says():
    criterion = SoftTargetLoss(torch.eye(3), weights=torch.tensor([1.0, 2.0, 3.0]))
    criterion.lengthen(1)  # a row without a given label
    criterion.targets.fill_(1 / 3)
    rows, matrix = torch.tensor([2, 0, 3]), torch.tensor([[0.5, 0.3, 0.2]])
    labels, mixed = criterion.labels_of(rows), criterion.labels_of([rows, matrix])
    given = torch.tensor([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    assert torch.equal(labels.given, given)
    torch.testing.assert_close(mixed.given, matrix @ given)
    assert labels.weights.tolist() == [3, 1, 1]
    assert torch.equal(labels[:2].given, given[:2])
    assert torch.equal(labels[1:].weights, labels.weights[1:])


def test_a_mixed_batch_weighs_as_its_parts_do():
    criterion = SoftTargetLoss(torch.eye(3), weights=torch.tensor([1.0, 2.0, 6.0]))
    matrix, rows = torch.tensor([[0.5, 0.25, 0.25], [0.0, 0.0, 1.0]]), torch.tensor([2, 0, 1])
    assert criterion.labels_of([rows, matrix]).weights.tolist() == [3.75, 2.0]


def test_a_class_predicted_too_rarely_is_lifted_to_its_prior_and_no_other_is_changed():
    logits, prior = torch.randn(6, 3), torch.tensor([0.5, 0.2, 0.3])
    criterion = SoftTargetLoss(torch.eye(3), class_prior=prior)
    assert torch.equal(criterion.as_labels(logits), logits)  # nothing was predicted yet
    criterion.predicted = torch.tensor([0.6, 0.05, 0.35])
    odds = logits.softmax(1) * torch.tensor([1.0, 4.0, 1.0])
    shifted = criterion.as_labels(logits).softmax(1)
    torch.testing.assert_close(shifted, odds / odds.sum(1, keepdim=True))
    criterion.predicted = torch.zeros(3)
    assert criterion.as_labels(logits).isfinite().all()


def test_what_class_weights_do_to_predictions_is_taken_back_to_the_prior():
    logits = torch.randn(6, 2)
    weights, prior = torch.tensor([1.0, 9.0]), torch.tensor([0.9, 0.1])
    criterion = SoftTargetLoss(torch.eye(2), torch.ones(2), weights, prior)
    criterion.predicted = torch.tensor([0.5, 0.5])
    odds = logits.softmax(1) * torch.tensor([1.8, 0.2])
    shifted = criterion.as_labels(logits).softmax(1)
    torch.testing.assert_close(shifted, odds / odds.sum(1, keepdim=True))


def test_a_class_of_weight_zero_is_not_lifted():
    logits, weights = torch.randn(6, 2), torch.tensor([1.0, 0.0])
    criterion = SoftTargetLoss(torch.eye(2), torch.ones(2), weights, torch.tensor([0.5, 0.5]))
    criterion.predicted = torch.tensor([0.5, 0.01])
    torch.testing.assert_close(criterion.as_labels(logits), logits)


def test_predictions_are_counted_as_their_rows_weigh_without_class_weights():
    class_weights, weights = torch.tensor([1.0, 3.0]), torch.tensor([2.0, 3.0, 0.0])
    criterion = SoftTargetLoss(torch.eye(2)[[0, 1, 1]], weights, class_weights)
    logits, rows = torch.randn(3, 2), torch.tensor([2, 0, 1])
    p = logits.softmax(1)
    torch.testing.assert_close(criterion.count_predictions(logits, rows), 2 * p[1] + p[2])


def test_a_class_is_lost_when_no_soft_label_favors_it():
    criterion = SoftTargetLoss(torch.eye(3), weights=torch.tensor([1.0, 1.0, 0.0]))
    assert criterion.lost_classes() == []
    criterion.targets[1:] = torch.tensor([0.8, 0.1, 0.1])
    assert criterion.lost_classes() == [1]  # what weighs nothing cannot be lost


def test_held_out_batches_are_scored_by_cross_entropy_in_every_phase():
    criterion = SoftTargetLoss(torch.eye(3)).eval()
    criterion.loss = lambda logits, labels: pytest.fail("training loss on a held-out batch")
    assert criterion(torch.zeros(3, 3), torch.arange(3)).item() == pytest.approx(1.0986, abs=1e-4)


def test_table_is_a_buffer_and_no_parameter():
    criterion = SoftTargetLoss(torch.eye(3))
    assert list(criterion.state_dict()) == ["targets", "given"]
    assert not list(criterion.parameters())


def test_a_table_with_room_is_lengthened_without_a_copy():
    table = torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, 0, 0], [0, 0, 0]])[:2]
    criterion = SoftTargetLoss(table, weights=torch.ones(2))
    criterion.lengthen(2)
    assert criterion.targets.data_ptr() == table.data_ptr()
    assert criterion.targets.tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 0], [0, 0, 0]]
    criterion.lengthen(1)  # there is no more room
    assert criterion.targets.data_ptr() != table.data_ptr()
    assert criterion.targets.shape == (5, 3)
    assert criterion.weights.tolist() == [1] * 5


def test_what_is_reverted_in_parts_is_what_is_reverted_whole(monkeypatch):
    tables = []
    for n_rows in (2, 100):
        monkeypatch.setattr(targets, "ROWS_AT_ONCE", n_rows)
        given = torch.eye(3)[torch.arange(9) % 3]
        proba = given * 0.6 + 0.2 * given.roll(1, dims=1) + 0.2 / 3
        criterion = SoftTargetLoss(proba, torch.ones(9), given=torch.arange(9) % 3)
        criterion.targets[:] = torch.rand(9, 3, generator=torch.Generator().manual_seed(0))
        criterion.revert(criterion.to_revert(0.4, torch.arange(9)))
        tables.append(criterion.targets.clone())
    assert torch.equal(*tables)
