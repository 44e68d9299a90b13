"""What tests read in the page."""

from __future__ import annotations

import time

ANSWERS = """[...document.querySelectorAll(".card")].map(card => ({ title: card.querySelector("h3")?.textContent ?? "",
  best: card.querySelector(".best bdi")?.textContent, text: card.innerText,
  rows: [...card.querySelectorAll(".bars li")].map(li => [li.querySelector("bdi").textContent,
    parseFloat(li.querySelector(".fill").style.width) / 100]) }))"""
STATUS = 'document.getElementById("status").textContent'


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
