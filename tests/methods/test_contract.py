"""Every yaml of the group `kd` keeps the contract of a method; a new yaml is tested without registration."""

from __future__ import annotations

import copy
import re
import warnings
from functools import cache

import pytest
import timm
import torch
from hydra.utils import get_object
from omegaconf import OmegaConf

from kd.data.samplers import LEARNING
from kd.interfaces import Batch, Context, Outputs, extract_outputs
from kd.models.normalized import Normalized
from kd.models.tiny_cnn import TinyCNN
from kd.train.objective import Objective
from tests.conftest import CONF, compose, options
from tests.test_shape import targets

HEADER = r"# (Labels|Logits|Features|Relations|Contrastive|Schemes): .+ \(.+ \d{4}\), https://\S+\.$"
METHODS = options("kd")
UNSURE = {"crld": ("kd.weak_threshold=0", "kd.strong_threshold=0")}  # an untrained teacher never passes a threshold


def network(width: float, classes: int = 6) -> Normalized:
    return Normalized(TinyCNN(classes, 16, width=width), (0.5, 0.5, 0.5), (0.3, 0.3, 0.3))


def of_timm(name: str) -> Normalized:
    return Normalized(timm.create_model(name, num_classes=6), (0.5, 0.5, 0.5), (0.3, 0.3, 0.3))


def see(model, image, show):
    return extract_outputs(model, image, show).to_float32(show)


def over(index, side, model, show):
    """Yield the outputs of training images, in batches of ten."""
    images = torch.rand(len(index), 3, side, side, generator=torch.Generator().manual_seed(3))
    for image, rows in zip(images.split(10), index.split(10), strict=True):
        with torch.no_grad():
            outputs = see(model, image, show)
        yield outputs, Batch(image, rows % 6, rows)


@cache
def chosen(method: str, *overrides: str):
    """Return the config group `kd` for this option; cached, because composing takes longer than the test."""
    from kd.config.combine import expand_combination

    return expand_combination(compose(f"kd={method}", *overrides), {})[0].kd


class Lesson:
    """One method with a student, a teacher and a batch of twelve images, set up as in the training loop."""

    def __init__(self, method: str, *overrides: str, alone: bool = False, teacher: str | None = None, side: int = 16):
        from kd.build import build_objective

        torch.manual_seed(0)
        self.objective = build_objective(chosen(method, *UNSURE.get(method, ()), *overrides))
        if alone and len(self.objective.terms) > 1 and "hard" in self.objective.terms:
            del self.objective.terms["hard"]
        image = torch.rand(12 * self.objective.views, 3, side, side)
        batch = Batch(image, torch.arange(12) % 6, torch.arange(12), epoch=1, progress=0.25)
        self.batch = batch.repeat_labels(self.objective.views)
        if self.objective.sampler:
            self.batch = self.batch._replace(label_blocks=LEARNING[self.objective.sampler])
        self.teacher = (of_timm(teacher) if teacher else network(0.5)).eval()
        every = torch.arange(40)
        self.bare = network(0.25)
        self.student = self.objective.bind(
            Context(
                self.bare,
                self.teacher,
                lambda number: network(0.25),
                see,
                every % 6,
                every[:30],
                side,
                lambda model, show: over(every[:30], side, model, show),
                batch_size=12,
            )
        )
        with torch.no_grad():
            self.answer = see(self.teacher, image, self.objective.needs)
        self.objective.setup(self.shown(), self.answer)
        self.objective.train()

    def shown(self) -> Outputs:
        return see(self.student, self.batch.image, self.objective.student_needs)

    def loss(self, shown: Outputs | None = None):
        return self.objective(shown or self.shown(), self.answer, self.batch)

    def learned(self) -> list[torch.nn.Parameter]:
        return [p for p in (*self.student.parameters(), *self.objective.parameters()) if p.requires_grad]


@pytest.mark.parametrize("method", METHODS)
def test_twenty_steps_lower_what_a_method_adds_to_the_labels(method):
    lesson = Lesson(method, alone=True)
    optimizer = torch.optim.AdamW(lesson.learned(), 1e-2)
    before = copy.deepcopy(lesson.teacher.state_dict())
    with torch.no_grad():
        lesson.loss()  # fills the memory of what was said before
    memories = copy.deepcopy(dict(lesson.objective.named_buffers()))
    losses = []
    for _ in range(20):
        for name, memory in lesson.objective.named_buffers():  # kept fixed; otherwise the loss changes with every step
            memory.copy_(memories[name])
        loss, parts = lesson.loss()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        assert loss.isfinite() and all(part.ndim == 0 for part in parts.values())
    assert losses[-1] < losses[0]
    assert all(p.grad is None for p in lesson.teacher.parameters())
    assert all(torch.equal(before[name], value) for name, value in lesson.teacher.state_dict().items())


@pytest.mark.parametrize("method", METHODS)
def test_the_gradient_reaches_student_and_adapters(method):
    lesson = Lesson(method)
    for progress in (0.25, 0.75):  # both parts of a schedule
        lesson.batch = lesson.batch._replace(progress=progress)
        lesson.loss()[0].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in lesson.learned())
    assert any(p.grad.abs().sum() > 0 for p in lesson.student.parameters() if p.requires_grad)
    adapters = dict(lesson.objective.named_parameters())
    still = [name for name, p in adapters.items() if p.requires_grad and not p.grad.abs().sum() > 0]
    assert not [name for name in still if not name.endswith("bias")], "a bias in front of a batch norm does nothing"


@pytest.mark.parametrize("method", METHODS)
def test_a_teacher_of_another_kind_teaches_too(method):
    """A ResNet: five maps, after a stem and a max-pool, in other sizes and widths than the student's three."""
    lesson = Lesson(method, teacher="resnet10t", side=48)
    optimizer = torch.optim.AdamW(lesson.learned(), 1e-3)
    for _ in range(3):
        loss, _ = lesson.loss()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert loss.isfinite()
    assert all(p.isfinite().all() for p in lesson.learned())
    assert all(p.grad is None for p in lesson.teacher.parameters())


def far(outputs: Outputs) -> Outputs:
    return outputs._replace(logits=60 * outputs.logits / outputs.logits.abs().max())


def empty(outputs: Outputs) -> Outputs:
    return Outputs(*(tuple(0 * x for x in part) if isinstance(part, tuple) else gone(part) for part in outputs))


def gone(x: torch.Tensor | None) -> torch.Tensor | None:
    return None if x is None else 0 * x


def alike(outputs: Outputs) -> Outputs:
    def one(x):
        return None if x is None else x[:1].expand_as(x)

    return Outputs(*(tuple(map(one, part)) if isinstance(part, tuple) else one(part) for part in outputs))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("extreme", [far, empty, alike])
def test_a_method_stays_finite_on_extreme_outputs(method, extreme):
    """Logits of 60, outputs of zeros, and copies of one image: in the student, the teacher and both."""
    lesson = Lesson(method)
    plain = lesson.shown()
    for of_student, of_teacher in ((True, False), (False, True), (True, True)):
        leaves = Outputs(*(leaf(part) for part in (extreme(plain) if of_student else plain)))
        answer, lesson.answer = lesson.answer, extreme(lesson.answer) if of_teacher else lesson.answer
        loss, _ = lesson.loss(leaves)
        loss.backward()
        lesson.answer = answer
        assert loss.isfinite()
        shown = [leaves.logits, leaves.embedding, *leaves.features, leaves.class_maps]
        grads = [x.grad for x in shown if x is not None] + [p.grad for p in lesson.objective.parameters()]
        assert all(grad.isfinite().all() for grad in grads if grad is not None)


def leaf(part):
    if isinstance(part, tuple):
        return tuple(map(leaf, part))
    return None if part is None else part.detach().clone().requires_grad_()


@pytest.mark.parametrize("method", METHODS)
def test_the_state_of_a_method_goes_round(method):
    lesson, other = Lesson(method), Lesson(method)
    state, shown = copy.deepcopy(lesson.objective.state_dict()), lesson.shown()
    torch.manual_seed(1)
    expected = lesson.loss(shown)[0]
    for value in other.objective.state_dict().values():
        value.zero_()
    other.objective.load_state_dict(state)
    torch.manual_seed(1)
    torch.testing.assert_close(other.loss(shown)[0], expected)


@pytest.mark.parametrize("method", METHODS)
def test_adapters_travel_with_the_method_and_not_with_the_student(method):
    lesson = Lesson(method)
    deployed = lesson.objective.deploy(lesson.student)
    assert lesson.objective.extends == (set(deployed.state_dict()) != set(network(0.25).state_dict()))
    if not lesson.objective.extends:
        load = {name: value.shape for name, value in deployed.state_dict().items()}
        assert load == {name: value.shape for name, value in network(0.25).state_dict().items()}
    inside = {id(p) for p in (*lesson.student.parameters(), *lesson.teacher.parameters())}
    assert not inside & {id(p) for p in lesson.objective.parameters()}


@pytest.mark.parametrize("method", METHODS)
def test_a_yaml_says_family_title_authors_year_link_costs_and_defaults(method):
    lines = (CONF / "kd" / f"{method}.yaml").read_text(encoding="utf-8").splitlines()
    comments = [line for line in lines if line.startswith("#") and not line.startswith("# @package")]
    assert re.match(HEADER, comments[0]), comments[0]
    assert any(line.startswith("# Costs") for line in comments)
    numbers = [line for line in lines if re.match(r"\w+: +[\d\[]", line)]
    assert not numbers or any(line.startswith("# Defaults") for line in comments)


@pytest.mark.parametrize("method", METHODS)
def test_what_a_term_reads_is_all_that_it_needs(method):
    """The method gets only the outputs that ``needs`` names; a method that needs none gets no teacher."""
    lesson = Lesson(method)
    assert lesson.objective.needs <= {"logits", "embedding", "features", "class_maps"}
    if not lesson.objective.needs:
        assert lesson.objective(lesson.shown(), None, lesson.batch)[0].isfinite()


@pytest.mark.parametrize("method", METHODS)
def test_a_method_that_needs_maps_says_so_where_there_are_none(method):
    lesson = Lesson(method)
    reads = lesson.objective.needs & {"features", "class_maps", "embedding"}
    bare = Outputs(lesson.answer.logits)
    if not reads:
        lesson.objective.setup(lesson.shown(), bare)
        return
    with pytest.raises(ValueError, match="teacher"):
        lesson.objective.setup(lesson.shown(), bare)


@pytest.mark.parametrize("method", METHODS)
def test_every_setting_of_a_method_is_read(method):
    """No dead settings: a term, a weight or a schedule uses each top-level value of the yaml."""
    raw = (CONF / "kd" / f"{method}.yaml").read_text(encoding="utf-8")
    top = re.findall(r"^(\w+):", raw, flags=re.M)
    elsewhere = {"terms", "weights", "schedule", "defaults", "assistants", "kd", "data", "train", *METHODS}
    for name in set(top) - elsewhere:
        assert re.search(rf"\$\{{.*\.{name}\}}", raw), f"{name} is read by nothing in {method}.yaml"


def test_every_python_file_of_a_method_has_a_yaml():
    named = set()
    for method in METHODS:
        plain = OmegaConf.to_container(chosen(method), resolve=False)
        named |= {get_object(node["_target_"]).__module__.rpartition(".")[2] for _, node in targets(plain)}
    files = {path.stem for path in (CONF.parent / "kd" / "methods").glob("*.py")}
    assert files - named == {"__init__", "_common", "_precise"}


def test_a_term_of_weight_zero_is_left_out():
    from kd.build import build_objective

    objective = build_objective(compose("kd.alpha=0").kd)
    assert list(objective.terms) == ["hard"] and not objective.needs
    assert build_objective(compose("kd.alpha=1").kd).needs == {"logits"}


def test_names_of_terms_weights_and_schedule_must_agree():
    with pytest.raises(ValueError, match="the names must agree"):
        Objective({"hard": torch.nn.Identity()}, {"soft": 1.0})
    with pytest.raises(ValueError, match=r"kd.schedule names \['soft'\]"):
        Objective({"hard": torch.nn.Identity()}, {"hard": 1.0}, {"soft": {"rise": 0.1}})
    with pytest.raises(ValueError, match="start < end"):
        Objective({"hard": torch.nn.Identity()}, {"hard": 1.0}, {"hard": {"start": 0.5, "end": 0.2}})
    both = {name: torch.nn.Identity() for name in ("hard", "soft")}
    with pytest.raises(ValueError, match="rise >= 0"):
        Objective(both, {"hard": 1.0, "soft": 1.0}, {"soft": {"rise": -1}})


def test_no_method_warns_about_six_classes():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for method in METHODS:
            Lesson(method)
