"""Networks: the defaults for tables and images, torchvision's models, and image augmentation."""

from sknoisy.networks.augmentation import RandomCropFlip
from sknoisy.networks.mlp import MLP
from sknoisy.networks.resnet import SmallResNet

__all__ = ["MLP", "RandomCropFlip", "SmallResNet"]
