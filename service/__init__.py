"""ResNet50 classifiers with a GAP and a Flatten head, served and measured side by side."""

from importlib.metadata import version

__version__ = version("resnet-heads")
