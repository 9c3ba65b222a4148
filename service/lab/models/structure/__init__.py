"""What a saved model is made of: the family of its backbone, where its head begins, what it ends in."""
