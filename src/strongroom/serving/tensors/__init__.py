"""Tensors: numpy arrays inside, and the three ways they travel: TensorProto, JSON, V2. Strict and bounded."""
