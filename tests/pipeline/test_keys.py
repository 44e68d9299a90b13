"""Content keys depend on the settings that determine an artifact, and on nothing else."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from kd.pipeline.keys import active_terms, run_keys, run_name
from kd.store.store import digest
from tests.conftest import compose


def keys(*overrides: str, fingerprint: str = "pixels", reads: bool = True) -> dict[str, str]:
    settings = OmegaConf.to_container(compose(*overrides), resolve=True)
    made = run_keys(settings, fingerprint, reads)
    kept = {"teacher": made.teacher, "run": made.run, "cache": made.logit_caches["student"]}
    kept |= {role: made.networks[role] for role in ("baseline", "student")}
    return {name: digest(key) for name, key in kept.items()}


# the keys that a change of one setting changes; all others stay
CHANGES = {
    "kd.temperature=8": {"student", "run"},
    "kd.alpha=0.5": {"student", "run"},
    "student.width=2": {"baseline", "student", "run"},
    "seed=1": {"baseline", "student", "cache", "run"},
    "train.student.epochs=3": {"baseline", "student", "cache", "run"},
    "train.student.lr=0.1": {"baseline", "student", "run"},
    "train.student.mixup=0.5": {"baseline", "student", "cache", "run"},
    "train.teacher.mixup=0.5": {"teacher", "student", "cache", "run"},
    "train.teacher.layer_decay=0.7": {"teacher", "student", "cache", "run"},
    "train.teacher.freeze_epochs=1": {"teacher", "student", "cache", "run"},
    "train.student.layer_decay=0.7": {"baseline", "student", "run"},
    "train.student.freeze_epochs=0": set(),
    "train.student.view_epochs=2": {"baseline", "student", "cache", "run"},
    "train.student.view_epochs=null": set(),
    "train.student.delta=0.05": set(),
    "train.student.optimizer=dot": {"baseline", "student", "run"},
    "teacher.seed=1": {"teacher", "student", "cache", "run"},
    "train.teacher.epochs=3": {"teacher", "student", "cache", "run"},
    "attention=se": {"teacher", "student", "cache", "run"},
    "teacher.image_size=64": {"teacher", "student", "cache", "run"},
    "teacher.image_size=null": set(),
    "teacher=resnet34": {"teacher", "student", "cache", "run"},
    "train.batch_size=32": {"teacher", "baseline", "student", "cache", "run"},
    "train.grad_accum_steps=2": {"teacher", "baseline", "student", "cache", "run"},
    "train.grad_accum_steps=1": set(),
    "data.balance=sample": {"teacher", "baseline", "student", "cache", "run"},
    "data.balance=weight": {"teacher", "baseline", "student", "cache", "run"},  # the cache only through its teacher
    "data.balance=none": set(),
    "train.pick_by=macro_f1": {"teacher", "baseline", "student", "cache", "run"},
    "train.pick_by=accuracy": set(),
    "augment.flip=0": {"teacher", "baseline", "student", "cache", "run"},
    "baseline=false": {"run"},
    "latency.batch=32": {"run"},
    "baseline_kd.terms.hard.label_smoothing=0.1": {"baseline", "run"},
    "outputs=/elsewhere": set(),
    "tracking=disabled": set(),
    "teacher.source=live": set(),
    "teacher.allow_weak=true": set(),
    "train.threads=1": set(),
    "sweep=name": set(),
    "report=false": set(),
    "optimized_metric=student.macs": set(),
    "train.device=cuda": set(),
    "kd.temperature=2": set(),
}


def test_images_without_labels_change_the_student_and_its_cache_alone():
    settings = OmegaConf.to_container(compose(), resolve=True)
    plain, same, one, other = (
        run_keys(settings, "pixels", True, unlabelled=content) for content in (None, None, "images", "others")
    )
    assert plain == same
    for made in (one, other):
        assert made.teacher == plain.teacher and made.networks["baseline"] == plain.networks["baseline"]
    assert len({digest(made.networks["student"]) for made in (plain, one, other)}) == 3
    assert len({digest(made.logit_caches["student"]) for made in (plain, one, other)}) == 3
    moved = OmegaConf.to_container(compose("data.unlabelled=/tmp"), resolve=True)
    assert run_keys(moved, "pixels", True, unlabelled="images") == one  # the content counts, not the place


def test_a_sampler_changes_the_logit_cache_alone():
    settings = OmegaConf.to_container(compose(), resolve=True)
    plain, none, pairs = (run_keys(settings, "pixels", True, sampler=name) for name in ("", None, "same_class_pairs"))
    assert plain == none
    assert pairs.networks == plain.networks and pairs.teacher == plain.teacher, "the terms say what the student learns"
    assert digest(pairs.logit_caches["student"]) != digest(plain.logit_caches["student"])


def test_the_classes_of_a_teacher_count_by_their_names_and_order(tmp_path):
    def key_of(file: str, text: str) -> str:
        (tmp_path / file).write_text(text)
        return keys(f"teacher.checkpoint={tmp_path / 'weights'}", f"teacher.classes={tmp_path / file}")["teacher"]

    (tmp_path / "weights").write_bytes(b"weights")
    one = key_of("one.txt", "sea\nforest\n")
    assert one == key_of("moved.txt", "sea\r\nforest") != key_of("other.txt", "forest\nsea\n")
    assert one != keys(f"teacher.checkpoint={tmp_path / 'weights'}")["teacher"]


@pytest.mark.parametrize("override", CHANGES)
def test_a_setting_is_in_the_keys_of_what_it_determines(override):
    before, after = keys(), keys(override)
    assert {name for name in before if before[name] != after[name]} == CHANGES[override]


def test_the_second_augmentation_is_in_the_keys_of_a_method_that_has_two_views():
    """Of the student and its logit cache, which methods of two views share, and never of the baseline."""

    def made(*overrides: str, second: bool = True, views: int = 2):
        settings = OmegaConf.to_container(compose(*overrides), resolve=True)
        found = run_keys(settings, "pixels", True, view_count=views, second_augment=second)
        roles = [found.teacher, found.networks["baseline"], found.networks["student"], found.logit_caches["student"]]
        return [digest(key) for key in roles]

    plain, strong = made(second=False, views=1), made()
    assert plain[:2] == strong[:2] and plain[2] != strong[2] and plain[3] != strong[3]
    assert plain == made("second_augment.magnitude=3", second=False, views=1)
    for other in ("second_augment.magnitude=3", "augment@second_augment=trivial", "second_augment.after_augment=false"):
        changed = made(other)
        assert changed[:2] == strong[:2] and changed[2] != strong[2] and changed[3] != strong[3]
    assert made("kd=crld")[3] == made("kd=sld")[3] == strong[3]
    # the steps count, not where they come from: nothing of the second augmentation is the first one
    same = made("~augment@second_augment")
    assert same == made("augment@second_augment=light", "augment=light") != strong


def test_settings_that_were_added_later_change_no_key_while_they_are_off():
    settings = OmegaConf.to_container(compose(), resolve=True)
    before = run_keys(settings, "pixels", True)
    del settings["data"]["balance"], settings["train"]["pick_by"]
    for role in ("teacher", "student"):
        for name in ("layer_decay", "freeze_epochs", "view_epochs"):
            del settings["train"][role][name]
    assert run_keys(settings, "pixels", True) == before


def test_trainings_that_repeat_the_same_views_share_a_logit_cache_whatever_their_length():
    def made(epochs: int, view_epochs: int | str) -> dict[str, str]:
        return keys(f"train.student.epochs={epochs}", f"train.student.view_epochs={view_epochs}")

    long, longer, once, short = made(20, 4), made(40, 4), made(4, "null"), made(3, 4)
    assert long["cache"] == longer["cache"] == once["cache"] != short["cache"]
    assert len({each["student"] for each in (long, longer, once, short)}) == 4


def test_settings_of_a_term_and_of_a_schedule_change_no_key_while_they_are_off():
    term = {"_target_": "kd.methods.wkd_logits.WKDLogits", "temperature": 2.0}
    old = {"terms": {"a": term}, "weights": {"a": 1.0}}
    off = {"terms": {"a": {**term, "images": 0, "fall": 0.0}}, "weights": {"a": 1.0}, "schedule": {"a": {"fall": 0.0}}}
    assert active_terms(old) == active_terms(off)
    for name, value in (("images", 9), ("fall", 0.1), ("temperature", 0)):
        assert active_terms({**old, "terms": {"a": {**term, name: value}}}) != active_terms(old)
    assert active_terms({**old, "schedule": {"a": {"fall": 0.1}}}) != active_terms(old)
    raised = {**old, "schedule": {"a": {"rise": 0.1}}}
    assert active_terms({**old, "schedule": {"a": {"rise": 0.1, "fall": 0}}}) == active_terms(raised)
    other = {**old, "terms": {"a": {"_target_": "kd.methods.other.Other", "images": 0}}}
    assert active_terms(other)["a"]["term"]["images"] == 0  # it is no later setting of another term


def test_the_delta_of_dot_is_in_the_keys_of_those_who_learn_from_a_teacher():
    before, after = (keys("train.student.optimizer=dot", f"train.student.delta={delta}") for delta in (0.05, 0.0))
    assert {name for name in before if before[name] != after[name]} == {"student", "run"}
    apart = "kd@baseline_kd=tf_kd", "train.student.optimizer=dot"  # a baseline with two kinds of terms reads it
    before, after = (keys(*apart, f"train.student.delta={delta}") for delta in (0.05, 0.0))
    assert {name for name in before if before[name] != after[name]} == {"baseline", "student", "run"}


def test_the_cache_of_a_given_teacher_depends_on_the_drawn_images_and_not_on_label_weights(tmp_path):
    (tmp_path / "a.pt").write_bytes(b"1")
    none, sample, weight, pick = (
        keys(f"teacher.checkpoint={tmp_path / 'a.pt'}", *more)
        for more in ([], ["data.balance=sample"], ["data.balance=weight"], ["train.pick_by=macro_f1"])
    )
    assert none["teacher"] == sample["teacher"] == weight["teacher"] == pick["teacher"]
    assert none["cache"] == weight["cache"] == pick["cache"] != sample["cache"]
    assert len({each["student"] for each in (none, sample, weight, pick)}) == 4


def test_data_count_by_content():
    assert not set(keys().values()) & set(keys(fingerprint="other").values())


def test_without_the_teachers_term_every_student_is_the_baseline():
    baseline = keys()["baseline"]
    for overrides in (["kd.alpha=0"], ["kd.alpha=0", "kd.temperature=8"], ["kd=supervised"]):
        assert keys(*overrides, reads=False)["student"] == baseline
    assert keys("kd.alpha=1")["student"] != baseline


def test_a_checkpoint_counts_by_content(tmp_path):
    for name, content in (("a.pt", b"1"), ("b.pt", b"1"), ("c.pt", b"2")):
        (tmp_path / name).write_bytes(content)
    a, b, c = (keys(f"teacher.checkpoint={tmp_path / name}")["teacher"] for name in ("a.pt", "b.pt", "c.pt"))
    assert a == b != c
    with pytest.raises(FileNotFoundError, match="nowhere.pt"):
        keys("teacher.checkpoint=nowhere.pt")


def test_names_are_readable():
    settings = OmegaConf.to_container(compose("student.width=0.5"), resolve=True)
    choices = {"data": "scenes", "teacher": "vea_resnet18", "student": "tiny_cnn", "kd": "hinton"}
    name = run_name(settings, choices, "0123456789abcdef")
    assert name == "scenes-vea_resnet18-tiny_cnn_w0.5-hinton-temperature2-alpha0.7-seed0-0123456789"
    for attention, teacher in (("vea", "vea_resnet18"), ("none", "vea_resnet18"), ("se", "vea_resnet18_se")):
        assert run_name(settings, {**choices, "attention": attention}, "0").startswith(f"scenes-{teacher}-tiny_cnn")


def test_a_long_name_fits_a_file_system_and_keeps_its_key():
    settings = OmegaConf.to_container(compose(), resolve=True)
    settings["kd"] |= {f"setting_{number}": number for number in range(40)}
    long = {"data": "図" * 80, "teacher": "vit_" * 50, "student": "é" * 120, "kd": "my/" + "method" * 30}
    for choices in (long, {**long, "data": "scenes"}, {**long, "data": "a" * 179 + "é"}):
        name = run_name(settings, choices, "0123456789abcdef")
        assert len(name.encode()) <= 191 and "/" not in name
        assert name.startswith(choices["data"][:50]) and name.endswith("-0123456789")


def test_at_alpha_1_the_labels_do_not_matter_and_at_alpha_0_the_temperature_does_not():
    smooth = "train.student.label_smoothing=0.1"
    assert keys("kd.alpha=1")["student"] == keys("kd.alpha=1", smooth)["student"]
    assert keys("kd.alpha=0.5")["student"] != keys("kd.alpha=0.5", smooth)["student"]
    assert keys("kd.alpha=0", reads=False)["run"] == keys("kd.alpha=0", "kd.temperature=8", reads=False)["run"]


def spec(**changes) -> dict:
    network = {"_target_": "kd.models.tiny_cnn.TinyCNN", "width": 3.0}
    return {"network": network, "attention": {"wrap": None, "stages": None}, "seed": 1, "checkpoint": None} | changes


def chained(members=(), assistants=(), reads: bool = True):
    settings = OmegaConf.to_container(compose(), resolve=True)
    return run_keys(settings, "pixels", reads, members, assistants)


def test_each_of_a_chain_is_determined_by_the_one_before():
    keys, other = chained(assistants=[spec(), spec(seed=2)]), chained(assistants=[spec(seed=3), spec(seed=2)])
    first, second = keys.networks["assistant_1"], keys.networks["assistant_2"]
    assert first["teacher"] == digest(keys.teacher)
    assert second["teacher"] == digest(first) and keys.networks["student"]["teacher"] == digest(second)
    assert [cache["teacher"] for cache in keys.logit_caches.values()] == [
        digest(keys.teacher),
        digest(first),
        digest(second),
    ]
    assert [cache["seed"] for cache in keys.logit_caches.values()] == [1, 2, 0]
    assert digest(keys.networks["student"]) != digest(other.networks["student"]), (
        "another first assistant is another student"
    )
    assert digest(keys.teacher) == digest(chained().teacher)


def test_an_ensemble_is_its_members_and_how_they_are_combined():
    one, two = spec(), spec(seed=2)
    keys = chained(members=[one, two])
    assert digest(keys.teacher) != digest(chained(members=[two]).teacher)
    assert keys.networks["teacher_1"] == chained(members=[one]).networks["teacher"], (
        "a member is one teacher in every ensemble"
    )
    assert keys.logit_caches["student"]["teacher"] == digest(keys.teacher)


def test_a_schedule_is_in_the_key_of_the_terms_that_count():
    kd = {"terms": {"a": {}, "b": {}}, "weights": {"a": 1.0, "b": 0.0}}
    plain = active_terms(kd)
    assert active_terms({**kd, "schedule": {"b": {"rise": 0.1}}}) == plain
    assert active_terms({**kd, "schedule": {"a": {"rise": 0.1}}}) != plain
