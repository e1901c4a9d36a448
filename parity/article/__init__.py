"""The article's MNIST program in PyTorch and in JAX, from the same weights and in the same order.

Claim: both programs have the same weights, to rounding, after 1 to 1000 steps; and the second
softmax, which the article's loss applies to a softmax, is what keeps its accuracy down.
Repeat: `python -m parity.article --data-dir FOLDER --epochs 20`.

The article calls its program MAML. It is ordinary SGD: the "inner loop" is one pass over the
training images with a step for every batch, the "outer loop" repeats it for the one "task" there
is, and nothing is differentiated through a step.

| file | what is in it |
|---|---|
| `settings.py` | the article's numbers |
| `digits.py` | MNIST, and the order of its batches |
| `torch_program.py` | the program in PyTorch |
| `jax_program.py` | the same in JAX |
| `agreement.py` | the errors between their weights |
| `training.py` | the accuracy that it reaches, with either softmax, from any seeds |
| `article_report.py`, `options.py`, `__main__.py` | the command |
"""
