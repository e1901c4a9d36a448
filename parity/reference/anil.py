"""ANIL."""

from functools import partial

from parity.reference import Comparison
from parity.reference.maml import maml

anil = partial(maml, adapts=lambda name: name.startswith("head."))
"""ANIL: MAML in which the head alone adapts (Raghu et al. 2020)."""

COMPARISONS = (Comparison(anil),)
