"""One run: ``python -m kd.run teacher=vea_resnet18 student=tiny_cnn``. Composes, instantiates, runs.

Everything heavy is imported when it is needed, so that ``--help`` and ``--cfg job`` answer at once.
"""

from __future__ import annotations

import copy
import os
import shlex
import signal
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kd.advice import share, tell_plainly
from kd.config.build import build_network, data_of, fitted, objective_of, twin_of
from kd.config.checks import check_values
from kd.config.combine import settled
from kd.config.composed import resolved
from kd.config.keys import key_of
from kd.config.mistakes import begin, in_full, plainly, refuse_dashes
from kd.config.options import assistants_of, conf_dir, members_of, name_of
from kd.config.register import register
from kd.config.settings import AUTO
from kd.config.typed import readable, trimmed
from kd.config.wandb_names import as_group
from kd.interrupt import LEADER, asked, closing, end, follow, listen
from kd.runtime.values import format_override
from kd.search import timed, values
from kd.starved import in_words
from kd.streams import open_streams

if TYPE_CHECKING:
    from kd.data.loader import Loader
    from kd.data.pictures import Pictures
    from kd.models.normalized import Normalized
    from kd.pipeline import Parts, Ran
    from kd.stages import Task
    from kd.train import Recipe

# our yaml of a launcher hides the plugin's of the same name, and is checked against it: that is meant
warnings.filterwarnings("ignore", message=r"\s*'hydra/(launcher|sweeper/sampler)/")
HEARTBEAT = 30.0  # seconds between the lines of a cell that trains for long
PEER = 1_000_000  # what the seeds of a student's peers are apart
GROUPS = ("data", "attention", "teacher", "student", "kd", "train", "tracking", "experiment")


register()
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")


def run(cfg: DictConfig, choices: Mapping[str, str], folder: Path | None = None, command: str = "") -> Ran:
    """Data, networks, teacher, twin, student, report.

    Args:
        choices: the option taken in each group. folder: where the run goes, if not where its key says.
        command: what starts it again, for the report.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:  # or DDP warns, in every process, of what is meant
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    parts = prepare(cfg, choices)

    from kd.pipeline import carry_out

    return carry_out(parts, folder, command)


def prepare(cfg: DictConfig, choices: Mapping[str, str]) -> Parts:
    """Make everything before anything is trained, so that a wrong setting shows at once."""
    if cfg.train.batch_size == "auto":
        return prepare_in_pieces(cfg, choices)
    check_values(OmegaConf.to_container(cfg), resolved(cfg))
    cfg, choices = settled(cfg, choices)
    settings = resolved(cfg)

    from kd.clock import Clock
    from kd.data.loader import Loader
    from kd.interfaces import advise
    from kd.machine import find_machine
    from kd.methods.supervised import learns_labels
    from kd.models.ensemble import Ensemble
    from kd.parallel import join
    from kd.pipeline import Parts, rehearse
    from kd.plan import keys_of
    from kd.stages import Task
    from kd.store import Store
    from kd.teacher import choose_source

    clock = Clock()
    train, ranks = cfg.train, join()
    number = ranks.local if ranks.size > 1 else None
    machine = find_machine(train.device, train.precision, train.channels_last, train.threads, number)
    settings["train"]["precision"] = machine.describe()["precision"]  # "auto" is another network on another machine
    objective, twin_objective = objective_of(cfg.kd), twin_of(cfg.twin)
    if cfg.data.balance == "weight" and not learns_labels(objective):
        advise(
            f"data.balance=weight weighs labels, and kd={choices['kd']} reads none: only teacher and twin learn by it"
        )
    members = members_of(settings, choices["teacher"])
    if members:
        choices["teacher"] = name_of(members)
    assistants = assistants_of(settings) if objective.needs else []
    store = Store(Path(cfg.outputs or "outputs").expanduser())
    with clock("data"), ranks.lead():
        pictures = data_of(cfg, store)

    keys = keys_of(settings, pictures.fingerprint, bool(objective.needs), members, assistants)
    recipe = instantiate(train.student)
    drawn = {"mixup": recipe.mixup, "pieces": train.pieces, "balance": cfg.data.balance}
    loader = Loader(pictures, train.batch_size, cfg.seed, machine.device, **drawn)
    build = partial(build_on, pictures)
    student = {"network": settings["student"], "seed": cfg.seed}
    alone = {**settings["teacher"], "attention": settings["attention"]}
    tasks = teachers_of(members or [alone], keys.members, instantiate(train.teacher), loader, build)
    if cfg.baseline:
        twin = build("student", student)
        tasks["baseline"] = Task("baseline", "students", keys.twin, twin, twin_objective, recipe, loader)
    chain = [*zip(stages("assistant", assistants, many=True), assistants, keys.assistants, strict=True)]
    fresh = {}
    for stage, spec, key in [*chain, ("student", student, keys.student)]:
        term = objective if stage == "student" else objective_of(cfg.kd)
        own = loader.differing(spec["seed"], recipe.mixup)
        tasks[stage] = Task(stage, "students", key, build(stage, spec), term, recipe, own)
        fresh[stage] = partial(build, stage, spec)
    answers = recipe.epochs * len(pictures.targets) * len(pictures.classes)
    published = f"{settings['teacher']['network'].get('name')} {settings['attention']['stages']}"
    parts = Parts(
        settings=settings,
        written=OmegaConf.to_yaml(OmegaConf.create(settings)),
        choices=choices,
        keys=keys,
        store=store,
        machine=machine,
        ranks=ranks,
        pictures=pictures,
        tasks=tasks,
        fresh=fresh,
        together=(lambda networks: Ensemble(networks, cfg.teacher.combine)) if members else None,
        banks=dict(zip(fresh, keys.banks, strict=True)),
        source=choose_source(cfg.teacher.source, objective.needs, answers),
        unused=0 if members else cfg.attention.published_but_unused.get(published, 0),
        clock=clock,
    )
    rehearse(parts)
    return parts


def build_on(pictures: Pictures, role: str, spec: Mapping[str, Any], number: int = 0) -> Normalized:
    """Make the network of ``spec`` for these pictures, with its seed's weights, or those of a checkpoint.

    Args:
        role: for messages. number: of a peer, which has another seed.
    """
    import torch

    from kd.models.normalized import Normalized
    from kd.weights import take

    torch.manual_seed(spec["seed"] + PEER * number)
    try:
        network = build_network(spec, len(pictures.classes), pictures.image_size)
    except InstantiationException as error:  # of a setting of the network's
        cause = error.__cause__ or error
        raise ValueError(f"{role}: {cause}") from error
    network = Normalized(network, pictures.mean, pictures.std)
    told = spec.get("mean") is not None or spec.get("std") is not None
    if spec.get("checkpoint"):
        take(network, Path(spec["checkpoint"]).expanduser(), told, spec.get("checkpoint_prefix"))
    if told:  # over what a checkpoint brings
        network.normalize_by(spec.get("mean"), spec.get("std"))
    return fitted(network, spec, role, len(pictures.classes), pictures.image_size)


def teachers_of(
    specs: Sequence[Mapping[str, Any]], keys: Sequence[str], recipe: Recipe, loader: Loader, build: Callable
) -> dict[str, Task]:
    """The tasks of the teachers, by stage; each learns from labels alone, in an order of its own."""
    from kd.methods.supervised import CrossEntropy
    from kd.objective import Objective
    from kd.stages import Task

    tasks = {}
    for stage, spec, key in zip(stages("teacher", specs), specs, keys, strict=True):
        labels = Objective({"hard": CrossEntropy(recipe.label_smoothing)}, {"hard": 1.0})
        own = loader.differing(spec["seed"], recipe.mixup)
        given = bool(spec["checkpoint"])
        tasks[stage] = Task(stage, "teachers", key, build("teacher", spec), labels, recipe, own, given)
    return tasks


def prepare_in_pieces(cfg: DictConfig, choices: Mapping[str, str]) -> Parts:
    """``prepare``, with the fewest pieces of a batch that fit into memory."""
    from kd.fits import fewest_pieces

    cfg = copy.deepcopy(cfg)
    cfg.train.batch_size = AUTO
    parts = prepare(cfg, choices)
    pieces = fewest_pieces(parts)
    if pieces > cfg.train.pieces:
        del parts  # and with it what lies on the device
        cfg.train.pieces = pieces
        parts = prepare(cfg, choices)
    return parts


def stages(role: str, specs: Sequence[Any], many: bool = False) -> list[str]:
    """Names of what plays one role: "teacher", or "teacher_1", "teacher_2" of several."""
    return [f"{role}_{number}" for number in range(1, len(specs) + 1)] if many or len(specs) > 1 else [role]


def show(ran: Ran) -> None:
    from kd.progress import say
    from kd.tables import terminal_table

    page = ran.folder / "report.md"
    where = f"Report: {page}" if page.is_file() else f"Folder: {ran.folder}"
    say(f"\n{terminal_table(ran.result)}\n\n{where}\n{ran.hint}")


def cell(cfg: DictConfig, choices: Mapping[str, str], command: str) -> float | tuple[float, ...] | None:
    """One job of a multirun: the ledger gets what became of it; see ``kd/multirun.py``."""
    from kd.progress import slow_down
    from kd.sweeps.ledger import entry, is_told, read_plan

    job = HydraConfig.get()
    folder = Path(job.sweep.dir)
    plan = read_plan(folder)
    slow_down(HEARTBEAT)
    tell_plainly()  # in a launcher's worker, too
    share(folder)
    follow(int(os.environ.get(LEADER, 0)))  # a launcher's worker on this machine
    swept = [o for o in job.overrides.task if key_of(o) in plan["swept"]]
    try:
        with entry(folder, swept) as page:
            ran = run(cfg, choices, None, command)
            page.ran(ran.folder, ran.result, ran.found)
            return told(ran, cfg) if plan["cells"] is None else None  # a grid asks for nothing
    except Exception as error:
        if plan["cells"] is None:  # a search wants to know
            raise
        if not is_told(folder, swept, error):
            print(f"kd: {' '.join(map(format_override, swept))}: {in_words(error, cfg.outputs)}", file=sys.stderr)
        return None  # the ledger holds error and traceback; the sweep goes on, and its exit code tells


def told(ran: Ran, cfg: DictConfig) -> float | tuple[float, ...]:
    """What a sweeper is told of a run."""
    from kd.interfaces import advise
    from kd.tables import is_calm

    objective = OmegaConf.to_container(cfg, resolve=True)["objective"]
    if not is_calm(ran.result["student"]) and (late := timed(objective)):
        advise(f"a search is told {' and '.join(late)}, which was timed while something else used the machine")
    return values(ran.result, objective)


@hydra.main(version_base="1.3", config_path=conf_dir(), config_name="config")
def compose_and_run(cfg: DictConfig) -> float | tuple[float, ...] | None:
    """Compose, run, and say in a line what went wrong if something did."""
    begin()
    open_streams()  # of a launcher's worker
    job = HydraConfig.get()
    if "sweep" not in job.callbacks:
        name = job.job.config_name
        raise SystemExit(f"kd: {name}.yaml is no main config: such a page begins with 'defaults: [config, _self_]'")
    choices = {group: job.runtime.choices[group] for group in GROUPS if job.runtime.choices.get(group)}
    own = [o for o in job.overrides.task if not o.startswith("outputs=")]
    command = "python -m kd.run " + shlex.join(own)
    if job.mode == RunMode.MULTIRUN:
        if cfg.tracking.group is None:
            cfg.tracking.group = as_group(Path(job.sweep.dir).name)
        return cell(cfg, choices, command)
    given = any(override.startswith("hydra.run.dir=") for override in job.overrides.hydra)
    try:
        ran = run(cfg, choices, Path(job.runtime.output_dir) if given else None, command)
    except Exception as error:
        from kd.progress import await_turn

        await_turn(error)
        expected = (ValueError, OSError, ArithmeticError, OmegaConfBaseException, InstantiationException)
        if in_full() or not isinstance(error, expected):
            raise
        cause = error.__cause__ if isinstance(error, InstantiationException) and error.__cause__ else error
        print(f"kd: {in_words(cause, cfg.outputs)}\n(HYDRA_FULL_ERROR=1 shows where this was found.)", file=sys.stderr)
        raise SystemExit(2) from error
    show(ran)
    return told(ran, cfg)


def read_arguments() -> None:
    """Rewrite what is typed for Hydra, before it looks; say which blanks it will drop."""
    if sys.getfilesystemencoding() != "utf-8" and any(any("\udc80" <= c <= "\udcff" for c in w) for w in sys.argv):
        locale = os.environ.get("LC_ALL") or os.environ.get("LANG") or "this one"
        print(f"kd: Python reads no such letters in the locale {locale}: say PYTHONUTF8=1 before it", file=sys.stderr)
        raise SystemExit(2)
    typed, sys.argv[1:] = sys.argv[1:], readable(sys.argv[1:])
    for sentence in trimmed(typed, sys.argv[1:]):
        print(f"kd: {sentence}", file=sys.stderr)


def main() -> None:
    """What ``python -m kd.run`` and ``kd-run`` call."""
    failed, interrupted = 0, False
    tell_plainly()
    open_streams()
    listen()
    sys.argv[1:] = sorted(sys.argv[1:], key=lambda word: word not in ("-m", "--multirun"))  # argparse wants it first
    read_arguments()
    try:
        with plainly():
            refuse_dashes(sys.argv[1:])
            compose_and_run()
    except KeyboardInterrupt:
        closing()
        interrupted = True
        if in_full():
            raise
    finally:
        multirun = sys.modules.get("kd.multirun")
        sweeps = multirun is not None and multirun.is_on()
        if multirun:
            failed = multirun.finish(report=not interrupted)
    if interrupted:
        print("kd: interrupted; the same command goes on from here", file=sys.stderr, flush=True)
        if not sweeps:  # whose launcher has processes to end
            end()
        raise SystemExit(128 + (asked() or signal.SIGINT))
    closing()
    if failed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
