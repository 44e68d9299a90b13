"""Pages of students of any kind: odd names, one class, a thousand; and pages of which a part is missing."""

from __future__ import annotations

import os
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from kd.export.page import write_page
from kd.inference.model import Model
from tests.export.page.tab import ANSWERS, STATUS, answers, wait
from tests.export.page.trained import export, served

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


@pytest.mark.parametrize("slow", ["page.json", "student.onnx"])
def test_a_file_that_is_chosen_before_the_page_is_whole_waits(browser, page, tmp_path, slow):
    Image.new("RGB", (40, 30), "teal").save(tmp_path / "early.png")
    browser.messages.clear()
    with served(page, slow) as address:
        browser.open(address)
        browser.choose_files("#files", [tmp_path / "early.png"])
        assert not browser.run('document.querySelectorAll(".card").length')  # it is early
        wait(browser, f'{STATUS}.startsWith("early.png: ")')
        assert [card["title"] for card in answers(browser, 1)] == ["early.png"]
        assert browser.run('document.querySelectorAll("[aria-pressed=true]").length') == 0
    assert browser.messages == []


def test_a_new_export_is_seen_though_the_browser_keeps_files(browser, tmp_path, trained, runtime):
    deploy = tmp_path / "deploy"
    export(trained.student, trained.student.description, deploy)
    with served(deploy) as address:
        for name, age in (("of before", 10**8), ("of now", 0)):
            new = write_page(deploy, replace(trained.student.description, data=name), None, runtime)
            changed = time.time() - age  # seconds; what has long been the same a browser keeps without asking
            os.utime(new / "page.json", (changed, changed))
            browser.open(f"{address}page/")
            wait(browser, f'{STATUS}.startsWith("Ready")')
            assert f"trained on {name} " in browser.run('document.getElementById("about").textContent')


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
