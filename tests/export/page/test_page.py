"""deploy/page/ in a browser: answers as Python's, offline, by mouse, keyboard and screen reader, on a phone too."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from kd.evaluation.metrics import probabilities
from kd.export.page import ASSETS, pick_examples, write_page
from kd.inference.model import Model
from kd.inference.preprocess import shown
from tests.browser import BRIGHT
from tests.export.page.trained import export, served

ANSWERS = """[...document.querySelectorAll(".card")].map(card => ({ title: card.querySelector("h3")?.textContent ?? "",
  best: card.querySelector(".best bdi")?.textContent, text: card.innerText,
  rows: [...card.querySelectorAll(".bars li")].map(li => [li.querySelector("bdi").textContent,
    parseFloat(li.querySelector(".fill").style.width) / 100]) }))"""
STATUS = 'document.getElementById("status").textContent'
FOCUS = "document.activeElement"


def wait(browser, condition: str, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not browser.run(condition):
        assert time.monotonic() < until, (condition, browser.run("document.body.innerText"), browser.messages)
        time.sleep(0.05)


def spaced(text: str) -> str:
    """The text with spaces where the page must not break a line."""
    return text.replace("\u00a0", " ")


def answers(browser, count: int) -> list[dict]:
    """Return what the page shows once it has said that ``count`` answers are there."""
    wait(browser, f'document.querySelectorAll(".card").length === {count} && !/Reading|loading/.test({STATUS})')
    return [{**card, "text": spaced(card["text"])} for card in browser.run(ANSWERS)]


@pytest.fixture(scope="module")
def address(page):
    with served(page) as address:
        yield address


@pytest.fixture
def tab(browser, address):
    """The page, opened again at the size of a desktop, with its first answer."""
    browser.size(1280, 900)
    browser.theme("light")
    browser.messages.clear(), browser.fetched.clear()
    browser.open(address)
    answers(browser, 1)
    return browser


def test_it_answers_fifty_test_images_as_python_does(tab, trained, tmp_path):
    positions = trained.dataset.test[:50]
    paths = [tmp_path / f"{row}.png" for row in range(50)]
    for path, image in zip(paths, trained.dataset.images[positions], strict=True):
        Image.fromarray(image).save(path)
    tab.choose_files("#files", paths)
    found = answers(tab, 50)
    expected = probabilities(trained.predictions["student"][:50])
    assert np.array_equal(trained.predictions["index"][:50], positions)
    assert [card["title"] for card in found] == [path.name for path in paths]
    for card, row in zip(found, expected, strict=True):
        assert card["best"] == trained.dataset.classes[row.argmax()] == card["rows"][0][0]
        shares = dict(card["rows"])
        assert np.abs([shares[name] - p for name, p in zip(trained.dataset.classes, row, strict=True)]).max() < 1e-3
    said = spaced(tab.run(STATUS))
    assert said.startswith("50 pictures answered, ") and " ms a picture (median)." in said
    assert tab.messages == []


def test_photographs_of_any_shape(tab, trained, tmp_path):
    small = trained.dataset.images[trained.dataset.test[:4]]
    sizes, paths = ((320, 200), (200, 320), (41, 40), (1600, 90)), []
    for number, (image, size) in enumerate(zip(small, sizes, strict=True)):
        paths.append(tmp_path / f"photo {number}.jpg")
        Image.fromarray(image).resize(size, Image.Resampling.BICUBIC).save(paths[-1], quality=92)
    tab.choose_files("#files", paths)
    found = answers(tab, 4)
    expected = torch.softmax(trained.student(trained.student.preprocess(paths)).double(), 1)
    for card, row in zip(found, expected, strict=True):
        assert card["best"] == trained.dataset.classes[row.argmax()]
        assert abs(card["rows"][0][1] - row.max()) < 0.02  # decoders of JPEG may differ by a level
    assert tab.messages == []


def test_it_fetches_nothing_but_its_own_files(tab, address):
    own = {path.name for path in ASSETS.iterdir()} - {"ort-license.txt"}
    fetched = {place.removeprefix(address) for place in tab.fetched if not place.startswith("data:")}
    assert all("/" not in name for name in fetched)
    assert own - {"index.html"} <= fetched and "student.onnx" in fetched
    assert tab.messages == []


def test_the_first_test_image_is_answered_at_once(tab):
    assert tab.run(STATUS).startswith("Ready. The network loaded in ")
    assert tab.run('document.querySelectorAll("#examples button").length') == 8
    assert tab.run('document.getElementById("from-file")') is None
    assert tab.run(f"{FOCUS} === document.body")


def test_recorded_answers_stand_beside_the_student_s(tab, trained, page):
    data = json.loads((page / "page.json").read_text())
    tab.run('document.getElementById("all-examples").click()')
    found = answers(tab, 8)
    for card, example in zip(found, data["examples"], strict=True):
        label = data["classes"][example["label"]]
        assert f"The picture’s label is {label}." in card["text"]
        assert (
            "The run recorded the same answer of the student; the probabilities differ by less than 0.0001."
            in (card["text"])
        )
        for role, text in (("teacher", "teacher"), ("baseline", "baseline (labels only)")):
            row = probabilities(np.array([example["recorded"][role]]))[0]
            verdict = "✓ right" if row.argmax() == example["label"] else "✕ wrong"
            line = f"{text}\t{data['classes'][row.argmax()]}\t{100 * row.max():.1f} %\t{verdict}"
            assert line in card["text"]


def test_the_canvas_shows_what_the_network_sees(tab, trained, page):
    data = json.loads((page / "page.json").read_text())
    picture = page / data["examples"][0]["image"]
    expected = np.round(255 * trained.student.preprocess(picture)[0].permute(1, 2, 0).numpy())
    script = """(canvas => [...canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data])
                (document.querySelector("canvas"))"""
    found = np.array(tab.run(script)).reshape(32, 32, 4)[..., :3]
    assert np.abs(found - expected).max() <= 1 and (found == expected).mean() > 0.99


def test_the_keyboard_reaches_everything(tab):
    reached = []
    for _ in range(11):
        tab.key("Tab", 9)
        reached.append(tab.run(f"{FOCUS}.id || {FOCUS}.innerText"))
        assert tab.run(f'getComputedStyle({FOCUS}.id === "files" ? {FOCUS}.nextElementSibling : {FOCUS}).outlineStyle')
    assert reached[:2] == ["theme", "files"] and reached[10] == "all-examples"
    tab.run('document.querySelectorAll("#examples button")[2].focus()')
    tab.key("Enter", 13)
    wait(tab, f'{STATUS}.startsWith("Test picture 3: ")')
    assert tab.run(
        '[...document.querySelectorAll("#examples [aria-pressed=true]")].map(b => b === document.activeElement)'
    )
    assert tab.run(f'{FOCUS}.getAttribute("aria-pressed")') == "true"


def test_a_screen_reader_finds_names_and_news(tab):
    tree = tab.send("Accessibility.getFullAXTree")["nodes"]
    nodes = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in tree if not node["ignored"]]
    assert ("heading", "What is in the picture?") in nodes and ("main", "") in nodes
    assert ("image", "Test picture 1 as the network sees it") in nodes
    assert any(role == "button" and name.startswith("Test picture 1, labelled ") for role, name in nodes)
    assert any(role == "button" and name.startswith("Choose pictures") for role, name in nodes)
    assert all(name for role, name in nodes if role in ("button", "image", "heading", "region", "columnheader"))
    status = next(node for node in tree if node.get("role", {}).get("value") == "status")
    assert {"name": "live", "value": {"type": "token", "value": "polite"}} in status["properties"]


def test_a_file_that_is_no_picture_is_named(tab, tmp_path):
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "<b>broken.png").write_bytes(b"\x89PNG\r\n\x1a\nbut then nothing")
    Image.new("RGB", (50, 40), "green").save(tmp_path / "green.png")
    tab.choose_files("#files", [tmp_path / "notes.txt"])
    wait(tab, f'{STATUS} === "notes.txt is not a picture that this browser can read."')
    assert tab.run('document.querySelector(".card.failure").innerText') == tab.run(STATUS)
    tab.choose_files("#files", [tmp_path / "<b>broken.png", tmp_path / "green.png", tmp_path / "notes.txt"])
    wait(tab, f'{STATUS}.startsWith("1 picture answered") && {STATUS}.includes("2 files are no pictures")')
    assert "<b>broken.png is not a picture" in tab.run(ANSWERS)[0]["text"]
    assert tab.messages == []


def test_pictures_can_be_dropped_and_pasted(tab):
    """A script makes the events: DevTools has none for files from outside."""
    make = """(async (type, key) => {
      const canvas = Object.assign(document.createElement("canvas"), { width: 60, height: 45 });
      canvas.getContext("2d").fillRect(5, 5, 20, 20);
      const data = new DataTransfer();
      const blob = await new Promise(resolve => canvas.toBlob(resolve));
      data.items.add(new File([blob], "given.png", { type: "image/png" }));
      const event = type === "drop" ? new DragEvent(type, { dataTransfer: data, bubbles: true, cancelable: true })
        : new ClipboardEvent(type, { clipboardData: data, bubbles: true });
      return document.querySelector("main").dispatchEvent(event); })"""
    for kind in ("drop", "paste"):
        tab.run('document.querySelector("#examples button").click()')
        wait(tab, f'{STATUS}.startsWith("Test picture 1: ")')
        assert tab.run(f"{make}('{kind}')") is (kind == "paste")  # a drop is handled: the browser shall not open it
        wait(tab, f'{STATUS}.startsWith("given.png: ")')
    tab.run('document.dispatchEvent(new DragEvent("drop", { dataTransfer: new DataTransfer(), bubbles: true }))')
    wait(tab, f'{STATUS}.startsWith("Nothing that could be read was dropped")')


def test_a_later_choice_replaces_an_earlier_one(tab):
    tab.run('document.querySelectorAll("#examples button").forEach(button => button.click())')
    wait(tab, f'{STATUS}.startsWith("Test picture 8: ")')
    assert [card["title"] for card in tab.run(ANSWERS)] == ["Test picture 8"]


@pytest.mark.parametrize("width", [320, 390, 820, 1280])
def test_nothing_is_wider_than_the_screen(tab, width):
    tab.size(width, 844, width < 500)
    tab.run('document.getElementById("all-examples").click()')
    answers(tab, 8)
    assert tab.run("document.documentElement.scrollWidth") == tab.run("innerWidth") == width


def test_a_phone_brings_the_answer_into_view(tab):
    tab.size(390, 844, True)
    tab.run('document.querySelectorAll("#examples button")[1].click()')
    wait(tab, f'{STATUS}.startsWith("Test picture 2: ")')
    wait(tab, 'Math.abs(document.getElementById("answers").getBoundingClientRect().top) < 5', 10)


CONTRAST = """
(bright => {
  const found = {}, clear = colour => /, 0\\)$|transparent/.test(colour);
  const under = node => {
    while (clear(getComputedStyle(node).backgroundColor)) node = node.parentElement;
    return getComputedStyle(node).backgroundColor; };
  for (const which of ["p", ".quiet", "dt", "dd", "th", "td", ".right", ".wrong", "button", "label", "h3", ".best span",
                       "figcaption", ".failure p", "#examples bdi", ".percent", "caption"])
    document.querySelectorAll(which).forEach(node => {
      found[which] = [bright(getComputedStyle(node).color), bright(under(node))]; });
  return found; })
"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_has_contrast(tab, theme, tmp_path):
    tab.theme(theme)
    (tmp_path / "notes.txt").write_text("no picture")
    tab.choose_files("#files", [tmp_path / "notes.txt"])
    wait(tab, f'{STATUS}.startsWith("notes.txt")')
    failure = tab.run('document.querySelector(".failure").outerHTML')
    tab.run('document.getElementById("all-examples").click()')
    answers(tab, 8)
    tab.run(f'document.getElementById("results").insertAdjacentHTML("beforeend", {json.dumps(failure)})')
    contrasts = tab.run(f"{CONTRAST}({BRIGHT})")
    assert {".right", ".wrong", "label", ".failure p", "#examples bdi"} <= set(contrasts)
    for what, (ink, paper) in contrasts.items():
        assert (max(ink, paper) + 0.05) / (min(ink, paper) + 0.05) >= 4.5, what


def test_the_theme_follows_the_system_and_the_button(tab):
    bright = lambda: tab.run(f"{BRIGHT}(getComputedStyle(document.body).backgroundColor)")  # noqa: E731
    assert bright() > 0.9
    tab.theme("dark")
    assert bright() < 0.1
    tab.run('document.getElementById("theme").click()')
    assert bright() > 0.9
    tab.run("localStorage.clear()")


def test_who_wants_no_motion_gets_none(tab):
    moves = """[getComputedStyle(document.documentElement).scrollBehavior,
                getComputedStyle(document.querySelector(".fill")).transitionDuration]"""
    assert tab.run(moves) == ["smooth", "0.25s"]
    tab.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-reduced-motion", "value": "reduce"}])
    assert tab.run(moves) == ["auto", "0s"]
    tab.theme("light")


# --- other students ------------------------------------------------------------------------------------------------

ODD = ['a "quoted", name', "<script>alert(1)</script>", "🐈 & 🐕", "C:\\new\u2028line", "قطة", "</script><!--"]


class Head(nn.Module):
    """A network of many classes."""

    def __init__(self, classes: int):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(classes, 3, generator=generator))

    def forward(self, images):
        return 4 * images.mean((2, 3)) @ self.weight.T


def other(browser, folder, runtime, trained, network, **changes):
    """Write, serve and open the page of another network, without examples; return the address."""
    description = replace(trained.student.description, **changes)
    export(network.eval(), description, folder / "deploy")
    return served(write_page(folder / "deploy", description, None, runtime))


def test_class_names_are_text(browser, tmp_path, runtime, trained):
    with other(browser, tmp_path, runtime, trained, trained.student, classes=tuple(ODD)) as address:
        browser.messages.clear()
        browser.open(address)
        wait(browser, f'{STATUS}.startsWith("Ready")')
        assert browser.run('document.getElementById("take-example").hidden')
        Image.new("RGB", (40, 30), "teal").save(tmp_path / "teal.png")
        browser.choose_files("#files", [tmp_path / "teal.png"])
        (card,) = answers(browser, 1)
        assert sorted(name for name, _ in card["rows"]) == sorted(ODD)
        assert browser.run('document.querySelectorAll(".card script, .card b").length') == 0
        assert browser.messages == []


@pytest.mark.parametrize("count", [1, 1000])
def test_one_class_and_a_thousand(browser, tmp_path, runtime, trained, count):
    classes = tuple(f"class {k}" for k in range(count))
    network = Head(count)
    with other(browser, tmp_path, runtime, trained, network, classes=classes) as address:
        browser.open(address)
        Image.new("RGB", (40, 30), (200, 90, 20)).save(tmp_path / "x.png")
        browser.choose_files("#files", [tmp_path / "x.png"])
        (card,) = answers(browser, 1)
        images = Model(network, replace(trained.student.description, classes=classes)).preprocess(tmp_path / "x.png")
        expected = torch.softmax(network(images)[0].double(), 0)
        assert card["best"] == classes[expected.argmax()] and abs(card["rows"][0][1] - expected.max()) < 1e-4
        assert len(card["rows"]) == min(count, 5)
        if count > 5:
            browser.click("summary")
            wait(browser, f'document.querySelectorAll(".all li").length === {count}')
            assert "All 1,000 classes" in browser.run(ANSWERS)[0]["text"]


def test_a_network_that_is_missing_is_a_sentence(browser, tmp_path, runtime, trained):
    deploy = tmp_path / "deploy"
    export(trained.student, trained.student.description, deploy)
    page = write_page(deploy, trained.student.description, None, runtime)
    (page / "student.onnx").unlink()
    with served(page) as address:
        browser.open(address)
        wait(browser, f'{STATUS} === "The network cannot be loaded: student.onnx is missing (404)"')
        browser.choose_files("#files", [page / "index.html"])
        time.sleep(0.2)
        assert browser.run(STATUS).startswith("The network cannot be loaded")
        (page / "page.json").unlink()
        browser.open(address)
        wait(browser, f'{STATUS}.startsWith("page.json cannot be read")')


def test_opened_as_a_file_it_says_what_to_do(browser, page):
    browser.open(page / "index.html")
    wait(browser, 'document.getElementById("from-file").innerText.includes("python -m http.server")')
    browser.messages.clear()


def test_a_deep_picture_of_a_data_set_with_its_own_white_gets_a_note(browser, tmp_path, runtime, trained):
    with other(browser, tmp_path, runtime, trained, trained.student, white=(4095, True), channels=1) as address:
        browser.open(address)
        Image.fromarray(np.full((40, 40), 3000, np.uint16)).save(tmp_path / "deep.png")
        browser.choose_files("#files", [tmp_path / "deep.png"])
        (card,) = answers(browser, 1)
        assert "16 bits a channel" in card["text"] and "4,095" in card["text"]


# --- the folder ----------------------------------------------------------------------------------------------------


def test_writing_again_replaces_the_page_and_leaves_nothing_beside(page, trained, runtime):
    (page / "of-before.txt").write_text("")
    before = (page / "page.json").read_bytes()
    description = trained.student.description
    examples = pick_examples(trained.dataset, trained.predictions, description.key)
    assert write_page(page.parent, description, examples, runtime) == page
    assert not (page / "of-before.txt").exists() and (page / "page.json").read_bytes() == before
    assert {path.name for path in page.parent.iterdir()} == {"student.onnx", "page"}
    size = sum(path.stat().st_size for path in page.iterdir())
    assert 14e6 < size < 15e6 + (page / "student.onnx").stat().st_size


def test_examples_are_lossless(page, trained):
    data = json.loads((page / "page.json").read_text())
    kept = [np.asarray(Image.open(page / example["image"])) for example in data["examples"]]
    examples = pick_examples(trained.dataset, trained.predictions, trained.student.description.key)
    assert np.array_equal(np.stack(kept), examples.images)
    images = shown(np.stack(kept), trained.student.description)
    assert torch.allclose(trained.student(images), torch.tensor(examples.logits["student"]), atol=1e-4)


def test_without_the_network_s_file_nothing_is_written(tmp_path, trained, runtime):
    with pytest.raises(ValueError, match=r"student.onnx is missing.*export it first"):
        write_page(tmp_path, trained.student.description, None, runtime)
    assert not list(tmp_path.iterdir())
