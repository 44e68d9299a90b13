"""What is wrong with a command line, told in place of what Hydra says."""

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
    """The values of a sweep, as they are typed; of an interval its ends; of what is no sweep the one value."""
    if not override.is_sweep_override():
        yield override.get_value_element_as_str()
    elif override.is_interval_sweep():
        yield from (str(end) for end in (override.value().start, override.value().end))
    else:
        yield from override.sweep_string_iterator()


def explain_error(
    error: BaseException, overrides: Sequence[str], name: str = "config", beside: Sequence[str] = ()
) -> str:
    """What is wrong with a command line, in place of what Hydra says.

    Args:
        overrides: of the command line. name: of the main config. beside: overrides that are not the user's.
    """
    text = str(error).strip()
    if isinstance(error, MissingConfigException) and error.options:
        group, _, option = (error.missing_cfg_file or "").rpartition("/")
        hint = did_you_mean_key(option, error.options)
        return f"{group}={option}: there is no such option{hint} {_offered(error.options)}"
    if isinstance(error, OverrideParseException):
        return _unread(error.override, text, name, beside)
    if isinstance(error, ConfigCompositionException | ValueError):
        with suppress(Exception), initialize_hydra():  # what cannot be composed even so is told in Hydra's words
            return _mistaken(overrides, name, beside, alone="--multirun" in text) or error_line(error)
    return error_line(error)


def _unread(override: str, said: str, name: str, beside: Sequence[str]) -> str:
    """What is wrong with an argument that Hydra's grammar cannot read, and what would be typed where it is text."""
    key, equals, value = override.partition("=")
    if not equals:
        return f"cannot read {override!r}: a setting is key=value"
    if parsed(f"{key}=0") is None:
        known: list[str] = []
        with suppress(Exception), initialize_hydra():
            known = overridable_keys(OmegaConf.to_container(compose(name, list(beside))))
        plain = "a setting is key=value, its key of the letters a to z, digits, _ and ."
        return f"cannot read {override!r}: {plain}{did_you_mean_key(key.lstrip('+~'), known)}"
    function = re.search(r"while evaluating '.*?': (.+)", said)
    why = f" ({function[1]})" if function else ""
    hint = f"; a list is {key}=[a,b]" if value.startswith(("[", "(")) else ""
    hint = f"; one = is enough, {key}{value}" if value.startswith("=") else hint
    return f"cannot read {override!r}{why}: as text it is typed {as_argument(override)}{hint}"


def error_line(error: BaseException) -> str:
    """The first lines of what an error says, behind its kind where that is not one that speaks to people."""
    lines = [line.strip()[:300] for line in str(error).splitlines() if line.strip()][:2]
    lines = [line for line in lines if not line.startswith(("Config search path", "Search path"))]
    if isinstance(error.__cause__, OmegaConfBaseException):
        lines.append(str(error.__cause__).partition("\n")[0])
    known = isinstance(error, HydraException | OmegaConfBaseException | OSError | ValueError) and lines
    return " ".join(lines) if known else ": ".join([type(error).__name__, *lines])


def _mistaken(overrides: Sequence[str], name: str, beside: Sequence[str], alone: bool) -> str | None:
    """The override that Hydra could not compose, if it is one of those that people mistype."""
    loader = GlobalHydra.instance().config_loader()
    chosen, added, others = [], [], []
    for o in OverridesParser.create(config_loader=loader).parse_overrides(list(overrides)):
        key, group, sweeps = o.get_key_element().lstrip("+~"), o.key_or_group, o.is_sweep_override()
        options = group and loader.get_group_options(group, config_name=name, overrides=list(beside))
        if sweeps and alone:
            return f"{o.input_line} is several values: -m runs each, {key}=[...] is a list, '{key}=\"...\"' is text"
        if not options or isinstance(o.value(), dict):
            others.append(o)
        elif o.is_add() or o.is_force_add():
            added.append(o)
        elif sweeps:
            chosen.append(f"{key}={next(values_of(o))}")
        elif o.is_delete() or isinstance(o.value(), str | list):
            chosen.append(o.input_line)
        else:
            return f"{o.input_line} is no option of {group} {_offered(options)}"
    cfg = compose(name, [*beside, *chosen], return_hydra_config=True)
    raw, unknown = OmegaConf.to_container(cfg), []
    there = [o for o in added if o.get_key_element().lstrip("+") in cfg.hydra.runtime.choices]
    for o in [*there, *(o for o in others if o.is_add() and not first_missing(raw, o.key_or_group))]:
        return f"{o.key_or_group} is there already: {o.input_line.lstrip('+')} changes it, without +"
    for o in others:
        if isinstance(o.value(), list) and isinstance(get_path(raw, o.key_or_group), Mapping):
            hint = f": kd=combine takes one, kd=combine {o.input_line}" if o.key_or_group == "kd.terms" else ""
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
    return f"(there are {', '.join(options)})"


def show_tracebacks() -> bool:
    """Whether somebody wants to see tracebacks."""
    return os.environ.get("HYDRA_FULL_ERROR", "0") != "0"


@contextmanager
def friendly_errors() -> Iterator[None]:
    """Around a command: what is wrong with the command line is told in a line, with exit code 2.

    Hydra would print it its own way and exit with 1, unless HYDRA_FULL_ERROR says that it is to be raised. So we say
    that, until the job begins (``begin``), where nobody else has.
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
        _say(end.code)
        raise SystemExit(2) from end
    except Exception as error:
        if not _silenced:
            raise
        from kd.runtime.console import wait_for_turn

        wait_for_turn(error)
        _say(f"kd: {explain_error(error, *_typed(sys.argv[1:]))}")
        raise SystemExit(2) from error
    finally:
        restore_hydra_errors()


def _say(text: str) -> None:
    """Control characters that somebody typed are shown, and not sent to the terminal."""
    print(re.sub(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", lambda found: repr(found[0])[1:-1], text), file=sys.stderr)


_silenced = False  # whether HYDRA_FULL_ERROR is ours


def restore_hydra_errors() -> None:
    """From here on Hydra speaks for itself, and so do the processes that it starts."""
    global _silenced
    if _silenced:
        os.environ.pop("HYDRA_FULL_ERROR", None)
    _silenced = False


def refuse_dashes(arguments: Sequence[str]) -> None:
    """Refuse settings that are typed like flags, as a ``wandb agent`` does by itself: argparse would tell its usage.

    Raises:
        SystemExit: with what is typed instead.
    """
    parser = get_args_parser()
    parser.exit_on_error, strange, plain_ones = False, [], []
    with suppress(argparse.ArgumentError):  # a flag of Hydra's with a wrong value is Hydra's to tell
        strange = [word for word in parser.parse_known_args(arguments)[1] if word.startswith("-")]
    for word, after in pairwise([*arguments, "-"]):
        if word in strange and "=" in word:
            plain_ones.append(word.lstrip("-"))
        elif word in strange and not after.startswith("-") and "=" not in after:  # ${args_no_equals}
            plain_ones.append(f"{word.lstrip('-')}={after}")
        elif word in strange:
            flags = [flag for action in parser._actions for flag in action.option_strings]
            hint = did_you_mean_key(word, flags)
            raise SystemExit(f"kd: there is no flag {word}{hint}; a setting is key=value, without dashes")
    if plain_ones:
        raise SystemExit(
            f"kd: settings are typed without dashes: {shlex.join(plain_ones)}\n"
            "(a wandb agent types them so where the command in its sweep.yaml says ${args_no_hyphens})"
        )


def _typed(arguments: Sequence[str]) -> tuple[list[str], str, list[str]]:
    """(overrides, name of the main config, overrides that stand for --config-dir) of a command line."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--config-name", "-cn", default="config")
    parser.add_argument("--config-dir", "-cd")
    known, rest = parser.parse_known_args(arguments)
    beside = [f"hydra.searchpath=['file://{Path(known.config_dir).absolute()}']"] if known.config_dir else []
    return [o for o in rest if "=" in o or o.startswith("~")], known.config_name, beside
