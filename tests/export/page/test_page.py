"""deploy/page/ in a browser: answers as Python's, offline, by mouse, keyboard and screen reader, on a phone too."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from kd.evaluation.metrics import probabilities
from kd.export.page import ASSETS, write_page
from tests.browser import BRIGHT
from tests.export.page.tab import ANSWERS, STATUS, answers, spaced, wait
from tests.export.page.trained import export, served

FOCUS = "document.activeElement"


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


def test_it_says_what_the_student_is(tab):
    about = tab.run('document.getElementById("about").textContent')  # trained: a student may be one of labels alone
    assert about.startswith("This student was trained on scenes and knows 6 classes. ")


@pytest.mark.parametrize("name", ["folder", "huggingface", "webdataset", ""])
def test_a_data_set_without_a_name_is_not_named(browser, name, tmp_path, trained, runtime):
    description = replace(trained.student.description, data=name)
    export(trained.student, description, tmp_path)
    with served(write_page(tmp_path, description, None, runtime)) as place:
        browser.open(place)
        wait(browser, f'{STATUS}.startsWith("Ready")')
        assert browser.run('document.getElementById("about").textContent').startswith("This student knows 6 classes. ")
        assert browser.run("document.title") == "What is in the picture?"
        facts = browser.run('[...document.querySelectorAll("#facts dt")].map(each => each.textContent)')
        assert facts == ["run", "classes", "input", "runtime"]


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
    shown = f'{FOCUS}.id === "files" ? {FOCUS}.nextElementSibling : {FOCUS}'  # the label stands for the input
    reached = []
    for _ in range(11):
        tab.key("Tab", 9)
        reached.append(tab.run(f"{FOCUS}.id || {FOCUS}.innerText"))
        assert tab.run(f"getComputedStyle({shown}).outlineStyle") == "solid", reached
    assert reached[:2] == ["theme", "files"] and reached[10] == "all-examples"
    tab.run('document.querySelectorAll("#examples button")[2].focus()')
    tab.key("Enter", 13)
    wait(tab, f'{STATUS}.startsWith("Test picture 3: ")')
    assert tab.run(f'{FOCUS}.getAttribute("aria-pressed")') == "true"  # the focus stays
    assert tab.run('document.querySelectorAll("[aria-pressed=true]").length') == 1


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
