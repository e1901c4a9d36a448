"""Proof of equality: the learners of `maml_jax` against plain PyTorch, number by number."""
