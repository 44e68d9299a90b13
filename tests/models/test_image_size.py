"""The error for a network that cannot take the images names settings that help, and no others."""

from __future__ import annotations

import pytest
import torch

from tests.conftest import compose
from tests.pipeline.test_run import command

OF_TIMM = [  # name, settings, a stem that helps, a size that does
    ("vit_tiny_patch16_224", "image_size=12 stem=large", "{role}.stem=small or ", 224),
    ("levit_128s", "image_size=28", "", 224),
    ("halonet_h1", "image_size=48", "", 256),
    ("vgg11", "image_size=16", "", 32),
    ("vgg11", "image_size=16 stem=large", "", 32),
    ("repvgg_a0", "image_size=32", "{role}.stem=large or ", 64),
]


@pytest.mark.parametrize("role", ["teacher", "student"])
@pytest.mark.parametrize(("name", "settings", "stem", "side"), OF_TIMM)
def test_what_is_advised_helps(role, name, settings, stem, side):
    from kd.build import build_network, check_input_size
    from kd.models.normalized import Normalized

    given = dict(word.split("=") for word in settings.split())
    size = int(given.pop("image_size"))
    whole = compose(f"{role}=timm", f"{role}.name={name}", *(f"{role}.{key}={value}" for key, value in given.items()))
    spec = {"network": dict(whole.student if role == "student" else whole.teacher.network)}
    with torch.device("meta"), pytest.raises(ValueError) as caught:
        network = Normalized(build_network(spec, 6, size), [0.0] * 3, [1.0] * 3)
        check_input_size(network, spec, role, 6, size)
    first, second = str(caught.value).splitlines()
    assert first.startswith(f"the {role} cannot take images of {size} x {size} pixels: ")
    own = f"teacher.image_size={side} or " if role == "teacher" else ""
    assert second == f"Use {stem.format(role=role)}{own}data.image_size={side}, or choose another network."


def test_a_teacher_at_its_own_size_is_advised_another_one():
    from kd.build import build_network, check_input_size, normalized

    whole = compose("teacher=timm", "teacher.name=vit_tiny_patch16_224", "teacher.image_size=12", "teacher.stem=large")
    spec = {"network": dict(whole.teacher.network), "image_size": 12}
    with (
        torch.device("meta"),
        pytest.raises(ValueError, match="12 x 12(?s:.*)Use .*teacher.image_size=224, or"),
    ):
        check_input_size(normalized(build_network(spec, 6, 12), spec, [0.0] * 3, [1.0] * 3), spec, "teacher", 6, 12)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (
            "teacher=timm teacher.name=vit_tiny_patch16_224 data.image_size=12 teacher.stem=large",
            "\nUse teacher.stem=small or teacher.image_size=224, or choose another network.",
        ),
        (
            "student=timm student.name=vgg11 data.image_size=16 student.stem=large",
            "Output size is too small\nUse data.image_size=32, or choose another network.",
        ),
        (
            "teacher=timm teacher.name=mixer_s16_224 data.image_size=224 data=folder data.root={root} attention=se",
            "kd: attention.wrap needs maps [B, C, H, W] after each stage; mixer_s16_224 has",
        ),
        (
            "teacher=timm teacher.name=vit_tiny_patch16_224 data.image_size=12 teacher.stem=large data=folder "
            "data.root={root}",
            "\nUse teacher.stem=small or teacher.image_size=224 or data.image_size=224, or choose another network.",
        ),
        (
            "teacher=timm teacher.name=naflexvit_base_patch16_gap data.image_size=32",
            "this network has no convolution that could shrink less; use stem=large",
        ),
    ],
)
def test_the_command_gives_the_advice(tmp_path, line, says):
    for name in [f"{label}/{number}.png" for label in ("dark", "light") for number in range(3)]:
        (tmp_path / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / name).touch()  # the check opens no file
    done = command(*line.format(root=tmp_path / "root").split(), outputs=tmp_path / "outputs", cwd=tmp_path, ok=False)
    assert done.returncode == 2 and says in done.stderr, done.stderr
    assert not (tmp_path / "outputs").exists()
