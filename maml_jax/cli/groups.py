"""A config as options in groups, and back."""

import dataclasses
import os
from pathlib import Path
from typing import Any

import tyro

from maml_jax.training.config import GROUPS, Config

# Where a field has no `help`, tyro looks through the source of the class for one, which takes long.
_described = (
    (name, group, dataclasses.field(metadata={"help": group.__doc__}))
    for name, group in GROUPS.items()
)
_Groups: Any = dataclasses.make_dataclass("_Groups", _described, frozen=True)


@dataclasses.dataclass(frozen=True)
class ConfigOptions(_Groups):
    """The fields of a config, a group of options for each of `GROUPS`."""

    @classmethod
    def of(cls, config: Config) -> Any:
        """These options with the config's values as defaults; other fields have their own."""
        values = {
            field.name: tyro.MISSING
            for field in dataclasses.fields(cls)
            if field.default is field.default_factory is dataclasses.MISSING
        }
        for name, group in GROUPS.items():
            fields = dataclasses.fields(group)
            values[name] = group(**{field.name: getattr(config, field.name) for field in fields})
        return cls(**values)

    def config(self) -> Config:
        """The config; MAML_JAX_DATA is the folder of the data where no option names one."""
        values: dict[str, Any] = {}
        for name in GROUPS:
            values |= vars(getattr(self, name))
        values["data_dir"] = data_dir(values["data_dir"])
        return Config(**values).check()


def data_dir(given: Path | None) -> Path | None:
    """The folder of the data: as given, or else what the environment names."""
    named = os.environ.get("MAML_JAX_DATA")
    return Path(named) if given is None and named else given
