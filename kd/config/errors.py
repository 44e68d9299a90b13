"""Explain what is wrong with a command line, in place of Hydra's messages."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path

from hydra import compose
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kd.config.command_line import as_argument, parsed
from kd.config.initialize import initialize_hydra
from kd.config.keys import did_you_mean_key, first_missing, get_path
from kd.config.settings import overridable_keys
from kd.runtime.values import flatten


def values_of(override: Override) -> Iterator[str]:
    """Yield the values of a sweep as typed, the two ends of an interval, or the single value of any other override."""
    if not override.is_sweep_override():
        yield override.get_value_element_as_str()
    elif override.is_interval_sweep():
        yield from (str(end) for end in (override.value().start, override.value().end))
    else:
        yield from override.sweep_string_iterator()


def explain_error(
    error: BaseException, overrides: Sequence[str], name: str = "config", beside: Sequence[str] = ()
) -> str:
    """Return what is wrong with a command line, in place of Hydra's message.

    Args:
        overrides: of the command line. name: of the main config. beside: overrides that the user did not type.
    """
    text = str(error).strip()
    if isinstance(error, MissingConfigException) and error.options:
        group, _, option = (error.missing_cfg_file or "").rpartition("/")
        hint = did_you_mean_key(option, error.options)
        return f"{group}={option}: there is no such option{hint} {_offered(error.options)}"
    if isinstance(error, OverrideParseException):
        return _explain_unreadable(error.override, text, name, beside)
    if isinstance(error, ConfigCompositionException | ValueError):
        with suppress(Exception), initialize_hydra():  # if composing fails here too, Hydra's message is used
            return _explain_override(overrides, name, beside, alone="--multirun" in text) or error_line(error)
    return error_line(error)


def _explain_unreadable(override: str, message: str, name: str, beside: Sequence[str]) -> str:
    """Return why Hydra's grammar cannot read an argument, and how you type it if it is text."""
    key, equals, value = override.partition("=")
    if not equals:
        return f"cannot read {override!r}: a setting is key=value"
    if parsed(f"{key}=0") is None:
        known: list[str] = []
        with suppress(Exception), initialize_hydra():
            known = overridable_keys(OmegaConf.to_container(compose(name, list(beside))))
        rule = "a setting is key=value, and its key has only the letters a to z, digits, _ and ."
        return f"cannot read {override!r}: {rule}{did_you_mean_key(key.lstrip('+~'), known)}"
    function = re.search(r"while evaluating '.*?': (.+)", message)
    why = f" ({function[1]})" if function else ""
    hint = f"; a list is {key}=[a,b]" if value.startswith(("[", "(")) else ""
    hint = f"; one = is enough, {key}{value}" if value.startswith("=") else hint
    return f"cannot read {override!r}{why}: if it is text, type {as_argument(override)}{hint}"


def error_line(error: BaseException) -> str:
    """Return the first lines of an error, prefixed with its type unless the message is user-facing."""
    lines = [line.strip()[:300] for line in str(error).splitlines() if line.strip()][:2]
    lines = [line for line in lines if not line.startswith(("Config search path", "Search path"))]
    if isinstance(error.__cause__, OmegaConfBaseException):
        lines.append(str(error.__cause__).partition("\n")[0])
    is_user_facing = isinstance(error, HydraException | OmegaConfBaseException | OSError | ValueError) and lines
    return " ".join(lines) if is_user_facing else ": ".join([type(error).__name__, *lines])


def _explain_override(overrides: Sequence[str], name: str, beside: Sequence[str], alone: bool) -> str | None:
    """Return why Hydra could not compose an override, or None if it is not one of the common mistakes."""
    loader = GlobalHydra.instance().config_loader()
    chosen, added, others = [], [], []
    for o in OverridesParser.create(config_loader=loader).parse_overrides(list(overrides)):
        key, group, sweeps = o.get_key_element().lstrip("+~"), o.key_or_group, o.is_sweep_override()
        options = group and loader.get_group_options(group, config_name=name, overrides=list(beside))
        if sweeps and alone:
            how = f"use -m to run each, {key}=[...] for a list, '{key}=\"...\"' for text"
            return f"{o.input_line} has several values: {how}"
        if not options or isinstance(o.value(), dict):
            others.append(o)
        elif o.is_add() or o.is_force_add():
            added.append(o)
        elif sweeps:
            chosen.append(f"{key}={next(values_of(o))}")
        elif o.is_delete() or isinstance(o.value(), str | list):
            chosen.append(o.input_line)
        else:
            return f"{o.input_line} is not an option of {group} {_offered(options)}"
    cfg = compose(name, [*beside, *chosen], return_hydra_config=True)
    raw, unknown = OmegaConf.to_container(cfg), []
    existing = [o for o in added if o.get_key_element().lstrip("+") in cfg.hydra.runtime.choices]
    for o in [*existing, *(o for o in others if o.is_add() and not first_missing(raw, o.key_or_group))]:
        return f"{o.key_or_group} exists already: use {o.input_line.lstrip('+')} without + to change it"
    for o in others:
        if isinstance(o.value(), list) and isinstance(get_path(raw, o.key_or_group), Mapping):
            hint = f": only kd=combine takes a list, kd=combine {o.input_line}" if o.key_or_group == "kd.terms" else ""
            return f"{o.key_or_group} must be a mapping, {{name: value}}, got a list{hint}"
    known = [*overridable_keys(raw), *loader.list_groups("")]
    for o in others:
        whole = {o.key_or_group: o.value()}
        inside = [key for key, _ in flatten(whole, keep_empty=True)] if isinstance(o.value(), dict) else []
        for key in inside or [o.key_or_group]:
            if not (o.is_add() or o.is_force_add()) and first_missing(raw, key):
                unknown.append(f"there is no setting {key or repr(key)}{did_you_mean_key(key, known)}")
    return "\n".join(dict.fromkeys(unknown)) or None


def _offered(options: Sequence[str]) -> str:
    return f"(the options are {', '.join(options)})"


def show_tracebacks() -> bool:
    """Whether the user wants to see tracebacks."""
    return os.environ.get("HYDRA_FULL_ERROR", "0") != "0"


@contextmanager
def friendly_errors() -> Iterator[None]:
    """Explain a wrong command line in one line and exit with code 2.

    Hydra would print its own message and exit with code 1, unless HYDRA_FULL_ERROR makes it raise the error. So this
    sets the variable until the job begins (``restore_hydra_errors``), unless the user has set it.
    """
    global _silenced
    _silenced = not show_tracebacks()
    if _silenced:
        os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    except SystemExit as end:
        if not isinstance(end.code, str):
            raise
        _print_error(end.code)
        raise SystemExit(2) from end
    except Exception as error:
        if not _silenced:
            raise
        from kd.runtime.console import wait_for_turn

        wait_for_turn(error)
        _print_error(f"kd: {explain_error(error, *_parse_arguments(sys.argv[1:]))}")
        raise SystemExit(2) from error
    finally:
        restore_hydra_errors()


def _print_error(text: str) -> None:
    """Print to stderr. Control characters that the user typed are escaped, so that they do not reach the terminal."""
    print(re.sub(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", lambda found: repr(found[0])[1:-1], text), file=sys.stderr)


_silenced = False  # whether friendly_errors has set HYDRA_FULL_ERROR


def restore_hydra_errors() -> None:
    """Undo ``friendly_errors``: from here on, Hydra and the processes that it starts report their own errors."""
    global _silenced
    if _silenced:
        os.environ.pop("HYDRA_FULL_ERROR", None)
    _silenced = False


def refuse_dashes(arguments: Sequence[str]) -> None:
    """Refuse settings that are typed like flags, as a ``wandb agent`` does by default: argparse would print its usage.

    Raises:
        SystemExit: names the arguments to type instead.
    """
    parser = get_args_parser()
    parser.exit_on_error, unknown, settings = False, [], []
    with suppress(argparse.ArgumentError):  # Hydra reports its own flag with a wrong value
        unknown = [word for word in parser.parse_known_args(arguments)[1] if word.startswith("-")]
    for word, after in pairwise([*arguments, "-"]):
        if word in unknown and "=" in word:
            settings.append(word.lstrip("-"))
        elif word in unknown and not after.startswith("-") and "=" not in after:  # ${args_no_equals}
            settings.append(f"{word.lstrip('-')}={after}")
        elif word in unknown:
            flags = [flag for action in parser._actions for flag in action.option_strings]
            hint = did_you_mean_key(word, flags)
            raise SystemExit(f"kd: there is no flag {word}{hint}; a setting is key=value, without dashes")
    if settings:
        raise SystemExit(
            f"kd: type settings without dashes: {shlex.join(settings)}\n"
            "(for a wandb agent, use ${args_no_hyphens} in the command of its sweep.yaml)"
        )


def _parse_arguments(arguments: Sequence[str]) -> tuple[list[str], str, list[str]]:
    """Return (overrides, name of the main config, overrides in place of --config-dir) of a command line."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--config-name", "-cn", default="config")
    parser.add_argument("--config-dir", "-cd")
    known, rest = parser.parse_known_args(arguments)
    beside = [f"hydra.searchpath=['file://{Path(known.config_dir).absolute()}']"] if known.config_dir else []
    return [o for o in rest if "=" in o or o.startswith("~")], known.config_name, beside
