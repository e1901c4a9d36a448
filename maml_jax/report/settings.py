"""The settings of a run, and the command that trains another by them."""

import dataclasses
import shlex
from typing import Any, get_type_hints

from maml_jax.errors import InputError
from maml_jax.report.contents import Setting
from maml_jax.training.config import GROUPS, Config, options_of
from maml_jax.training.recipes import recipe

_OF_THE_COMMAND = ("recipe", "algorithm", "data_dir")
"""What chooses the defaults, and what is nobody else's business: no settings."""


def settings_of(config: Config) -> list[Setting]:
    """The options of a run, group after group, without those that its algorithm does not take."""
    defaults = _defaults(config)
    foreign = {
        field.name
        for group in ("imaml", "cavia", "maml_plus_plus")
        for field in dataclasses.fields(GROUPS[group])
    } - set(options_of(config.algorithm))
    return [
        Setting(group, field.name, getattr(config, field.name), getattr(defaults, field.name))
        for group, kind in GROUPS.items()
        for field in dataclasses.fields(kind)
        if field.name not in foreign and field.name not in _OF_THE_COMMAND
    ]


def train_command(config: Config, name: str) -> str:
    """The command that trains by this config into a folder of that name."""
    words = ["maml-jax", "train", "--recipe", config.recipe, "--algorithm", config.algorithm]
    for setting in settings_of(config):
        if setting.value != setting.default:
            words += _option(setting.name, setting.value)
    words += [] if config.data_dir is None else ["--data-dir", "DATA_FOLDER"]
    return shlex.join([*words, "--out", name])


def _defaults(config: Config) -> Config:
    """Those of the recipe and the algorithm; of a recipe that is no more, those of all recipes."""
    try:
        return recipe(config.recipe, config.algorithm)
    except InputError:
        return Config()


def _option(name: str, value: Any) -> list[str]:
    flag = "--" + name.replace("_", "-")
    if isinstance(value, bool) and get_type_hints(Config)[name] is bool:
        return [flag if value else flag.replace("--", "--no-", 1)]
    if isinstance(value, tuple):
        return [flag, *map(str, value)]
    return [flag, str(value)]
