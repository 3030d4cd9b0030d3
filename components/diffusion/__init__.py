"""The noise process and its inverse, as pure functions of tensors."""
