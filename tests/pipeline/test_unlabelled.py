"""A run with images without labels: teacher and baseline are those of the run without, and the cache covers them."""

from __future__ import annotations

import inspect
import json

import pytest

from kd.build import build_objective
from kd.methods.supervised import CrossEntropy
from kd.pipeline.execute import run
from kd.pipeline.preflight import check_unlabelled
from tests.conftest import TINY, compose, options, stamps
from tests.data.test_unlabelled import MORE, grow

QUICK = [*TINY, "teacher=tiny_cnn", "train.teacher.epochs=1", "train.student.epochs=2", "latency.seconds=0.05"]
QUICK += ["report=false", "tracking=disabled", "train.precision=float32"]  # else a busy machine may choose twice
NAMED = {"data": "scenes", "teacher": "tiny_cnn", "student": "tiny_cnn", "kd": "hinton"}


def run_in(outputs, *more):
    """Make a run and return its result and the bytes of its student."""
    before = set((outputs / "runs").glob("*"))
    run(compose(*QUICK, f"outputs={outputs}", *more), dict(NAMED))
    (folder,) = set((outputs / "runs").glob("*")) - before
    return json.loads((folder / "result.json").read_text()), (folder / "student.safetensors").read_bytes()


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    place = tmp_path_factory.mktemp("more")
    grow(place)
    return place


def test_the_student_alone_is_trained_anew_and_the_cache_gives_the_bits_of_the_live_teacher(tmp_path, images):
    plain, _ = run_in(tmp_path / "one")
    kept = stamps(tmp_path / "one" / "teachers") | stamps(tmp_path / "one" / "students")
    found, student = run_in(tmp_path / "one", f"data.unlabelled={images}")
    now = stamps(tmp_path / "one" / "teachers") | stamps(tmp_path / "one" / "students")
    assert kept.items() <= now.items()
    assert len(list((tmp_path / "one" / "teachers").iterdir())) == 1
    assert len(list((tmp_path / "one" / "students").iterdir())) == 3  # the baseline and two students
    for role in ("teacher", "baseline"):
        assert found[role]["accuracy"] == plain[role]["accuracy"]
    assert found["data"]["notes"]["unlabelled_images"] == MORE
    _, live = run_in(tmp_path / "two", f"data.unlabelled={images}", "teacher.source=live")
    assert live == student


def test_where_labels_are_hidden_the_cache_gives_the_bits_of_the_live_teacher(tmp_path):
    found, student = run_in(tmp_path / "one", "data.labelled=0.25", "train.batch_size=16")
    _, live = run_in(tmp_path / "two", "data.labelled=0.25", "train.batch_size=16", "teacher.source=live")
    assert live == student
    notes = found["data"]["notes"]
    assert (notes["labelled_images"], notes["images_with_hidden_labels"]) == (30, 91)
    with pytest.raises(ValueError, match="data.labelled=0.25: .*kd=dkd reads the label of every image"):
        check_unlabelled(compose("data.labelled=0.25").data, build_objective(compose("kd=dkd").kd), "dkd")


def test_a_method_without_a_teacher_learns_from_the_labels_that_are_left(tmp_path):
    hidden = ["data.labelled=0.25", "train.batch_size=16"]
    _, baseline = run_in(tmp_path, *hidden, "kd=supervised")
    found, _ = run_in(tmp_path, *hidden)
    assert len(list((tmp_path / "students").iterdir())) == 2  # the first one is the baseline of the second run
    assert found["data"]["notes"]["images_with_hidden_labels"] == 91 and baseline


@pytest.mark.parametrize("method", ["dkd", "nkd", "wsld", "crd"])
def test_methods_that_read_labels_are_refused_by_name(images, method):
    with pytest.raises(ValueError, match=f"data.unlabelled=.*kd={method} reads the label of every image"):
        refuse(method, images)


@pytest.mark.parametrize("method", ["supervised", "label_smoothing"])
def test_methods_without_a_teacher_are_refused(images, method):
    with pytest.raises(ValueError, match=f"kd={method} reads none"):
        refuse(method, images)


def test_balance_by_drawing_is_refused(images):
    with pytest.raises(ValueError, match="data.balance=sample draws by class"):
        refuse("hinton", images, "data.balance=sample")
    refuse("hinton", images, "data.balance=weight")


def refuse(method, images, *more):
    cfg = compose(f"kd={method}", f"data.unlabelled={images}", *more)
    check_unlabelled(cfg.data, build_objective(cfg.kd), method)


@pytest.mark.parametrize("method", sorted(set(options("kd")) - {"combine"}))
def test_a_term_that_reads_labels_says_so(method):
    """The hard term leaves out images without labels; any other term that reads labels has ``needs_labels``."""
    for term in build_objective(compose(f"kd={method}").kd).terms.values():
        if not isinstance(term, CrossEntropy):
            ours = [kind for kind in type(term).__mro__ if kind.__module__.startswith("kd.")]
            source = "".join(map(inspect.getsource, ours))
            reads = any(name in source for name in ("batch.target", "context.targets", "mixup_target"))
            assert reads == getattr(term, "needs_labels", False), type(term)
