"""What every learner is made of: an inner loop, its differentiation, and meta-gradients of it."""
