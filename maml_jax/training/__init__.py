"""Training, evaluation, and the folders of runs."""
