"""A small residual network for images, which `module=None` builds."""

from torch import nn

from sknoisy.networks.standardize import StandardizeChannels

SMALL_PIXELS = 64  # images up to this size lose too much in a stride-2 stem with max-pooling


class SmallResNet(nn.Sequential):
    """Small residual network for images: the network that ``module=None`` builds for them.

    The layout of He et al.'s networks for CIFAR, from torchvision's blocks: a 3x3 stem, then three
    stages of `width`, 2 `width` and 4 `width` channels, the last two of half the size each.

    Parameters
    ----------
    n_channels, n_classes : int
        Channels of the images, number of classes.
    width : int, default=16
        Channels of the first stage.
    blocks : int, default=1
        Residual blocks a stage: 1 gives 8 layers, 3 gives 20.
    pixels : int, default=32
        Longer side of the images; beyond 64 the stem has a stride of 2 and max-pooling.

    References
    ----------
    K. He, X. Zhang, S. Ren, J. Sun, "Deep Residual Learning for Image Recognition", CVPR 2016.
    """

    def __init__(self, n_channels: int, n_classes: int, *, width=16, blocks=1, pixels=32):
        from torchvision.models.resnet import BasicBlock  # takes a second to import

        stride = 1 if pixels <= SMALL_PIXELS else 2
        layers = [
            StandardizeChannels(n_channels),
            nn.Conv2d(n_channels, width, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        ]
        if stride == 2:
            layers.append(nn.MaxPool2d(3, 2, padding=1))
        layers += [BasicBlock(width, width) for _ in range(blocks)]
        for inner in (width, 2 * width):
            outer = 2 * inner
            shortcut = nn.Sequential(
                nn.Conv2d(inner, outer, 1, 2, bias=False), nn.BatchNorm2d(outer)
            )
            layers.append(BasicBlock(inner, outer, 2, shortcut))
            layers += [BasicBlock(outer, outer) for _ in range(blocks - 1)]
        head = nn.Linear(4 * width, n_classes)
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)
