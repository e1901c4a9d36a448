"""How tasks are batched: in chunks, and over devices."""
