"""Outputs of a network over a data set, on one process or on several."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from itertools import chain

import numpy as np
import torch
from torch import nn

from kd.data.loader import Loader
from kd.interfaces import Batch, Outputs, extract_outputs
from kd.runtime.device import Device
from kd.runtime.distributed import SINGLE_PROCESS, World


def predict_distributed(
    network: nn.Module, loader: Loader, positions: np.ndarray, device: Device, world: World
) -> np.ndarray:
    """Return the logits of the images at ``positions``, float32 [N, K], on every process; each computes a shard."""
    if len(positions) < world.size:
        world = SINGLE_PROCESS  # too few to shard: each process computes all
    return np.concatenate(world.all_gather(predict(network, loader.eval_batches(world.shard(positions)), device)))


def predict(network: nn.Module, batches: Iterable[Batch], device: Device) -> np.ndarray:
    """Return the logits, float32 [N, K]: eval mode, no gradients, never in mixed precision."""
    training = network.training
    network.eval()
    with torch.inference_mode():
        logits = []
        for batch in batches:
            with device.turns():
                logits.append(network(batch.image).float().cpu())
    network.train(training)
    return torch.cat(logits).numpy()


def outputs_over(
    network: nn.Module, needs: Set[str], loader: Loader, positions: np.ndarray, device: Device
) -> Iterator[tuple[Outputs, Batch]]:
    """Yield the outputs of ``network`` for the images at ``positions``, batch after batch in this order.

    The images are unaugmented; eval mode, no gradients, never in mixed precision. Each of several processes computes
    all: what is made of it is a buffer, of which DDP sends the main process's to the others.

    Args:
        network: on any device; its images and outputs are there. needs: see ``extract_outputs``.
    """
    place = next(chain(network.parameters(), network.buffers())).device
    for batch in loader.eval_batches(positions):
        batch = Batch(batch.image.to(place), batch.target.to(place), batch.index.to(place))
        training = network.training
        network.eval()
        with torch.no_grad(), device.turns():  # not around the yield: the caller has gradients
            outputs = extract_outputs(network, batch.image, needs).to_float32(needs)
        network.train(training)
        yield outputs, batch


def predict_views(
    networks: Mapping[str, nn.Module], loader: Loader, epoch: int, device: Device, most: int
) -> dict[str, np.ndarray]:
    """Return what networks say, in eval mode, of training images as an epoch shows them.

    Args:
        networks: by role. loader: of the training. most: images; the order of an epoch is random, so its first ones
            are a fair sample. Of several views of an image the first counts.

    Returns:
        "index" and "target", int64 [n], and float32 logits [n, K] by role. The target is -1 for an image without a
        label; of two images that were mixed it is the label of the larger part.
    """
    rows: dict[str, list[np.ndarray]] = {name: [] for name in ("index", "target", *networks)}
    for batch in loader.epoch(epoch):
        kept = slice(min(most, len(batch.index) // batch.views))
        own = batch.target[kept]
        if batch.mixup_target is not None:
            own = torch.where(batch.mixup_lam[kept] >= 0.5, own, batch.mixup_target[kept])
        rows["index"].append(batch.index[kept].cpu().numpy())
        rows["target"].append(own.cpu().numpy())
        for role, network in networks.items():
            rows[role].append(predict(network, [batch._replace(image=batch.image[kept])], device))
        most -= len(own)
        if most <= 0:
            break
    return {name: np.concatenate(parts) for name, parts in rows.items()}
