"""What a user holds (symbols, tensors, variables) and the op graph made of them."""
