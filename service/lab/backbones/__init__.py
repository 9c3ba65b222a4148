"""Where weights come from: ImageNet, a file, a head of the store, or the demo."""
