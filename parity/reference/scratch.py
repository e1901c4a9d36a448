"""Training from scratch: its meta-gradient is zero by definition, so nothing is compared."""

COMPARISONS = ()
