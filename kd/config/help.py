"""Text of ``python -m kd.run --help``: resolvers of conf/hydra/help/kd.yaml.

The options come from Hydra and the values from the composed config, so they are those of the command:
``--help kd=dkd`` lists DKD's settings.
"""

from __future__ import annotations

import functools
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from kd.config.combine import OF_ANY
from kd.config.networks import names
from kd.config.paths import conf_dir
from kd.runtime.values import format_value

WIDTH = 100
INDENT = 2  # of every line in the yaml file
LABEL = 22  # columns of a group and its chosen option
KEY = 30  # columns of a setting and its value
ABSENT = "???"  # how Hydra marks a value that the command line must set


def help_group(group: str, *known: str, _root_: DictConfig) -> str:
    """Return a line on a config group: the chosen option, then as many others as fit, then the number of all options.

    Args:
        known: options to name first.
    """
    chosen = _chosen(_root_, group)
    options = _options(GlobalHydra.instance().config_loader(), group)
    if group.startswith("hydra/"):  # kd configures these; an installed plugin may bring others: see --hydra-help
        options = [name for name in options if (Path(conf_dir()) / group / f"{name}.yaml").is_file()]
    others = [name for name in dict.fromkeys([*known, *options]) if name in options and name != chosen]
    label = f"{group}={chosen}".ljust(LABEL)
    return f"{label} {_first(others, WIDTH - INDENT - len(label) - 1, f', ... ({len(options)} in all)')}"


@functools.lru_cache(maxsize=64)
def _options(loader: Any, group: str) -> list[str]:
    """Return ``names``. Every composition renders this help, and listing the options took half of its time."""
    return names(group)


def help_setting(key: str, _root_: DictConfig) -> str:
    """Return a setting and its value, padded so that its description can follow."""
    return _escape(f"{key}={_text(OmegaConf.select(_root_, key, default=ABSENT))}".ljust(KEY - 1) + " ")


def help_chosen(group: str, _root_: DictConfig) -> str:
    """Return the settings of a group's chosen option, without those that are computed from others."""
    option = OmegaConf.to_container(_root_[group])
    of_all = OF_ANY if group == "kd" else ()
    option = {name: value for name, value in option.items() if name not in of_all and not name.startswith("_")}
    own = {name: value for name, value in option.items() if _is_plain(value)}
    label = f"of {group}={_chosen(_root_, group)}:".ljust(KEY - 1)
    settings = " ".join(f"{group}.{name}={_text(value)}" for name, value in own.items())
    return _escape(_wrap(f"{label} {settings or 'none'}"))


def _chosen(root: DictConfig, group: str) -> str:
    choices = OmegaConf.select(root, "hydra.runtime.choices", default={})
    return choices.get(group) or "null"


def _first(words: Sequence[str], width: int, more: str) -> str:
    """Join as many words as fit, followed by ``more`` if some are left out."""
    for count in range(len(words), 0, -1):
        text = ", ".join(words[:count]) + (more if count < len(words) else "")
        if len(text) <= width:
            return text
    return ", ".join(words)


def _is_plain(value: Any) -> bool:
    return not isinstance(value, dict) and "${" not in str(value)


def _text(value: Any) -> str:
    if OmegaConf.is_config(value):
        value = OmegaConf.to_container(value)
    return f"[{','.join(map(_text, value))}]" if isinstance(value, list) else format_value(value)


def _wrap(text: str) -> str:
    how = {"break_long_words": False, "break_on_hyphens": False}
    return textwrap.fill(text, WIDTH - INDENT, subsequent_indent=" " * (KEY + INDENT), **how)


def _escape(text: str) -> str:
    """Escape for ``string.Template``, with which Hydra fills the text: a folder's name may have a dollar sign."""
    return text.replace("$", "$$")
