"""Measure how long Chromium takes to open the front page of a thousand runs, to sort it and to search it.

    python -m tests.report.index.speed [FOLDER] --runs 1000

FOLDER: an outputs folder whose ``index.html`` is opened; without, one is made in a temporary folder.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from kd.report.index.page import NAME
from kd.report.index.watch import summary, write_index
from tests.browser import Browser, find
from tests.report.index.many import make_outputs

# milliseconds since the navigation began, once the second frame after now is painted
PAINTED = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now()))))"
AFTER = "(async act => { const began = performance.now(); act(); return (await %s) - began; })" % PAINTED  # noqa: UP031
SORT = """() => document.querySelector('[data-sort="accuracy"]').click()"""
SEARCH = """() => { kd.state.q = "dkd gain>1"; kd.update(); }"""


def measure(page: Path, times: int = 5) -> dict[str, list[float]]:
    """Return seconds: to open the page until it is painted, to sort it, to search it; each several times."""
    found: dict[str, list[float]] = {"open": [], "sort": [], "search": []}
    with tempfile.TemporaryDirectory() as profile, Browser(Path(profile)) as browser:
        browser.size(1280, 900)
        for _ in range(times):
            browser.open("about:blank")
            browser.open(page)
            found["open"].append(browser.run(PAINTED) / 1000)
            found["sort"].append(browser.run(f"{AFTER}({SORT})") / 1000)
            found["search"].append(browser.run(f"{AFTER}({SEARCH})") / 1000)
        if browser.messages:
            raise RuntimeError(f"the page reports {browser.messages}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--runs", type=int, default=1000)
    given = parser.parse_args()
    if find() is None:
        raise SystemExit("no Chromium on this machine: install chromium, or name one in CHROME")
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or make_outputs(Path(temporary) / "outputs", given.runs)
        (folder / NAME).unlink(missing_ok=True)
        for what in ("anew", "with nothing changed"):
            began = time.perf_counter()
            path, index = write_index(folder)
            print(f"{summary(index)}: written {what} in {time.perf_counter() - began:.2f} s")
        print(f"{path.stat().st_size / 2**20:.2f} MB")
        for name, seconds in measure(path).items():
            median = statistics.median(seconds)
            print(f"{name}: {median:.2f} s (median of {len(seconds)}, {min(seconds):.2f} to {max(seconds):.2f})")


if __name__ == "__main__":
    main()
