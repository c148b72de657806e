import numpy as np
import pytest
import torch
from skorch import NeuralNet
from skorch.dataset import ValidSplit
from torch import nn
from torch.nn.functional import cross_entropy, softmax

from sknoisy import ALRClassifier
from sknoisy.functional import BatchLabels, blend, soft_cross_entropy
from sknoisy.training.data import BatchLoader, RowDataset
from sknoisy.training.refine_labels import RefineLabels, refinement_loss
from sknoisy.training.targets import SoftTargetLoss


@pytest.fixture
def batch():
    torch.manual_seed(0)
    logits = torch.randn(6, 4, dtype=torch.float64)
    return logits, torch.rand(6, 4, dtype=torch.float64).softmax(dim=1)


class ConstantNet(nn.Module):
    """Predicts the same distribution for every row, whatever it learns."""

    def __init__(self, probabilities):
        super().__init__()
        self.register_buffer("log_p", torch.tensor(probabilities).log())
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, X):
        return self.log_p.expand(len(X), -1) + 0 * self.unused


def test_gradient_is_the_derived_one(batch):
    """dL/dz_c = m (p_c - T_old,c) - lam p_c (log p_c + H(p)), the update before the loss."""
    logits, old = batch
    m, lam = 0.8, 0.3
    z = logits.float().requires_grad_()
    p = softmax(z.detach(), dim=1)
    refinement_loss(z, BatchLabels(blend(old.float(), p, m)), entropy_weight=lam).backward()
    H = -(p * p.log()).sum(1, keepdim=True)
    expected = (m * (p - old.float()) - lam * p * (p.log() + H)) / len(z)
    torch.testing.assert_close(z.grad, expected)


def test_entropy_force_vanishes_at_uniform_and_at_one_hot():
    for logits in (torch.zeros(1, 4), torch.tensor([[200.0, 0.0, 0.0, 0.0]])):
        z = logits.clone().requires_grad_()
        refinement_loss(z, BatchLabels(torch.zeros(1, 4)), entropy_weight=1.0).backward()
        torch.testing.assert_close(z.grad, torch.zeros(1, 4))


def test_entropy_weight_zero_is_cross_entropy(batch):
    logits, labels = batch[0], BatchLabels(batch[1])
    assert torch.equal(
        refinement_loss(logits, labels, entropy_weight=0.0), soft_cross_entropy(logits, labels)
    )


def test_soft_labels_follow_the_closed_form_under_constant_predictions():
    """T_k = m^k one-hot + (1 - m^k) p: one update a row an epoch, at any batch size."""
    p, m, epochs, warmup = [0.7, 0.2, 0.1], 0.8, 7, 2
    y = np.array([0, 1, 2, 2, 1, 0, 1])
    for batch_size in (2, 3, 100):
        clf = ALRClassifier(
            ConstantNet(p),
            momentum=m,
            warmup_epochs=warmup,
            max_epochs=epochs,
            batch_size=batch_size,
        ).fit(np.zeros((7, 1)), y)
        kept = m ** (epochs - warmup)
        expected = kept * np.eye(3)[y] + (1 - kept) * np.array(p)
        np.testing.assert_allclose(clf.soft_labels_, expected, atol=1e-6)


def test_momentum_one_is_cross_entropy_training_bit_for_bit(blobs):
    X, y, _ = blobs

    def network():
        torch.manual_seed(3)
        return nn.Sequential(nn.Linear(10, 16), nn.Tanh(), nn.Linear(16, 4))

    clf = ALRClassifier(
        network(), momentum=1.0, entropy_weight=0.0, max_epochs=4, random_state=0
    ).fit(X, y)
    seed = np.random.RandomState(0).randint(np.iinfo(np.int32).max)
    reference = network()
    optimizer = torch.optim.AdamW(reference.parameters(), lr=0.001, fused=True)
    loader = BatchLoader(RowDataset(X, np.arange(len(X))), batch_size=128, shuffle=True)
    loader.draw_by(np.random.default_rng(seed))
    for _ in range(4):
        for x, rows in loader:
            optimizer.zero_grad()
            cross_entropy(reference(x), torch.from_numpy(y)[rows]).backward()
            optimizer.step()
    for ours, theirs in zip(clf.module_.parameters(), reference.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    np.testing.assert_array_equal(clf.soft_labels_, np.eye(4)[y])


def test_matches_the_method_written_as_one_loop(blobs):
    """Reference loop: forward, update the labels, loss on the updated labels, step."""
    X, y, _ = blobs
    m, lam, warmup, epochs = 0.7, 0.4, 1, 4
    torch.manual_seed(3)
    start = nn.Sequential(nn.Linear(10, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4))
    clf = ALRClassifier(
        start,
        momentum=m,
        entropy_weight=lam,
        warmup_epochs=warmup,
        max_epochs=epochs,
        batch_size=50,
        random_state=0,
    ).fit(X, y)
    optimizer = torch.optim.AdamW(start.parameters(), lr=0.001, fused=True)
    table = torch.eye(4)[y]
    seed = np.random.RandomState(0).randint(np.iinfo(np.int32).max)
    loader = BatchLoader(RowDataset(X, np.arange(len(X))), batch_size=50, shuffle=True)
    loader.draw_by(np.random.default_rng(seed))
    for epoch in range(epochs):
        for x, rows in loader:
            logits = start(x)
            log_p = logits.log_softmax(1)
            p = log_p.exp()
            loss = -(table[rows] * log_p).sum(1).mean()
            if epoch >= warmup:
                table[rows] = m * table[rows] + (1 - m) * p.detach()
                loss = -(table[rows] * log_p).sum(1).mean() - lam * (p * log_p).sum(1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    np.testing.assert_allclose(clf.soft_labels_, table, atol=1e-5)


def test_held_out_rows_keep_their_given_label_in_training_and_end_as_the_prediction(blobs):
    X, y, _ = blobs
    seen = []

    class Watch(RefineLabels):
        def on_epoch_end(self, net, dataset_valid, **kwargs):
            seen.append(net.criterion_.targets[dataset_valid.indices].clone())

    clf = ALRClassifier(max_epochs=4, train_split=ValidSplit(4, stratified=True), random_state=0)
    make = clf._label_callback
    clf._label_callback = lambda *args: Watch(**make(*args).get_params())
    clf.fit(X, y)
    _, held_out = clf.net_.get_split_datasets(X, np.arange(len(X)))
    rows = held_out.indices
    assert len(rows) == len(X) // 4
    for table in seen:
        np.testing.assert_array_equal(table, np.eye(4)[y[rows]])
    np.testing.assert_allclose(clf.soft_labels_[rows], clf.predict_proba(X[rows]), atol=1e-6)


@pytest.mark.slow
def test_labels_get_cleaner(blobs):
    X, y, true = blobs
    clf = ALRClassifier(random_state=0).fit(X, y)
    believed = clf.soft_labels_.argmax(axis=1)
    assert (believed == true).mean() > (y == true).mean() + 0.1
    np.testing.assert_allclose(clf.soft_labels_.sum(axis=1), 1, atol=1e-5)


def test_hook_writes_the_rows_of_the_batch_alone():
    """The callback without a net: a stand-in with a criterion and a history."""

    class Net:
        criterion_ = SoftTargetLoss(torch.eye(3))
        history = [1, 2]  # noqa: RUF012

    callback = RefineLabels(momentum=0.5, warmup_epochs=1)
    callback.before_loss(Net, torch.zeros(1, 3), torch.tensor([1]))
    expected = torch.tensor([[1, 0, 0], [1 / 6, 2 / 3, 1 / 6], [0, 0, 1]])
    torch.testing.assert_close(Net.criterion_.targets, expected)
    Net.history = [1]
    callback.before_loss(Net, torch.zeros(1, 3), torch.tensor([0]))
    torch.testing.assert_close(Net.criterion_.targets, expected)


def test_callback_and_criterion_work_in_a_plain_skorch_net(blobs):
    X, y, true = blobs
    torch.manual_seed(0)
    net = NeuralNet(
        nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 4)),
        criterion=SoftTargetLoss(torch.eye(4)[y]),
        callbacks=[RefineLabels()],
        optimizer=torch.optim.Adam,
        lr=0.01,
        max_epochs=30,
        train_split=None,
        iterator_train__shuffle=True,
        verbose=0,
    ).fit(X, np.arange(len(X)))
    believed = net.criterion_.targets.argmax(1).numpy()
    assert (believed == true).mean() > (y == true).mean() + 0.05


def test_short_runs_do_not_fall_behind_cross_entropy(blobs):
    X, y, true = blobs
    for epochs in (2, 3, 6):
        params = {"max_epochs": epochs, "random_state": 0}
        plain = ALRClassifier(momentum=1.0, entropy_weight=0.0, **params).fit(X, y)
        refined = ALRClassifier(**params).fit(X, y)
        assert refined.score(X, true) > plain.score(X, true) - 0.05


def test_closures_run_several_times_a_step_move_labels_once(blobs):
    X, y, _ = blobs
    clf = ALRClassifier(
        ConstantNet([0.4, 0.3, 0.2, 0.1]),
        optimizer=torch.optim.LBFGS,
        lr=1.0,
        momentum=0.5,
        warmup_epochs=1,
        max_epochs=2,
        batch_size=-1,
    ).fit(X, y)
    expected = 0.5 * np.eye(4)[y] + 0.5 * np.array([0.4, 0.3, 0.2, 0.1])
    np.testing.assert_allclose(clf.soft_labels_, expected, atol=1e-6)


def test_no_epoch_left_to_refine_warns(blobs):
    X, y, _ = blobs
    with pytest.warns(UserWarning, match="max_epochs must exceed warmup_epochs"):
        ALRClassifier(max_epochs=2, warmup_epochs=2).fit(X, y)


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"momentum": 1.5}, ValueError, "momentum == 1.5, must be <= 1; or pass 'auto'"),
        ({"momentum": float("nan")}, ValueError, "finite, got nan; or pass 'auto'"),
        ({"momentum": "Auto"}, ValueError, "momentum must be 'auto' or a number, got 'Auto'"),
        ({"momentum": None}, TypeError, "float, not NoneType; or pass 'auto'"),
        ({"entropy_weight": -0.1}, ValueError, r"entropy_weight == -0.1, must be >= 0\.$"),
        ({"warmup_epochs": -1}, ValueError, "warmup_epochs == -1, must be >= 0"),
        ({"warmup_epochs": 1.5}, TypeError, "warmup_epochs must be an instance of int"),
    ],
)
def test_out_of_range_parameters_are_refused(blobs, params, error, message):
    X, y, _ = blobs
    with pytest.raises(error, match=message):
        ALRClassifier(**params).fit(X, y)
