"""BOIL."""

from functools import partial

from parity.reference import Comparison
from parity.reference.maml import maml

boil = partial(maml, adapts=lambda name: not name.startswith("head."))
"""BOIL: MAML in which everything but the head adapts (Oh et al. 2021)."""

COMPARISONS = (Comparison(boil),)
