"""The algorithms, one short file each: an inner rule and an estimator of its meta-gradient.

The folder is the register (`maml_jax.registry`): `meta_sgd.py` holds the function `meta_sgd`, which
is the algorithm `meta-sgd` of the command line and `maml_jax.meta_sgd`.
"""
