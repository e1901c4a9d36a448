"""How long a meta-update's gradient takes here and elsewhere, from the same inputs.

`python -m benchmarks --help` says how to run it; `workloads.py` says what is timed, `peers/` who
takes part, and `runner.py` how the timing is done.
"""
