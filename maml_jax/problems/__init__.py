"""Any inner and outer problem: the primitive that the algorithms are instances of."""
