"""The commands `export` and `import`: weights of PyTorch's."""

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from maml_jax.cli.groups import ConfigOptions
from maml_jax.cli.messages import as_options, say


@dataclass(frozen=True)
class Export:
    """Write the meta-learned weights of a run by PyTorch's names and in its layouts."""

    run: Positional[Path]
    """The folder of the run."""
    file: Positional[Path]
    """The new file, .safetensors or .pt."""
    data_dir: Path | None = None
    """The folder of the data's files; the one of training where not given."""

    def __call__(self) -> int:
        from maml_jax.exchange.transfer import export_run

        names = export_run(self.run, self.file, self.data_dir)
        say(f"wrote {self.file}: {len(names)} arrays")
        return 0


@dataclass(frozen=True)
class Import(ConfigOptions):
    """Make a run of PyTorch's weights; what else it is comes from a recipe and options."""

    file: Positional[Path]
    """The file of weights, .safetensors or .pt (a state_dict, or a checkpoint that holds one)."""
    out: Path
    """The folder of the run, which must not exist."""
    mapping: Path | None = None
    """A JSON file, {"their name": "our path"}, where names and shapes do not tell; null leaves an
    array out."""
    check: Path | None = None
    """An .npz file with inputs and the logits that the network must make of them: floats as the
    network is given them, or integers, pixels from 0 to 255."""

    def __call__(self) -> int:
        from maml_jax.exchange.transfer import import_run

        done = import_run(self.file, self.config(), self.out, self.mapping, self.check)
        for theirs, ours in done.names.items():
            if theirs != ours:
                say(f"{theirs} is {ours}")
        if done.filled:
            say(f"not in the file, and 0: {', '.join(done.filled)}")
        if done.checked:
            say(done.checked)
        if done.assumed:
            assumed = as_options(done.assumed, self)
            say(f"the file does not say, so it is assumed: {assumed}; --check FILE.npz would tell")
        if done.left_out:
            say(f"left out: {', '.join(done.left_out)}")
        say(f"done; now: maml-jax evaluate {self.out}")
        return 0
