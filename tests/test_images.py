import pickle
import warnings
from typing import ClassVar

import numpy as np
import pytest
import torch
import torchvision
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, cross_val_score
from skorch.callbacks import Callback, LRScheduler
from skorch.dataset import ValidSplit
from skorch.exceptions import DeviceWarning
from skorch.helper import SliceDataset
from torch import nn
from torch.utils.data import Dataset, Subset, TensorDataset
from torchvision.transforms import v2

from sknoisy import ALRClassifier, MetaLabelNetClassifier, SyntheticMixClassifier
from sknoisy.networks.augmentation import RandomCropFlip
from sknoisy.networks.resnet import SmallResNet
from sknoisy.networks.standardize import StandardizeChannels
from sknoisy.networks.torchvision import from_torchvision, replace_head, replace_stem
from sknoisy.synthetic_mix.equations import mix

FAST = {"module__width": 4, "max_epochs": 4, "random_state": 0}
pytestmark = [
    pytest.mark.filterwarnings("ignore:No trusted rows were given"),
    pytest.mark.filterwarnings("ignore:target_momentum"),
]


@pytest.fixture(scope="module")
def digits():
    """200 grey images (n, 8, 8) of type uint8, up to 255, and their labels."""
    images, y = load_digits(return_X_y=True)
    return (images[:200] / 16 * 255).astype(np.uint8).reshape(-1, 8, 8), y[:200]


class Images(Dataset):
    """Pairs that count how often they are read."""

    def __init__(self, X, y):
        self.X, self.y, self.reads = torch.from_numpy(X), y, 0

    def __len__(self):
        return len(self.X)

    def __getitem__(self, index):
        self.reads += 1
        return self.X[index], int(self.y[index])


class Recorder(nn.Module):
    """Network that keeps what it was fed, with the mode it was in."""

    fed: ClassVar = []  # shared with copies: the frozen features are one

    def __init__(self):
        super().__init__()
        self.hidden, self.head = nn.Linear(64, 8), nn.Linear(8, 10)

    def forward(self, X):
        self.fed.append((self.training, X.detach().clone()))
        return self.head(self.hidden(X.flatten(1)).relu())


@pytest.mark.slow
def test_bytes_train_as_their_unit_floats(method, digits):
    X, y = digits
    floats = (X / np.float32(255)).astype(np.float32)
    expected = method(**FAST).fit(floats, y)
    found = method(**FAST).fit(X, y)
    np.testing.assert_allclose(found.soft_labels_, expected.soft_labels_, atol=1e-4)
    np.testing.assert_allclose(found.predict_proba(X), expected.predict_proba(floats), atol=1e-4)


@pytest.mark.slow
def test_transposed_images_train_as_their_copies(method, digits):
    X, y = digits[0][..., None].repeat(3, axis=3), digits[1]
    X = X.transpose(0, 3, 1, 2)
    expected = method(**FAST).fit(X.copy(), y).soft_labels_
    np.testing.assert_allclose(method(**FAST).fit(X, y).soft_labels_, expected, atol=1e-4)


def test_bytes_stay_bytes_in_memory(method, digits, monkeypatch):
    X, y = digits
    seen = []

    def build(module, params, rows, n_classes):
        seen.append(rows)
        return SmallResNet(1, n_classes, width=4)

    monkeypatch.setattr("sknoisy.training.recipe.build_module", build)
    method(max_epochs=3).fit(X, y)
    assert seen[0].dtype == np.uint8
    assert np.shares_memory(seen[0], X)


@pytest.mark.slow
@pytest.mark.parametrize("wrap", [lambda X: X, TensorDataset], ids=["array", "Dataset"])
def test_bytes_and_floats_are_not_confused(digits, wrap):
    X, y = torch.from_numpy(digits[0]), digits[1]
    clf = ALRClassifier(**FAST).fit(X, y)
    with pytest.raises(ValueError, match=r"or floats in \[0, 1\], got numbers up to 255"):
        clf.predict(wrap(X.float()))
    clf.predict(wrap(X / 255))
    clf.fit(X / 255, y)
    with pytest.raises(ValueError, match=r"must hold floats as in fit, got uint8 .* pass X / 255"):
        clf.predict(wrap(X))
    with pytest.raises(ValueError, match="meta_X must be rows like those of X: .* got uint8"):
        MetaLabelNetClassifier(**FAST).fit(X / 255, y, meta_X=(wrap(X),), meta_y=(y,))


def test_mixing_with_far_neighbors_scales_and_augments_them_too(digits, monkeypatch):
    X, y = digits
    fed = []

    def spy(matrix, X):
        fed.append(X.max().item())
        return mix(matrix, X)

    monkeypatch.setattr("sknoisy.synthetic_mix.callback.mix", spy)
    clf = SyntheticMixClassifier(**FAST, neighbors="all", warmup_epochs=0, mix_start=1)
    clf.fit(X, y)
    assert max(fed) == 1
    fed.clear()
    clf.set_params(augment=lambda X: X / 2).fit(X, y)
    assert max(fed) == 0.5


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["other size", "channels last", "flat", "one image"])
def test_images_of_another_shape_are_refused_at_prediction(digits, kind):
    X, y = digits
    X = X[:, None].repeat(3, 1)
    clf = ALRClassifier(**FAST).fit(X, y)
    other = {
        "other size": (X[:, :, 1:], r"rows of shape \(3, 8, 8\), as in fit, got \(3, 7, 8\)"),
        "channels last": (X.transpose(0, 2, 3, 1), "pass X.transpose"),
        "flat": (X.reshape(200, -1), "192 features, but ALRClassifier is expecting 3"),
        "one image": (X[0], r"as in fit, got \(1, 8, 8\)"),
    }
    spoilt, message = other[kind]
    with pytest.raises(ValueError, match=message):
        clf.predict(spoilt)


@pytest.mark.slow
def test_grey_images_get_a_channel(method, digits):
    X, y = digits
    found, expected = method(**FAST).fit(X, y), method(**FAST).fit(X[:, None], y)
    np.testing.assert_array_equal(found.soft_labels_, expected.soft_labels_)
    np.testing.assert_array_equal(found.predict_proba(X), expected.predict_proba(X[:, None]))
    np.testing.assert_array_equal(found.predict_proba(X[:, None]), expected.predict_proba(X))
    assert found.n_features_in_ == 1


def test_rows_of_vectors_are_no_images_for_a_module_of_ones_own(digits):
    X, y = digits
    assert ALRClassifier(Recorder, max_epochs=2).fit(X, y).n_features_in_ == 8


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_channels_last_is_refused_with_the_transposition(method, dtype):
    X = np.zeros((20, 16, 16, 3), dtype=dtype)
    with pytest.raises(ValueError, match=r"\(20, 16, 16, 3\).*pass X.transpose\(0, 3, 1, 2\)"):
        method().fit(X, np.arange(20) % 2)


def test_images_larger_than_64_pixels_get_a_striding_stem():
    small, large = SmallResNet(3, 5), SmallResNet(3, 5, pixels=128)
    assert small(torch.randn(2, 3, 32, 32)).shape == large(torch.randn(2, 3, 128, 128)).shape
    kinds = [type(layer) for layer in large]
    assert nn.MaxPool2d in kinds
    assert nn.MaxPool2d not in [type(layer) for layer in small]


@pytest.mark.slow
def test_the_default_network_learns_digits(method, digits):
    X, y = digits
    clf = method(random_state=0, max_epochs=20, batch_size=32).fit(X, y)
    assert clf.score(X, y) > 0.9


def test_channels_are_standardized_by_the_training_images():
    X = np.random.default_rng(0).normal(3, 2, (300, 2, 5, 5)).astype(np.float32)
    X[:, 1] = 7
    layer = StandardizeChannels(2).fit(X)
    out = layer(torch.from_numpy(X))
    assert out[:, 0].mean().abs() < 1e-5
    assert abs(out[:, 0].std() - 1) < 1e-3
    assert torch.equal(out[:, 1], torch.zeros_like(out[:, 1]))
    bytes_ = (255 * np.random.default_rng(0).random((50, 2, 5, 5))).astype(np.uint8)
    assert abs(StandardizeChannels(2).fit(bytes_).mean.mean() - 0.5) < 0.02


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kernel", "stride"),
    [("resnet18", 3, 1), ("mobilenet_v3_small", 3, 1), ("convnext_tiny", 4, 4)],
)
def test_names_build_torchvisions_networks_sized_to_the_data(name, kernel, stride):
    network = from_torchvision(name, {}, (1, 32, 32), 7).eval()
    stem = next(layer for layer in network.modules() if isinstance(layer, nn.Conv2d))
    assert (stem.in_channels, stem.kernel_size[0], stem.stride[0]) == (1, kernel, stride)
    assert network(torch.randn(2, 1, 32, 32)).shape == (2, 7)


def test_a_large_image_keeps_the_stem_and_a_small_one_loses_the_pooling():
    small = from_torchvision("resnet18", {}, (3, 64, 64), 2).network
    large = from_torchvision("resnet18", {}, (3, 96, 96), 2).network
    assert isinstance(small.maxpool, nn.Identity)
    assert isinstance(large.maxpool, nn.MaxPool2d)
    assert large.conv1.kernel_size == (7, 7)


def test_pretrained_weights_stay_but_for_head_and_stem(monkeypatch):
    torch.manual_seed(0)
    source = torchvision.models.resnet18()
    monkeypatch.setattr(
        torchvision.models.ResNet18_Weights, "get_state_dict", lambda *_, **__: source.state_dict()
    )
    network = from_torchvision("resnet18", {"weights": "DEFAULT"}, (3, 32, 32), 4)
    assert torch.equal(network.network.layer1[0].conv1.weight, source.layer1[0].conv1.weight)
    assert torch.equal(network.network.conv1.weight, source.conv1.weight[:, :, 2:5, 2:5])
    assert network.network.fc.out_features == 4
    constants = network.standardize.mean.flatten().tolist()
    assert constants == pytest.approx([0.485, 0.456, 0.406])
    assert torch.equal(
        network.standardize.fit(np.zeros((4, 3, 2, 2))).mean[0], torch.tensor([[0.485]])
    )
    grey = from_torchvision("resnet18", {"weights": "IMAGENET1K_V1"}, (1, 96, 96), 4).network
    torch.testing.assert_close(grey.conv1.weight, source.conv1.weight.sum(1, keepdim=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_auxiliary_heads_are_left_out(name, monkeypatch):
    torch.manual_seed(0)
    build = getattr(torchvision.models, name)
    source = build(init_weights=False, aux_logits=True).state_dict()
    enum = torchvision.models.get_model_weights(name)
    monkeypatch.setattr(enum, "get_state_dict", lambda *_, **__: source)
    for weights in (None, "DEFAULT"):
        network = from_torchvision(
            name, {"weights": weights, "init_weights": False}, (3, 96, 96), 4
        )
        assert network.train()(torch.randn(2, 3, 96, 96)).shape == (2, 4)


def test_weights_that_cannot_be_downloaded_say_where_they_belong(monkeypatch):
    def fail(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(torchvision.models.ResNet18_Weights, "get_state_dict", fail)
    with pytest.raises(ValueError, match="must be downloaded or lie in .*, got no network; pass"):
        from_torchvision("resnet18", {"weights": "DEFAULT"}, (3, 32, 32), 4)


def test_a_convolution_as_the_last_layer_is_replaced():
    network = torchvision.models.squeezenet1_1()
    replace_head(network, 3)
    replace_stem(network, 2, True, keep_weights=False)
    assert network.eval()(torch.randn(2, 2, 32, 32)).shape == (2, 3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"module": "resnet19"}, "got 'resnet19': did you mean 'resnet1"),
        ({"module": "resnet18", "module__weights": "V7"}, r"module__weights must be .* got 'V7'"),
        ({"module": "resnet18", "module__depth": 3}, "'resnet18' could not be built .* 'depth'"),
        ({"augment": "crop"}, "augment must be None, 'auto' or a callable, no class, got 'crop'"),
        ({"augment": v2.RandomHorizontalFlip}, "augment must be .* no class, got <class"),
        ({"augment": lambda X: X[:3]}, r"augment must return a batch .* got .* of shape \(3, 1, 8"),
        ({"augment": lambda X: X.double()}, "augment must return a batch .* got torch.float64"),
        ({"augment": lambda X: None}, "augment must return a batch .* got NoneType"),
        (
            {"module": "vit_b_16", "module__image_size": 64},
            "must process batches .* AssertionError",
        ),
        ({"amp": "bf8"}, "amp must be False, 'bf16' or 'fp16', got 'bf8'"),
    ],
)
def test_bad_image_parameters_are_named(digits, params, message):
    with pytest.raises(ValueError, match=message):
        ALRClassifier(**params).fit(*digits)


def test_a_name_needs_images_and_auto_augmentation_too():
    X, y = np.random.default_rng(0).normal(size=(20, 4)), np.arange(20) % 2
    with pytest.raises(ValueError, match="module='resnet18' needs images .* \\(20, 4\\)"):
        ALRClassifier("resnet18").fit(X, y)
    with pytest.raises(ValueError, match=r"augment='auto' needs images, got rows of shape \(4,\)"):
        ALRClassifier(augment="auto").fit(X, y)


def test_each_image_is_a_crop_of_its_own_padded_self():
    torch.manual_seed(0)
    X = torch.rand(30, 3, 6, 5)
    moved = RandomCropFlip(padding=2)(X)
    padded = nn.functional.pad(X, [2] * 4)
    places = set()
    for image, whole in zip(moved, padded, strict=True):
        found = [
            (row, column, flipped)
            for flipped, source in ((False, whole), (True, whole.flip(2)))
            for row in range(5)
            for column in range(5)
            if torch.equal(source[:, row : row + 6, column : column + 5], image)
        ]
        assert found
        places.add(found[0])
    assert len(places) > 15
    assert {flipped for _, _, flipped in places} == {False, True}
    assert torch.equal(RandomCropFlip(padding=0, flip=False)(X), X)


def test_grey_images_are_not_mirrored():
    X = torch.arange(8.0).expand(50, 1, 1, 8)
    assert (RandomCropFlip(padding=0)(X) == X).all()
    assert (RandomCropFlip(padding=0, flip=True)(X) != X).any()


def test_training_sees_augmented_images_and_evaluations_plain_ones(method, digits):
    X, y = digits
    Recorder.fed.clear()
    clf = method(Recorder, max_epochs=6, augment=lambda X: 0 * X + 2, train_split=ValidSplit(4))
    clf.fit(X, y).predict(X)
    training = [X for is_training, X in Recorder.fed if is_training]
    plain = [X for is_training, X in Recorder.fed if not is_training]
    assert all(torch.allclose(X, torch.full_like(X, 2)) for X in training)
    if method in (MetaLabelNetClassifier, SyntheticMixClassifier):  # features are of rows as fed
        plain = [X for X in plain if X.min() != 2]
    assert all(X.max() <= 1 for X in plain)
    assert len(plain) > 1


def test_frozen_features_see_the_view_of_the_classifier(digits):
    X, y = digits
    Recorder.fed.clear()
    noise = v2.Lambda(lambda X: X + torch.rand(len(X), 1, 1))
    clf = MetaLabelNetClassifier(Recorder, max_epochs=3, warmup_epochs=1, augment=noise)
    clf.fit(X, y, trusted=np.arange(len(y)) < 100)
    views = [X for is_training, X in Recorder.fed if not is_training and X.max() > 1]
    trained = [X for is_training, X in Recorder.fed if is_training]
    assert len(views) == 2 * 2  # two epochs of two batches after the warm-up
    for view in views:
        assert any(len(X) >= len(view) and torch.equal(X[: len(view)], view) for X in trained)


@pytest.mark.slow
def test_a_dataset_trains_like_its_arrays(method, digits):
    X, y = digits
    expected = method(**FAST).fit(X, y)
    kinds = (
        (Images(X[:, None], y), None),
        (Images(X, np.zeros(200)), y),
        (Images(X, y), None),  # a channel is added to grey ones
        (TensorDataset(torch.from_numpy(X), torch.from_numpy(y)), None),
        (TensorDataset(torch.from_numpy(X)), y),
        (Subset(Images(X, y), range(200)), y),
        (list(Images(X, y)), None),
        ([[row, label] for row, label in zip(X, y, strict=True)], None),
        (list(torch.from_numpy(X)), y),
        (SliceDataset(Images(X, y)), y),
    )
    # What methods see is the same for every kind.
    for data, labels in kinds if method is ALRClassifier else kinds[:2]:
        clf = method(**FAST).fit(data, labels)
        np.testing.assert_array_equal(clf.soft_labels_, expected.soft_labels_)
        np.testing.assert_array_equal(clf.predict_proba(data), expected.predict_proba(X))
        assert not hasattr(clf, "n_features_in_")
    np.testing.assert_array_equal(clf.predict(X), expected.predict(X))
    assert clf.score(Images(X, y)) == expected.score(X, y)


@pytest.mark.slow
def test_trusted_rows_come_as_a_dataset_too(digits):
    X, y = digits
    clf = MetaLabelNetClassifier(**FAST)
    expected = clf.fit(X[50:], y[50:], meta_X=X[:50], meta_y=y[:50]).soft_labels_
    found = clf.fit(Images(X[50:], y[50:]), meta_X=Images(X[:50], y[:50])).soft_labels_
    np.testing.assert_array_equal(found, expected)


def test_labels_of_a_dataset_are_read_once(digits):
    X, y = digits
    data = Images(X, y)
    ALRClassifier(**{**FAST, "max_epochs": 3}).fit(data)
    # labels, three epochs, the batch that tries the network, images that standardize, one look
    assert data.reads <= (1 + 3 + 1) * len(y) + 5


@pytest.mark.slow
def test_a_mask_and_unlabeled_rows_work_on_datasets(digits):
    X, y = digits
    mask = np.arange(200) < 120
    expected = MetaLabelNetClassifier(**FAST).fit(X, y, trusted=mask, unlabeled_X=X[:30])
    found = MetaLabelNetClassifier(**FAST)
    found.fit(Images(X, y), trusted=mask, unlabeled_X=Images(X[:30], y))
    np.testing.assert_array_equal(found.soft_labels_, expected.soft_labels_)


@pytest.mark.parametrize(
    ("data", "labels", "message"),
    [
        ([(torch.zeros(1, 8, 8), 0), (torch.zeros(1, 9, 9), 1)], None, "rows of one shape"),
        ([(torch.zeros(1, 8, 8), 0), (torch.zeros(1, 8, 8).byte(), 1)], None, "rows of one type"),
        ([(torch.zeros(1, 8, 8), "a"), (torch.zeros(1, 8, 8), 1)], None, "labels of one type"),
        ([(torch.zeros(1, 8, 8), 0), (torch.zeros(1, 8, 8), None)], None, "got None in row 1"),
        ([(torch.zeros(1, 8, 8), torch.eye(2)[0])] * 4, None, "y must be given|one label a row"),
        (TensorDataset(torch.zeros(4, 1, 8, 8)), None, "y must be given for a Dataset without"),
        (torchvision.datasets.FakeData(4), None, "transform=torchvision.transforms.v2.PILToTensor"),
        (Images(np.zeros((4, 8, 8, 3), np.uint8), [0, 1] * 2), None, "X.transpose"),
        (Images(np.zeros((4, 8, 8), np.uint8), [0, 1] * 2), [0, 1], "inconsistent numbers"),
        (Images(np.zeros((0, 8, 8), np.uint8), []), None, "at least one row, got an empty"),
    ],
)
def test_bad_datasets_are_refused(data, labels, message):
    with pytest.raises((ValueError, TypeError), match=message):
        ALRClassifier(**FAST).fit(data, labels)


def test_a_dataset_of_nan_is_refused_at_prediction(digits):
    X, y = digits
    clf = ALRClassifier(**FAST).fit(X / np.float32(255), y)
    X = torch.from_numpy(X / np.float32(255))
    X[7, 0, 0] = torch.nan
    with pytest.raises(ValueError, match="must hold finite numbers, got others in row 7"):
        clf.predict(TensorDataset(X))


@pytest.mark.slow
def test_workers_read_a_dataset_and_change_nothing(method, digits):
    X, y = digits
    expected = method(**FAST).fit(X, y)
    clf = method(**FAST, iterator_train__num_workers=2).fit(Images(X, y))
    np.testing.assert_allclose(clf.soft_labels_, expected.soft_labels_, atol=1e-6)
    np.testing.assert_array_equal(clf.predict(Images(X, y)), expected.predict(X))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:iterator_train__num_workers=2 starts no processes")
@pytest.mark.filterwarnings("ignore:This DataLoader will create 2 worker processes")
@pytest.mark.parametrize("wrap", [SliceDataset, list, lambda data: data])
def test_grid_search_on_a_dataset_with_workers_in_two_processes(digits, wrap):
    X, y = digits
    clf = ALRClassifier(**{**FAST, "max_epochs": 2}, iterator_train__num_workers=2)
    search = GridSearchCV(clf, {"module__width": [2, 4]}, cv=2, n_jobs=2, error_score="raise")
    assert search.fit(wrap(Images(X, y)), y).best_score_ >= 0


def test_workers_inside_a_thread_fall_back_with_a_warning(digits):
    from joblib import parallel_backend

    X, y = digits
    clf = ALRClassifier(**FAST, iterator_train__num_workers=2)
    with parallel_backend("threading"), pytest.warns(UserWarning, match="inside a parallel worker"):
        cross_val_score(clf, X, y, cv=2, n_jobs=2)


@pytest.mark.slow
def test_a_memory_map_stays_on_disk(method, tmp_path, monkeypatch):
    X = np.random.default_rng(0).normal(size=(300, 1, 6, 6))
    np.save(tmp_path / "X.npy", X)
    mapped, y = np.load(tmp_path / "X.npy", mmap_mode="r"), np.arange(300) % 2
    seen = []

    def build(module, params, rows, n_classes):
        seen.append(rows)
        return SmallResNet(1, n_classes, width=4)

    expected = method(**FAST).fit(X, y)
    found = method(**FAST).fit(mapped, y)
    np.testing.assert_allclose(found.predict_proba(mapped), expected.predict_proba(X), atol=1e-5)
    monkeypatch.setattr("sknoisy.training.recipe.build_module", build)
    method(max_epochs=2).fit(mapped, y)
    assert np.shares_memory(seen[0], mapped)


@pytest.mark.slow
def test_mixed_precision_comes_close_and_losses_stay_in_float32(method, digits):
    X, y = digits[0][:100], digits[1][:100]
    fast = {**FAST, "max_epochs": 6, "batch_size": 32}
    expected, other = (method(**{**fast, "random_state": seed}).fit(X, y) for seed in (0, 1))

    def distance(clf):
        return np.abs(clf.predict_proba(X) - expected.predict_proba(X)).mean()

    for amp in ("bf16", "fp16"):
        clf = method(**fast, amp=amp).fit(X, y)
        assert clf.soft_labels_.dtype == np.float32
        assert clf.predict_proba(X).dtype == np.float32
        assert 0 < distance(clf) < 0.5 * distance(other)
        assert np.abs(clf.soft_labels_ - expected.soft_labels_).mean() < 0.05


@pytest.mark.slow
def test_callbacks_see_unscaled_gradients_in_half_precision(digits):
    seen = []

    class Look(Callback):
        def on_grad_computed(self, net, named_parameters, **kwargs):
            seen.append(max(p.grad.abs().max().item() for _, p in net.module_.named_parameters()))

    ALRClassifier(**FAST, amp="fp16", callbacks=[Look()]).fit(*digits)
    assert 0 < np.median(seen) < 10


def test_auto_takes_the_device_there_is(digits):
    clf = ALRClassifier(**FAST, device="auto").fit(*digits)
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert next(clf.module_.parameters()).device.type in (expected, "mps")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_device_that_is_not_there_is_refused(digits):
    with pytest.raises(ValueError, match="device must be on this machine, got 'cuda'; pass 'auto'"):
        ALRClassifier(device="cuda").fit(*digits)


@pytest.mark.slow
def test_a_compiled_network_trains_as_the_plain_one(method, digits):
    X, y = digits
    expected = method(**FAST).fit(X, y)
    clf = method(**FAST, compile=True, compile__backend="eager").fit(X, y)
    np.testing.assert_allclose(clf.soft_labels_, expected.soft_labels_, atol=1e-4)


@pytest.mark.slow
def test_an_augmented_image_classifier_pickles(method, digits):
    X, y = digits
    clf = method(**FAST, augment="auto").fit(X, y)
    loaded = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(loaded.predict_proba(X), clf.predict_proba(X))


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_net_that_says_it_was_fitted_on_a_gpu_predicts_on_a_cpu(method, digits):
    X, y = digits
    clf = method(**FAST, amp="bf16").fit(X, y)
    expected = clf.predict_proba(X)
    clf.net_.device = "cuda"
    pickled = pickle.dumps(clf)
    with warnings.catch_warnings(action="ignore", category=DeviceWarning):
        loaded = pickle.loads(pickled)
    np.testing.assert_array_equal(loaded.predict_proba(X), expected)


@pytest.mark.slow
def test_callbacks_keep_no_tensor_on_the_training_device(method, digits):
    """Only what skorch moves between devices may hold tensors, and the label network (CPU)."""
    clf = method(**FAST).fit(*digits)
    kept = vars(clf.net_.label_callback)
    held = {name for name, value in kept.items() if isinstance(value, torch.Tensor | nn.Module)}
    assert held <= {"label_net_"}


@pytest.mark.slow
def test_schedules_and_weight_decay_work_as_in_skorch(method, digits):
    schedule = LRScheduler(torch.optim.lr_scheduler.StepLR, step_size=1, gamma=0.5)
    clf = method(**FAST, callbacks=[schedule], optimizer__weight_decay=0.1).fit(*digits)
    group = clf.net_.optimizer_.param_groups[0]
    assert group["weight_decay"] == 0.1
    assert group["lr"] == pytest.approx(clf.net_.lr * 0.5**4)
