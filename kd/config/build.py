"""From a page to the object that it describes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from kd.config.checks import TWIN, blame
from kd.config.keys import at
from kd.config.mistakes import plain

if TYPE_CHECKING:
    from kd.objective import Objective


def build_network(spec: Mapping[str, Any], num_classes: int, image_size: int, tried: bool = True) -> Any:
    """Make the network of ``spec["network"]`` with the attention of ``spec["attention"]``, if it has one.

    Args:
        spec: plain values, as ``network_of`` returns them. An attention may stand as its page writes it.
        tried: run the network with and without attention, to refuse what does not go together.
    """
    from kd.attention.attach import attach  # imports torch

    network = instantiate(spec["network"], num_classes=num_classes, image_size=image_size)
    if spec.get("attention"):
        whole = OmegaConf.create({"attention": spec["attention"]})  # what the page takes from itself is found there
        attention = OmegaConf.to_container(whole, resolve=True)["attention"]
        attach(
            network, instantiate(attention["wrap"], _convert_="all"), attention["stages"], image_size if tried else None
        )
    return network


def fitted(
    network: Any,
    spec: Mapping[str, Any],
    role: str,
    num_classes: int,
    image_size: int,
    comes_in: Callable[[int], bool] = lambda size: True,
) -> Any:
    """Return a ``Normalized`` of ``build_network`` if it takes images of this size.

    Args:
        comes_in: whether the data set has a size.

    Raises:
        ValueError: with the settings under which it would.
    """
    from kd.models.normalized import fitting
    from kd.models.sizes import remedy

    settings = {name: value for name, value in spec["network"].items() if name != "pretrained"}

    def make(size: int, **more: Any) -> Any:
        return build_network({**spec, "network": {**settings, **more}}, num_classes, size, tried=False)

    def advice() -> str:
        return remedy(network.network, make, settings, role, image_size, comes_in)

    return fitting(network, role, image_size, advice)


def objective_of(method: DictConfig) -> Objective:
    """Make what one option of the group `kd` describes."""
    from kd.objective import Objective

    return Objective(instantiate(method.terms, _convert_="all"), dict(method.weights), method.get("schedule"))


def twin_of(method: DictConfig) -> Objective:
    """The objective of the twin, which has no teacher.

    Raises:
        ValueError: a method that is more than labels.
    """
    labels = isinstance(method.get("terms"), DictConfig) and objective_of(method)
    if not labels or labels.needs or any(hasattr(term, "enter") for term in labels.terms.values()):
        raise ValueError(TWIN)
    return labels


def made(page: DictConfig, **given: Any) -> Any:
    """The object that a page describes, ``given`` what stands in none."""
    return instantiate(page, **given)


def _not_imported(key: str, target: str, error: BaseException) -> str:
    """A name that there is not, or one that is there and fails to be imported."""
    while error.__cause__:
        error = error.__cause__
    unknown = isinstance(error, ModuleNotFoundError) and error.name and f"{target}.".startswith(f"{error.name}.")
    if unknown or isinstance(error, AttributeError):
        return f"{key}={target}: there is no such class or function"
    return f"{key}={target} cannot be imported: {plain(error)}"


@contextmanager
def blaming(cfg: DictConfig, page: str | None = None) -> Iterator[None]:
    """Put the key before what a constructor says of its arguments.

    Args:
        page: of what is made inside, where it is one.

    Raises:
        ValueError: instead of whatever a constructor raised.
    """
    try:
        yield
    except Exception as error:  # Hydra 1.3 wraps it, and 1.4 does not
        cause = error.__cause__ or error if isinstance(error, InstantiationException) else error
        found = re.search(r"full_key: (\S+)", str(error))
        raw, key = OmegaConf.to_container(cfg), found[1] if found else page
        if isinstance(error, InstantiationException) and isinstance(cause, ImportError):
            raise ValueError(_not_imported(f"{key}._target_", at(raw, f"{key}._target_"), cause)) from error
        said = str(cause) if isinstance(cause, ValueError | OSError) else plain(cause)
        raise ValueError(blame(raw, key, said) if key else said) from error
