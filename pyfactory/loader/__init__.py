"""The loader: positions -> addresses -> tensors, ahead of the training loop, on threads.

plan (which positions, where their tokens are) -> fill (copy them into a pooled buffer) -> the training loop
"""
