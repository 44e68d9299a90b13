"""Two processes compute what one does, up to rounding: losses, weights, batch norms, logit caches, the whole command.

Run as a script, this file is one of the processes.
"""

from __future__ import annotations

import copy
import json
import os
import signal
import socket
import subprocess
import sys
import time
import weakref
from contextlib import nullcontext, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torch.distributed as dist
from timm.layers import BatchNormAct2d
from torch import Tensor, nn

from kd.chaos import differences
from kd.data.datasets.scenes.dataset import load
from kd.data.loader import Loader
from kd.data.sizing import Sizing
from kd.methods.dhkd import DHKD
from kd.methods.hinton import Hinton
from kd.methods.supervised import CrossEntropy
from kd.models.normalized import Normalized
from kd.models.tiny_cnn import TinyCNN
from kd.pipeline.stage import StageSpec, get_or_train
from kd.runtime.device import resolve_device
from kd.runtime.distributed import (
    SINGLE_PROCESS,
    DistributedStep,
    World,
    end_distributed,
    init_distributed,
    limit_waiting,
    reaches,
)
from kd.runtime.sync_batch_norm import SyncBatchNorm
from kd.runtime.timer import Timer
from kd.store.store import Store
from kd.teachers.live import LiveTeacher
from kd.teachers.logit_cache import open_cache
from kd.train.loop import fit
from kd.train.objective import Objective
from kd.train.recipe import Recipe
from tests import quickly
from tests.fake_device import Watch
from tests.views import AUGMENT

CPU = torch.device("cpu")
ONE_THREAD = {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}


class Hint(nn.Module):
    """A term with its own weights and batch norm."""

    needs = frozenset({"features"})

    def setup(self, student, teacher):
        channels = teacher.features[-1].shape[1]
        adapter = nn.Conv2d(student.features[-1].shape[1], channels, 1, bias=False)
        self.adapter = nn.Sequential(adapter, nn.BatchNorm2d(channels))

    def forward(self, student, teacher, batch):
        return (self.adapter(student.features[-1]) - teacher.features[-1]).pow(2).mean()


def experiment(folder: Path, world: World = SINGLE_PROCESS) -> dict:
    """Train small networks without dropout, in any number of processes; 33 images per batch are 17 and 16."""
    device = resolve_device("cpu", "float32", threads=1)
    store = Store(folder)
    with world.main_process_first():
        dataset = load(store, Sizing(16), train_images=120, test_images=60, val_fraction=0.2)

    def network(width: float, seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return Normalized(TinyCNN(6, 16, width=width), dataset.mean, dataset.std)

    live = LiveTeacher(network(0.5, 9), device)
    loader = Loader(dataset, 33, 0, CPU, augment=AUGMENT)
    soft = partial(Objective, {"hard": CrossEntropy(), "soft": Hinton(4.0)}, {"hard": 0.1, "soft": 0.9})

    def of_timm() -> nn.Module:
        torch.manual_seed(0)
        return Normalized(timm.create_model("test_resnet", num_classes=6), dataset.mean, dataset.std)

    def trained(
        objective: Objective, loader: Loader, recipe: Recipe, student: nn.Module | None = None
    ) -> tuple[list[dict], dict[str, Tensor]]:
        student, rows = student or network(0.25, 0), []
        fit(student, objective, loader, recipe, device, stage="s", teacher=live, world=world, log=rows.append)
        assert not any(isinstance(module, SyncBatchNorm) for module in student.modules())
        return rows, student.state_dict() | {f"term.{name}": v for name, v in objective.state_dict().items()}

    # the biases of convolutions before a batch norm have no gradient but rounding, which AdamW makes a step of: SGD
    sgd = partial(Recipe, optimizer="sgd", lr=0.05, weight_decay=0.0)
    hint = Objective({"hard": CrossEntropy(), "hint": Hint()}, {"hard": 1.0, "hint": 1.0})
    steps = Loader(dataset, 10_000, 0, CPU, augment=AUGMENT)  # one step per epoch: the log shows every step
    found = {
        "steps": trained(soft(), steps, Recipe(4)),
        "epochs": trained(soft(), loader, sgd(3)),
        "hint": trained(hint, loader, sgd(2, ema=0.9, clip_norm=1.0)),
        "freeze": trained(soft(), loader, sgd(3, lr=0.01, freeze_epochs=1, layer_decay=0.5), of_timm()),
        "grad_accum_steps": trained(
            soft(), Loader(dataset, 33, 0, CPU, grad_accum_steps=3, augment=AUGMENT), sgd(2, clip_norm=1.0)
        ),
    }
    dot, parts = (
        partial(sgd, optimizer="dot", delta=0.05),
        Loader(dataset, 33, 0, CPU, grad_accum_steps=3, augment=AUGMENT),
    )
    hint = Objective({"hard": CrossEntropy(), "hint": Hint()}, {"hard": 1.0, "hint": 1.0})
    heads = Objective({"hard": CrossEntropy(), "second": DHKD(hidden=8, dropout=0.0)}, {"hard": 1.0, "second": 1.0})
    found["aligned"] = trained(heads, parts, sgd(2, lr=0.02, clip_norm=1.0))
    found["dot"] = trained(hint, parts, dot(2, clip_norm=1.0, ema=0.9))
    clock = Timer()
    cache = open_cache(store, {"test": 1}, live, loader, 3, clock, world)
    task = StageSpec("student", "students", {"s": 1}, network(0.25, 1), soft(), sgd(2), loader)
    once = get_or_train(store, task, device, lambda row: None, teacher=cache, world=world)
    again = StageSpec("student", "students", {"s": 1}, network(0.25, 2), soft(), sgd(2), loader)
    twice = get_or_train(store, again, device, lambda row: None, teacher=cache, world=world)
    weights = [dict(trained.network.state_dict()) for trained in (once, twice)]
    return found | {
        "logit_cache": torch.from_numpy(np.array(cache.logits)),
        "published": weights[0],
        "logits": torch.from_numpy(once.test_logits),
        "about": [once.training, twice.training],
        "everyone": world.all_gather(
            weights
            + [found[name][1] for name in ("steps", "epochs", "hint", "freeze", "grad_accum_steps", "dot", "aligned")]
        ),
        "norms": norms(world),
    }


def norms(world: World) -> dict[str, list[Tensor]]:
    """Outputs, gradients of the input and running statistics of 7 images, which two processes share as 4 and 3."""
    found = {}
    for name, kind in {"plain": nn.BatchNorm2d, "act": BatchNormAct2d}.items():
        torch.manual_seed(0)
        norm, image = kind(5), 3 * torch.randn(7, 5, 6, 6) + 10
        nn.init.normal_(norm.weight)
        weigh = torch.randn_like(image)
        mine = torch.from_numpy(world.shard(np.arange(7)))
        if world.size > 1:
            norm.__class__ = SyncBatchNorm
        x = image[mine].requires_grad_()
        y = norm(x)
        (y * weigh[mine]).sum().backward()
        by_weight = world.size * world.all_reduce_mean(norm.weight.grad)
        found[name] = [torch.cat(world.all_gather(part)) for part in (y.detach(), x.grad)]
        found[name] += [by_weight, norm.running_mean, norm.running_var, norm.num_batches_tracked]
    return found


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    threads = torch.get_num_threads()
    yield tmp_path_factory.mktemp("parallel")
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def one_and_two(place) -> tuple[dict, dict]:
    """The experiment in this process, and in two others started as torchrun would."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    meeting = ONE_THREAD | {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    environments = [os.environ | meeting | {"RANK": rank, "LOCAL_RANK": rank} for rank in "01"]
    both = [
        quickly.start("tests.runtime.test_distributed", str(place / "two"), cwd=place, env=env) for env in environments
    ]
    one = experiment(place / "one")
    printed = ["".join(process.communicate(timeout=120)) for process in both]
    assert [process.returncode for process in both] == [0, 0], "\n".join(printed)
    return one, torch.load(place / "two" / "found.pt", weights_only=False)


def assert_close(ones: dict[str, Tensor], twos: dict[str, Tensor], rtol: float) -> None:
    assert set(ones) == set(twos)
    for name, one in ones.items():
        torch.testing.assert_close(twos[name], one, rtol=rtol, atol=rtol, msg=lambda text, name=name: f"{name}: {text}")


def test_every_step_has_the_loss_that_one_process_has(one_and_two):
    (ones, _), (twos, _) = (found["steps"] for found in one_and_two)
    assert len(ones) == 4
    for one, two in zip(ones, twos, strict=True):
        for name in ("loss", "hard", "soft", "train_accuracy"):
            assert two[name] == pytest.approx(one[name], rel=1e-5), (one["epoch"], name)


@pytest.mark.parametrize("name", ["epochs", "hint", "freeze", "grad_accum_steps", "dot", "aligned"])
def test_epochs_of_uneven_slices_end_with_the_weights_that_one_process_has(one_and_two, name):
    (ones, one), (twos, two) = (found[name] for found in one_and_two)
    for a, b in zip(ones, twos, strict=True):
        for key in set(a) - {"stage", "seconds", "images_per_s"}:
            assert b[key] == pytest.approx(a[key], rel=1e-4), (a["epoch"], key)
    assert_close(one, two, 1e-4)  # running statistics and the term's own weights among them
    assert name != "hint" or any(key.startswith("term.") for key in one)


def test_all_processes_end_with_the_same_bits(one_and_two):
    first, second = one_and_two[1]["everyone"]
    for mine, theirs in zip(first, second, strict=True):
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_the_logit_cache_has_the_bits_that_one_process_writes(one_and_two):
    one, two = (found["logit_cache"] for found in one_and_two)
    assert torch.equal(one.nan_to_num(7), two.nan_to_num(7)) and one.isnan().any() and not one.isnan().all()


def test_what_is_trained_together_is_published_once_and_found(one_and_two, place):
    one, two = one_and_two
    assert [about["found"] for about in two["about"]] == [False, True]
    assert_close(one["published"], two["published"], 1e-4)
    torch.testing.assert_close(two["logits"], one["logits"], rtol=1e-3, atol=1e-3)
    for folder in ("one", "two"):
        (student,) = (place / folder / "students").iterdir()
        history = (student / "history.jsonl").read_text(encoding="utf-8").splitlines()
        assert [json.loads(row)["epoch"] for row in history] == [1, 2]
    files = [
        {str(path.relative_to(place / folder)) for path in (place / folder).rglob("*")} for folder in ("one", "two")
    ]
    assert files[1] - files[0] == {"found.pt"} and not files[0] - files[1]


@pytest.mark.parametrize("kind", ["plain", "act"])
def test_a_batch_norm_over_two_processes_is_that_of_the_whole_batch(one_and_two, kind):
    ones, twos = (found["norms"][kind] for found in one_and_two)
    for one, two in zip(ones, twos, strict=True):
        torch.testing.assert_close(two, one, rtol=1e-5, atol=1e-5)


@pytest.fixture
def group_of_one():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("kind", [nn.BatchNorm2d, BatchNormAct2d])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("setting", [{}, {"affine": False}, {"momentum": None}, {"track_running_stats": False}])
def test_the_batch_norm_is_torchs(group_of_one, kind, dtype, setting):
    torch.manual_seed(0)
    norm, image = kind(5, **setting), (3 * torch.randn(6, 5, 7, 7) + 100).to(dtype)
    image = image.contiguous(memory_format=torch.channels_last)
    own = copy.deepcopy(norm)
    own.__class__ = SyncBatchNorm
    weigh, found = torch.randn_like(image), []
    for module in (norm, own):
        x = image.clone().requires_grad_()
        module(x)
        y = module(x)
        (y * weigh).sum().backward()
        parts = [y.detach(), x.grad, *(p.grad for p in module.parameters()), *module.buffers()]
        module.eval()
        found.append([*parts, module(image).detach()])
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(two, one, rtol=1e-5, atol=1e-5)
        assert two.stride() == one.stride()


@pytest.mark.parametrize("setting", [{}, {"affine": False}, {"momentum": None}])
def test_a_batch_norm_over_processes_reads_no_value(group_of_one, setting):
    """``nn.SyncBatchNorm`` reads three boolean masks a layer on a GPU: each time the host waits."""
    norm = nn.BatchNorm2d(5, **setting)
    norm.__class__ = SyncBatchNorm
    with Watch("cpu") as watch:
        norm(torch.rand(4, 5, 6, 6, requires_grad=True)).square().sum().backward()
    assert not watch.reads and watch.operations > 10
    with Watch("cpu") as watch:
        norm.running_mean[norm.running_mean > 0].sum().item()
    assert watch.reads == ["index", "_local_scalar_dense"], "it would be seen"


class Heads(nn.Module):
    """Two heads; ``both`` says whether the loss depends on the second, ``schedule`` whether that may change."""

    def __init__(self, both: bool, schedule: dict | None = None, width: int = 3):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(4, width), nn.BatchNorm1d(width))
        self.heads = nn.ModuleList(nn.Linear(width, 2) for _ in range(2))
        self.both, self.schedule, self.calls = both, schedule or {}, 0

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self.calls += 1
        seen = self.trunk(x)
        loss = sum(head(seen).square().mean() for head in self.heads[: 1 + self.both])
        return loss, loss.detach()


@pytest.mark.parametrize(
    ("settings", "looks"),
    [
        ({"both": True}, False),
        ({"both": False}, True),
        ({"both": True, "schedule": {"soft": {"start": 0.5}}}, True),
        ({"both": True, "width": 40_000}, True),  # several buckets, whose order DDP keeps only so
    ],
    ids=lambda value: "" if isinstance(value, bool) else "-".join(value),
)
def test_ddp_looks_for_unused_parameters_only_where_there_may_be_some(group_of_one, settings, looks):
    torch.manual_seed(0)
    plain, step = (Heads(**settings) for _ in range(2))
    step.load_state_dict(plain.state_dict())
    shared = DistributedStep(step, World())
    first = weakref.ref(shared.ddp)
    for number in range(3):
        x = torch.randn(6, 4)
        for module in (plain, step):
            module.zero_grad()
        with nullcontext() if number else shared.no_sync():  # a micro-batch comes first
            shared(x)[0].backward()
        shared(x)[0].backward()
        for _ in range(2):
            plain(x)[0].backward()
        assert step.calls == 2 * (number + 1), "the first forward pass runs once, too"
        for ours, theirs in zip(step.parameters(), plain.parameters(), strict=True):
            assert (ours.grad is None) == (theirs.grad is None)
            assert ours.grad is None or torch.allclose(ours.grad, theirs.grad, rtol=1e-4, atol=1e-6)
        assert shared.ddp.find_unused_parameters is looks
    assert (first() is shared.ddp) is looks, "the first one and its memory are gone"
    assert shared.ddp._has_rebuilt_buckets is False, "buckets that change change the order of sums"
    for ours, theirs in zip(step.buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_all_parameters_that_a_loss_depends_on_are_found():
    used, unused = (nn.Parameter(torch.ones(2)) for _ in range(2))
    loss = (used * 2).sum() + used.square().sum()
    assert reaches(loss, [used]) and not reaches(loss, [used, unused]) and reaches(loss, [])


def test_gpus_do_not_wait_as_long_as_processes_do(group_of_one):
    """Tried with gloo's part of the group, as NCCL's needs a GPU."""
    backend = dist.distributed_c10d._get_default_group()._get_backend(CPU)
    limit_waiting("cpu", timedelta(minutes=7))
    assert backend.options._timeout == timedelta(minutes=7)
    end_distributed()
    assert not dist.is_initialized()
    end_distributed()
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)  # for the fixture to end


def test_slices_weigh_as_much_as_their_images():
    worlds = [World(rank, 3) for rank in range(3)]
    assert [part for one in worlds for part in one.shard(np.arange(11)).tolist()] == list(range(11))
    assert [one.shard_weight(11) for one in worlds] == [12 / 11, 12 / 11, 9 / 11]
    assert SINGLE_PROCESS.shard_weight(11) == 1
    with pytest.raises(ValueError, match="a batch of 2 images cannot be shared by 3 processes"):
        worlds[0].shard_weight(2)


@pytest.fixture(scope="module")
def commands(place) -> tuple[Path, Path, str]:
    """One small run in one process and in two: their folders, and the output of torchrun."""
    from tests.pipeline.test_run import SMALL, run

    few = ["train.batch_size=33", "train.threads=1", "train.precision=float32", "report=false"]
    alone, _ = run(place / "alone", *few)
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "kd.run"]
    done = subprocess.run(
        [sys.executable, *start, *SMALL, *few, "tracking=disabled"],
        env=os.environ | ONE_THREAD | {"KD_OUTPUTS": str(place / "both")},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (both,) = (place / "both" / "runs").iterdir()
    return alone, both, done.stdout


def test_torchrun_makes_the_run_that_one_process_makes(commands):
    alone, both, output = commands
    assert both.name == alone.name
    ones, twos = (
        [json.loads(row) for row in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
        for folder in (alone, both)
    )
    assert [(row["stage"], row["epoch"]) for row in twos] == [(row["stage"], row["epoch"]) for row in ones]
    assert all(two["loss"] == pytest.approx(one["loss"], rel=1e-3) for one, two in zip(ones, twos, strict=True))
    assert twos[0]["loss"] == pytest.approx(ones[0]["loss"], rel=1e-5)
    results = [json.loads((folder / "result.json").read_text(encoding="utf-8")) for folder in (alone, both)]
    for role in ("teacher", "baseline", "student"):
        assert results[1][role]["accuracy"] == pytest.approx(results[0][role]["accuracy"], abs=0.1)
    assert results[1]["key"] == results[0]["key"]
    lines = [line for line in output.splitlines() if " epoch " in line or line.startswith("Folder: ")]
    assert len(lines) == len(set(lines)) == len(ones) + 2 + 1, (
        "two epochs of the logit cache, and no line is printed twice"
    )


def test_torchrun_writes_every_file_once(commands):
    ones, twos = (
        {str(path.relative_to(folder.parents[1])) for path in folder.parents[1].rglob("*")} for folder in commands[:2]
    )
    skip = ("costs", ".locks")  # latencies that vary too much are not kept
    assert {path for path in ones ^ twos if not path.startswith(skip)} == set()
    for kind, count in {"runs": 1, "teachers": 1, "logits": 1, "students": 2}.items():
        assert len(list((commands[1].parents[1] / kind).iterdir())) == count


def test_one_process_reuses_what_two_made(commands):
    from kd.pipeline.execute import run
    from tests.conftest import compose, stamps
    from tests.pipeline.test_run import SMALL

    folder = commands[1]
    before = stamps(folder)
    few = ["train.batch_size=33", "train.threads=1", "train.precision=float32", "report=false", "tracking=disabled"]
    named = {"data": "scenes", "teacher": "vea_resnet18", "student": "tiny_cnn", "kd": "hinton"}
    run(compose(*SMALL, *few, f"outputs={folder.parents[1]}"), named)
    assert stamps(folder) == before


def torchrun(outputs: Path, *more: str) -> subprocess.Popen:
    """Start two processes with dropout, adapters with statistics of their own slices, EMA, and a live teacher."""
    from tests.pipeline.test_run import SMALL

    start = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "kd.run"]
    settings = ["kd=ofd", "teacher=tiny_cnn", "train.student.ema=0.9", "train.batch_size=33", "train.teacher.epochs=3"]
    settings += ["train.checkpoint_minutes=0.002", "train.threads=1", "baseline=false", "report=false"]
    return subprocess.Popen(
        [sys.executable, *start, *SMALL, *settings, "tracking=disabled", f"outputs={outputs}", *more],
        env=os.environ | ONE_THREAD,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def started_with(outputs: Path) -> list[int]:
    """Return the processes that were started with this outputs folder."""
    argument, found = f"outputs={outputs}".encode(), []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # the process has ended
            found += [int(place.parent.name)] * (argument in place.read_bytes().split(b"\0"))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM], ids=lambda sent: sent.name)
def test_two_processes_go_on_to_the_bit_where_they_were_ended(tmp_path, sent):
    peace, war = tmp_path / "peace", tmp_path / "war"
    whole = torchrun(peace)
    output = whole.communicate(timeout=300)[0]
    assert whole.returncode == 0, output
    for kind in ("teachers", "students"):
        ended = torchrun(war)
        while len(list(war.glob(f"unfinished/{kind}-*/*.pt"))) < 2:
            time.sleep(0.01)
            assert ended.poll() is None, ended.communicate()
        if sent == signal.SIGKILL:
            for pid in started_with(war):  # torchrun and both processes, which are in sessions of their own
                os.kill(pid, sent)
        else:
            ended.send_signal(sent)  # torchrun forwards it
        ended.communicate(timeout=60)
    again = torchrun(war)
    output = again.communicate(timeout=300)[0]
    assert again.returncode == 0, output
    assert "student: resuming from" in output
    assert not differences(peace, war)


if __name__ == "__main__":
    world = init_distributed()
    found = experiment(Path(sys.argv[1]), world)
    if world.is_main:
        torch.save(found, Path(sys.argv[1]) / "found.pt")
