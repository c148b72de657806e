import pytest
import torch
from torch import nn

from sknoisy.training.features import find_feature_layer, logits_and_features, preserved


@pytest.fixture
def net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Dropout(), nn.Linear(12, 5)
    )


def test_features_are_the_input_of_the_last_linear_layer(net):
    X = torch.randn(6, 1, 4, 4)
    logits, features = logits_and_features(net.eval(), X, find_feature_layer(net))
    assert features.shape == (6, 12)
    assert torch.equal(net[4](features), logits)


def test_a_named_layer_gives_its_input_one_row_a_sample(net):
    X = torch.randn(6, 1, 4, 4)
    _, features = logits_and_features(net, X, find_feature_layer(net, "0"))
    assert torch.equal(features, X.flatten(1))


def test_the_hook_is_gone_after_the_pass(net):
    layer = find_feature_layer(net)
    logits_and_features(net, torch.randn(6, 1, 4, 4), layer)
    assert not layer._forward_pre_hooks


def test_no_trace_of_a_train_mode_pass(net):
    """Buffers as before, and the next pass draws the masks that it would have drawn."""
    X = torch.randn(6, 1, 4, 4)
    torch.manual_seed(1)
    expected = net.train()(X)
    state = {k: v.clone() for k, v in net.state_dict().items()}
    torch.manual_seed(1)
    with preserved(net):
        net(X)
    for name, value in net.state_dict().items():
        assert torch.equal(value, state[name])
    assert torch.equal(net(X), expected)


@pytest.mark.parametrize(
    ("module", "name", "message"),
    [
        (nn.Sequential(nn.Conv1d(2, 3, 1)), None, "feature_layer must name .* no nn.Linear"),
        (nn.Sequential(nn.Linear(2, 3)), "head", "feature_layer must name a layer .* 'head': 0"),
    ],
)
def test_missing_layers_are_named(module, name, message):
    with pytest.raises(ValueError, match=message):
        find_feature_layer(module, name)


def test_a_layer_that_does_not_run_is_reported(net):
    with pytest.raises(ValueError, match="the forward pass runs through"):
        logits_and_features(net, torch.randn(6, 1, 4, 4), nn.Linear(1, 1))
