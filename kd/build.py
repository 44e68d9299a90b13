"""Make the object that a config node describes: a network, an objective, a data set."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from kd.config.checks import BASELINE, blamed_error
from kd.config.errors import error_line
from kd.config.keys import get_path
from kd.runtime.class_names import positions_of, read_class_names
from kd.runtime.model_card import check_architecture, read_card, weights_in

if TYPE_CHECKING:
    from torch import nn

    from kd.data.dataset import ImageDataset
    from kd.models.normalized import Normalized
    from kd.train.objective import Objective

PEER = 1_000_000  # distance between the seeds of a student and of each of its peers


@dataclass(frozen=True)
class ModelBuilder:
    """Makes the networks of one run, by role, for its data set."""

    dataset: ImageDataset
    specs: Mapping[
        str, Mapping[str, Any]
    ]  # by role, see ``build_network``; with "seed" and, for teachers, "checkpoint"
    combine: str | None  # how the teachers of an ensemble are combined; None for a single teacher

    def build(self, role: str, number: int = 0) -> Normalized:
        """Make the network of ``role`` with initial weights from its seed, or with the weights of its checkpoint.

        Args:
            number: 0, or the number of a peer: the same network from another seed.

        Raises:
            ValueError: settings are incompatible, or the network cannot take the images.
        """
        import torch

        from kd.models.weights import load_external

        spec, dataset = self.specs[role], self.dataset
        size, names = own_size(spec, dataset.image_size), own_classes(spec)
        torch.manual_seed(spec["seed"] + PEER * number)
        try:
            network = build_network(spec, len(names or dataset.classes), size)
        except InstantiationException as error:  # the network refuses a setting
            raise ValueError(f"{role}: {error.__cause__ or error}") from error
        check_pretrained_classes(network, spec, names)
        network = normalized(network, spec, dataset.mean, dataset.std, dataset.classes)
        has_statistics = spec.get("mean") is not None or spec.get("std") is not None
        if spec.get("checkpoint"):
            path = Path(spec["checkpoint"]).expanduser()
            card = read_card(path)
            check_architecture(card, spec["network"].get("name"), path)
            if card and card.mean and card.std and not has_statistics:
                network.normalize_by(card.mean, card.std)
            known = has_statistics or bool(card and card.mean and card.std)
            load_external(network, weights_in(path), known, spec.get("checkpoint_prefix"))
        if has_statistics:  # they override those of the checkpoint
            network.normalize_by(spec.get("mean"), spec.get("std"))
        return check_input_size(network, spec, role, len(names or dataset.classes), size)

    def ensemble(self, networks: Sequence[nn.Module]) -> nn.Module:
        """Return the teachers as one network."""
        from kd.models.ensemble import Ensemble

        return networks[0] if self.combine is None else Ensemble(networks, self.combine)


def own_size(spec: Mapping[str, Any], image_size: int) -> int:
    """Return the image size of a network: its own, or that of the data."""
    return spec.get("image_size") or image_size


def own_classes(spec: Mapping[str, Any]) -> list[str] | None:
    """Return the classes that a teacher's ``classes`` names, or None if they are the data's.

    Raises:
        ValueError: see ``read_class_names``.
    """
    return read_class_names(Path(spec["classes"]).expanduser()) if spec.get("classes") else None


def check_pretrained_classes(network: nn.Module, spec: Mapping[str, Any], names: Sequence[str] | None) -> None:
    """Refuse pretrained weights whose classifier is not that of the teacher's classes: timm would make a new one.

    Raises:
        ValueError: with both numbers of classes.
    """
    if names is None or not spec["network"].get("pretrained"):
        return
    count = network.pretrained_cfg.get("num_classes") or 0
    if count != len(names):
        has = f"have a classifier of {count} classes" if count else "have no classifier"
        raise ValueError(
            f"teacher.classes={spec['classes']} names {len(names)} classes, and the pretrained weights of "
            f"{spec['network'].get('name')} {has}"
        )


def normalized(
    network: nn.Module,
    spec: Mapping[str, Any],
    mean: Sequence[float],
    std: Sequence[float],
    classes: Sequence[str] | None = None,
) -> Normalized:
    """Return a network of ``build_network`` that takes the data's images and returns logits of its classes.

    Args:
        classes: of the data. None, before the data are loaded: the network keeps its own.

    Raises:
        ValueError: the file of the teacher's classes lacks some of the data's.
    """
    from kd.models.normalized import Normalized
    from kd.models.reclassed import PickClasses
    from kd.models.resized import Resize

    names = own_classes(spec)
    resize = Resize(spec["image_size"]) if spec.get("image_size") else None
    reclass = PickClasses(positions_of(classes, names, Path(spec["classes"]))) if names and classes else None
    return Normalized(network, mean, std, resize, reclass)


def build_network(spec: Mapping[str, Any], num_classes: int, image_size: int, tried: bool = True) -> Any:
    """Make the network of ``spec["network"]`` with the attention of ``spec["attention"]``, if it has one.

    Args:
        spec: plain values, as ``network_of`` returns them. The attention may be unresolved.
        tried: run the network with and without attention, to refuse an attention that does not fit.
    """
    from kd.attention.attach import attach  # imports torch

    network = instantiate(spec["network"], num_classes=num_classes, image_size=image_size)
    if spec.get("attention"):
        whole = OmegaConf.create({"attention": spec["attention"]})  # resolves the attention's references to itself
        attention = OmegaConf.to_container(whole, resolve=True)["attention"]
        attach(
            network, instantiate(attention["wrap"], _convert_="all"), attention["stages"], image_size if tried else None
        )
    return network


def check_input_size(
    network: Any,
    spec: Mapping[str, Any],
    role: str,
    num_classes: int,
    image_size: int,
    has_size: Callable[[int], bool] = lambda size: True,
) -> Any:
    """Return ``network`` if it takes images of this size.

    Args:
        network: a ``Normalized`` of ``build_network``. image_size: its own, see ``own_size``.
        has_size: whether the data set is available in a size.

    Raises:
        ValueError: names the settings with which the network takes the images.
    """
    from kd.models.image_size import suggest_settings
    from kd.models.normalized import check_forward

    settings = {name: value for name, value in spec["network"].items() if name != "pretrained"}

    def make(size: int, **more: Any) -> Any:
        return build_network({**spec, "network": {**settings, **more}}, num_classes, size, tried=False)

    def advice() -> str:
        is_own = spec.get("image_size") is not None
        return suggest_settings(network.network, make, settings, role, image_size, has_size, is_own)

    return check_forward(network, role, image_size, advice)


def build_dataset(cfg: DictConfig, store: Any, **given: Any) -> Any:
    """Make the data set of the config node ``data``, from the settings that the program does not read itself.

    Args:
        given: settings to replace.
    """
    from kd.data.sizing import Sizing
    from kd.data.unlabelled import hide_labels

    node = copy.deepcopy(cfg.data)
    with read_write(node), open_dict(node):
        labelled = [node.pop(name, None) for name in ("balance", "unlabelled", "labelled")][-1]
        node.update(given)
        size = Sizing(**{each.name: node.pop(each.name) for each in fields(Sizing)})
    made = instantiate(node, _partial_=True)(store=store, size=size)  # as an argument, Hydra would make it a config
    return made if labelled is None else hide_labels(made, labelled, node.get("seed", 0))


def build_augment(cfg: DictConfig) -> list[Any]:
    """Make the steps of the config node ``augment``, in order."""
    return [instantiate(step, _convert_="all") for step in cfg.augment.steps.values()]


def build_second_augment(cfg: DictConfig) -> list[Any]:
    """Make the steps of the second view, in order: of ``second_augment`` or, where there is none, of ``augment``."""
    node = cfg.get("second_augment")
    if node is None:
        return build_augment(cfg)
    before = build_augment(cfg) if node.get("after_augment") else []
    return [*before, *(instantiate(step, _convert_="all") for step in node.steps.values())]


def build_objective(method: DictConfig) -> Objective:
    """Make the objective of one option of the group `kd`.

    Raises:
        ValueError: wrong weights or schedules, or ``kd.balance=auto`` without labels to balance with.
    """
    from kd.train.balance import shares_of
    from kd.train.objective import Objective

    objective = Objective(instantiate(method.terms, _convert_="all"), dict(method.weights), method.get("schedule"))
    if method.get("balance") and (shares := shares_of(objective, method.get("balance_share"))):
        objective.balance_to(shares)
    return objective


def build_baseline_objective(method: DictConfig) -> Objective:
    """Make the objective of the baseline, which has no teacher.

    Raises:
        ValueError: the method reads more than labels.
    """
    objective = isinstance(method.get("terms"), DictConfig) and build_objective(method)
    bound = objective and any(hasattr(term, "bind") for term in objective.terms.values())
    if not objective or objective.needs or objective.views > 1 or bound:
        raise ValueError(BASELINE)
    return objective


def instantiate_node(node: DictConfig, **given: Any) -> Any:
    """Make the object of a config node with a ``_target_``; ``given`` are arguments that are not settings."""
    return instantiate(node, **given)


def _describe_import_error(key: str, target: str, error: BaseException) -> str:
    """Return a message that distinguishes a name that does not exist from one that fails to import."""
    while error.__cause__:
        error = error.__cause__
    unknown = isinstance(error, ModuleNotFoundError) and error.name and f"{target}.".startswith(f"{error.name}.")
    if unknown or isinstance(error, AttributeError):
        return f"{key}={target}: there is no such class or function"
    return f"{key}={target} cannot be imported: {error_line(error)}"


@contextmanager
def name_setting(cfg: DictConfig, node: str | None = None) -> Iterator[None]:
    """Prefix the error message of a constructor with the setting that it concerns.

    Args:
        node: key of the config node that the block instantiates, if there is one.

    Raises:
        ValueError: in place of any error that the block raises.
    """
    try:
        yield
    except Exception as error:  # Hydra 1.3 wraps it, Hydra 1.4 does not
        cause = error.__cause__ or error if isinstance(error, InstantiationException) else error
        found = re.search(r"full_key: (\S+)", str(error))
        raw, key = OmegaConf.to_container(cfg), found[1] if found else node
        if isinstance(error, InstantiationException) and isinstance(cause, ImportError):
            target = get_path(raw, f"{key}._target_")
            raise ValueError(_describe_import_error(f"{key}._target_", target, cause)) from error
        text = str(cause) if isinstance(cause, ValueError | OSError) else error_line(cause)
        raise ValueError(blamed_error(raw, key, text) if key else text) from error
