"""The sources of weights: ImageNet, a file, a head of the store, or the demo."""
