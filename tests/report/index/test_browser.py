"""index.html in a browser: sorts, filters, searches, copies, draws, works by keyboard, keeps state in the hash."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from kd.records.ledger import begin_sweep
from kd.report.index.page import NAME, html
from kd.report.index.scan import scan
from kd.report.index.watch import write_index
from tests.browser import BRIGHT, Browser, find
from tests.report.index.many import make_outputs
from tests.report.index.speed import measure
from tests.report.index.test_door import EVIL

pytestmark = pytest.mark.skipif(
    find() is None, reason="no Chromium on this machine: install chromium, or name one in CHROME, to test the page"
)
DESKTOP, PHONE = (1280, 900, False), (390, 844, True)
RUNS = 320
COLUMN = """
(name => { const heads = [...document.querySelectorAll("#heads th")];
  const k = heads.findIndex(head => head.querySelector("[data-sort]")?.dataset.sort === name);
  return [...document.querySelectorAll("#rows tr[data-id]")].map(row => row.cells[k].textContent.trim()); })
"""
COUNT = 'document.getElementById("count").textContent'
IDS = '[...document.querySelectorAll("#rows tr[data-id]")].map(row => row.dataset.id)'
PAUSE = "new Promise(done => setTimeout(done, 200))"
CONTRAST = """
bright => {
  const found = {}, clear = colour => /, 0\\)$|transparent/.test(colour);
  const under = node => {
    while (clear(getComputedStyle(node).backgroundColor)) node = node.parentElement;
    return getComputedStyle(node).backgroundColor; };
  for (const which of ["p", ".quiet", "a", "th", "th button", "td button", "#tools label", "output", "kbd", "dt", "dd",
                       ".finished", ".failed", ".interrupted", ".damaged", ".message", "summary", ".front", ".legend"])
    document.querySelectorAll(which).forEach(node => {
      found[which] = [bright(getComputedStyle(node).color), bright(under(node))]; });
  return found; }
"""


@pytest.fixture(scope="module")
def outputs(tmp_path_factory) -> Path:
    outputs = make_outputs(tmp_path_factory.mktemp("page") / "outputs", runs=RUNS, epochs=12)
    write_index(outputs)
    return outputs


@pytest.fixture(scope="module")
def runs(outputs) -> list[dict]:
    return scan(outputs).runs


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def tab(browser, outputs):
    """The page, opened again at the size of a desktop; at its end it must have reported no error."""
    browser.theme("light")
    browser.size(*DESKTOP)
    visit(browser, outputs)
    browser.run("localStorage.clear()")
    browser.messages.clear(), browser.fetched.clear()
    yield browser
    assert browser.messages == []


def visit(tab: Browser, outputs: Path, state: str = "") -> None:
    tab.open("about:blank")
    tab.open((outputs / NAME).as_uri() + state)


def search(tab: Browser, words: str) -> None:
    tab.run(
        "(words => { const field = document.getElementById('search'); field.value = words; "
        f"field.dispatchEvent(new Event('input')); }})({json.dumps(words)})"
    )
    tab.run(PAUSE)


def only(tab: Browser, name: str, value: str) -> None:
    place = f"document.querySelector('[data-only=\"{name}\"]')"
    tab.run(
        f"(select => {{ select.value = {json.dumps(value)}; select.dispatchEvent(new Event('change')); }})({place})"
    )


def press_head(tab: Browser, name: str) -> None:
    tab.run(f"document.querySelector('[data-sort=\"{name}\"]').click()")


def numbers(texts: list[str]) -> list[float]:
    return [float(text.replace("−", "-").replace(",", "")) for text in texts if text != "–"]


def all_rows(tab: Browser) -> None:
    tab.run("(async more => { while (!more.hidden) { more.click(); } })(document.getElementById('more'))")


def test_it_fetches_nothing_but_itself(browser, outputs):
    browser.messages.clear(), browser.fetched.clear()
    browser.open(outputs / NAME)
    assert browser.messages == []
    assert [a for a in browser.fetched if not a.startswith("data:")] == [(outputs / NAME).as_uri()]


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_nothing_is_wider_than_the_screen(tab, outputs, runs, size):
    tab.size(*size)
    visit(tab, outputs, f"#open={runs[0]['id']}&chosen={runs[0]['id']}")
    assert tab.run("[innerWidth, document.documentElement.scrollWidth]") == [size[0], size[0]]
    tab.run("document.getElementById('chooser').open = true")
    assert tab.run("document.documentElement.scrollWidth") == size[0]
    box = tab.run("(box => [box.left, box.right])(document.querySelector('.chooser .menu').getBoundingClientRect())")
    assert box[0] >= 0 and box[1] <= size[0]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_has_contrast(tab, outputs, runs, theme):
    tab.theme(theme)
    failed = next(run["id"] for run in runs if run["state"] == "failed")
    visit(tab, outputs, f"#open={failed}&open={runs[0]['id']}")
    contrasts = tab.run(f"({CONTRAST})({BRIGHT})")
    assert {"p", "a", "dt", ".finished", ".failed", ".interrupted", ".damaged", ".message"} <= set(contrasts)
    for what, (ink, paper) in contrasts.items():
        assert (max(ink, paper) + 0.05) / (min(ink, paper) + 0.05) >= 4.5, what


def test_the_newest_is_first_and_the_rest_follows_on_demand(tab, runs):
    shown = tab.run(IDS)
    assert shown == [run["id"] for run in runs][: len(shown)] and 100 <= len(shown) < RUNS
    all_rows(tab)
    assert tab.run(IDS) == [run["id"] for run in runs]


def test_a_heading_sorts_as_numbers_and_what_is_missing_comes_last(tab):
    press_head(tab, "gain")
    all_rows(tab)
    shown = tab.run(f'{COLUMN}("gain")')
    known = numbers(shown)
    assert known == sorted(known, reverse=True) and len(known) < RUNS and set(shown[len(known) :]) == {"–"}
    assert tab.run("document.querySelector('[aria-sort]').getAttribute('aria-sort')") == "descending"
    press_head(tab, "gain")
    all_rows(tab)
    assert numbers(tab.run(f'{COLUMN}("gain")')) == sorted(known)
    press_head(tab, "student")
    assert tab.run(f'{COLUMN}("student")')[:3] == ["resnet20"] * 3
    assert tab.run("document.querySelectorAll('[aria-sort]').length") == 1


def test_the_keyboard_sorts_moves_opens_and_chooses(tab, runs):
    tab.run("document.querySelector('[data-sort=accuracy]').focus()")
    tab.key("Enter", 13)
    best = max((run for run in runs if run.get("accuracy")), key=lambda run: run["accuracy"])
    assert tab.run(IDS)[0] == best["id"]
    tab.run("document.querySelector('#rows .open').focus()")
    tab.key("ArrowDown", 40)
    focused = "document.activeElement.closest('tr').dataset.id"
    second = tab.run(IDS)[1]
    assert tab.run(focused) == second
    tab.key("Enter", 13)
    assert tab.run("document.activeElement.getAttribute('aria-expanded')") == "true" and tab.run(focused) == second
    assert second in tab.run("document.querySelector('tr.details').textContent")
    tab.run("document.activeElement.dispatchEvent(new KeyboardEvent('keydown', { key: 'x', bubbles: true }))")
    assert tab.run("kd.state.chosen") == [second]
    tab.run("document.body.dispatchEvent(new KeyboardEvent('keydown', { key: '/', bubbles: true }))")
    assert tab.run("document.activeElement.id") == "search"


def test_words_and_comparisons_search(tab, runs):
    search(tab, "reviewkd vgg8")
    wanted = [run["id"] for run in runs if run.get("method") == "reviewkd" and run.get("student") == "vgg8"]
    assert tab.run(IDS) == wanted and tab.run(COUNT) == f"{len(wanted)} of {RUNS} runs"
    search(tab, "method=at gain>0.5")
    wanted = [run["id"] for run in runs if run.get("method") == "at" and run.get("gain", 0) * 100 > 0.5]
    assert tab.run(IDS) == wanted and wanted
    search(tab, "loss is NaN")  # of an error's message
    assert {run["state"] for run in runs if run["id"] in tab.run(IDS)} == {"failed"}
    search(tab, "kd.temperature=1")
    assert set(tab.run(f'{COLUMN}("method")')) == {"hinton", "dkd"}
    search(tab, "no such words")
    assert tab.run(COUNT) == f"0 of {RUNS} runs" and tab.run(IDS) == []
    tab.run("document.getElementById('clear').click()")
    assert tab.run(COUNT) == f"{RUNS} runs" and tab.run("document.getElementById('search').value") == ""


def test_lists_and_states_filter(tab, runs):
    only(tab, "method", "dkd")
    only(tab, "data", "cifar100")
    assert set(tab.run(f'{COLUMN}("method")')) == {"dkd"} and set(tab.run(f'{COLUMN}("data")')) == {"cifar100"}
    tab.run("document.getElementById('clear').click()")
    tab.click('[data-state="failed"]')
    assert tab.run(COUNT) == f"{sum(run['state'] == 'failed' for run in runs)} of {RUNS} runs"
    assert all(text.startswith("failed ArithmeticError") for text in tab.run(f'{COLUMN}("state")'))
    assert tab.run("document.activeElement.getAttribute('aria-pressed')") == "true"
    tab.click('[data-state="failed"]')
    assert tab.run(COUNT) == f"{RUNS} runs"


def test_what_was_refused_is_counted_and_can_be_filtered(browser, tmp_path):
    begin_sweep(
        tmp_path / "sweeps" / "all", "c", [], [], ["kd"], [["kd=at"], ["kd=fsp"]], None, [(["kd=at"], "no map")]
    )
    write_index(tmp_path)
    visit(browser, tmp_path)
    assert "1 refused, 1 waiting" in browser.run("document.querySelector('#sweep-rows tr').textContent")
    browser.click('[data-state="refused"]')
    assert browser.run(COUNT) == "1 run" and browser.run(f'{COLUMN}("method")') == ["at"]
    assert "no map" in browser.run("document.querySelector('#rows').textContent")


def test_a_sweep_shows_its_runs(tab):
    tab.run("document.querySelector('#sweep-rows button').click()")
    assert tab.run(COUNT) == f"100 of {RUNS} runs"
    row = tab.run("document.querySelector('#sweep-rows tr').textContent")
    assert "94 of 100 finished, 6 failed" in row


def test_the_user_chooses_the_columns(tab):
    choose = """(name => { const boxes = [...document.querySelectorAll("#columns-list input")];
                  boxes.find(box => box.value === name).click(); })"""
    assert not tab.run("document.querySelector('[data-sort=nll]')")
    for name in ("nll", "kd.temperature", "teacher"):
        tab.run(f"{choose}({json.dumps(name)})")
    heads = tab.run("[...document.querySelectorAll('#heads [data-sort]')].map(head => head.dataset.sort)")
    assert {"nll", "kd.temperature"} <= set(heads) and "teacher" not in heads
    assert set(tab.run(f'{COLUMN}("kd.temperature")')) == {"1", "2", "4", "8", "–"}
    press_head(tab, "nll")
    known = numbers(tab.run(f'{COLUMN}("nll")'))
    assert known == sorted(known) and known
    tab.run("document.getElementById('columns-default').click()")
    assert "nll" not in tab.run("document.getElementById('heads').textContent").lower()


def test_a_reload_and_a_link_show_the_same(tab, outputs, runs):
    press_head(tab, "accuracy")
    search(tab, "gain>0")
    only(tab, "student", "vgg8")
    ids = tab.run(IDS)
    tab.run(f"kd.choose({json.dumps(ids[0])}, true); kd.toggle({json.dumps(ids[1])})")
    tab.run("document.getElementById('measure').value = 'loss'")
    tab.run("document.getElementById('measure').dispatchEvent(new Event('change'))")
    address = tab.run("location.hash")
    visit(tab, outputs, address)
    assert tab.run(IDS) == ids and tab.run("location.hash") == address
    assert tab.run("document.getElementById('search').value") == "gain>0"
    assert tab.run("document.querySelector('[data-only=student]').value") == "vgg8"
    assert tab.run("document.querySelector('#rows tr.chosen').dataset.id") == ids[0]
    assert tab.run("document.querySelectorAll('tr.details').length") == 1
    assert tab.run("document.getElementById('measure').value") == "loss"
    visit(tab, outputs, "#sort=-nonsense&chosen=gone&columns=nonsense,gain&student=gone")
    assert tab.run(COUNT) == f"0 of {RUNS} runs"  # a link to what is gone shows nothing, and breaks nothing


@pytest.mark.parametrize("clipboard", ["as it is", "refuses"])
def test_the_command_is_copied(tab, outputs, runs, clipboard):
    refuse = "{ writeText: () => Promise.reject(new Error()) }"
    note = "{ writeText: async text => { heard.push(text); } }"
    given = refuse if clipboard == "refuses" else note
    tab.run(f"window.heard = []; Object.defineProperty(navigator, 'clipboard', {{ value: {given} }})")
    tab.run('document.addEventListener("copy", () => heard.push(document.activeElement.value))')
    tab.click("#rows button[data-copy]")
    tab.run(PAUSE)
    assert tab.run("document.querySelector('#rows button[data-copy]').textContent") == "copied"
    assert tab.run("heard") == [f"{runs[0]['command']} outputs={outputs}"]
    assert tab.run("document.querySelectorAll('textarea').length") == 0


def test_links_lead_to_the_reports(tab, outputs, runs):
    tab.run(f"kd.toggle({json.dumps(runs[0]['id'])})")
    links = tab.run("[...document.querySelectorAll('#rows a, #sweep-rows a')].map(link => link.getAttribute('href'))")
    assert f"runs/{runs[0]['id']}/report.md" in links and f"runs/{runs[0]['id']}/result.json" in links
    assert all((outputs / link).exists() for link in links)


def test_the_front_is_that_of_the_runs_in_the_table(tab, runs):
    only(tab, "data", "cifar100")
    known = [run for run in runs if run["state"] == "finished" and run["data"] == "cifar100"]
    for name, cost in (("params", "params"), ("latency", "latency")):
        best = {
            run["id"]
            for run in known
            if not any(
                other[cost] <= run[cost]
                and other["accuracy"] >= run["accuracy"]
                and (other[cost] < run[cost] or other["accuracy"] > run["accuracy"])
                for other in known
            )
        }
        drawn = f"[...document.querySelectorAll('#plot-{name} circle.best')].map(dot => dot.dataset.run)"
        assert set(tab.run(drawn)) == best and best
        assert tab.run(f"document.querySelectorAll('#plot-{name} circle').length") == len(known)
        assert (
            tab.run(f"document.querySelector('#plot-{name} .front-line').getAttribute('d')").count("H") == len(best) - 1
        )
        assert tab.run(f"document.querySelectorAll('#plot-{name} .teacher').length") == 1


def test_a_point_shows_its_run_and_opens_it(tab, runs):
    place = "document.querySelector('#plot-params circle.best')"
    tab.run(f"{place}.dispatchEvent(new PointerEvent('pointerover', {{ bubbles: true, clientX: 300, clientY: 300 }}))")
    tip = tab.run("document.getElementById('tip').textContent")
    shown = next(run for run in runs if run["id"] == tab.run(f"{place}.dataset.run"))
    assert shown["method"] in tip and f"accuracy {100 * shown['accuracy']:.2f} %" in tip and "M parameters" in tip
    tab.run(f"{place}.focus()")
    tab.key("ArrowLeft", 37)
    assert tab.run("document.activeElement.tagName") == "circle"
    chosen = tab.run("document.activeElement.dataset.run")
    assert chosen != shown["id"]
    tab.key("Enter", 13)
    assert tab.run("document.activeElement.closest('tr').dataset.id") == chosen
    assert chosen in tab.run("document.querySelector('tr.details').textContent")


def test_the_curves_are_those_of_the_metrics(tab, outputs, runs):
    shown = [run["id"] for run in runs if run["state"] == "finished"][:2]
    for run in shown:
        tab.run(f"document.querySelector('tr[data-id=\"{run}\"] input').click()")
    assert tab.run("[...document.querySelectorAll('#plot-curves .line')].map(line => line.dataset.run)") == shown
    lines = (outputs / "runs" / shown[0] / "metrics.jsonl").read_text().splitlines()
    rows = [row for row in map(json.loads, lines) if row["stage"] == "student"]
    for name in ("val_accuracy", "loss", "train_accuracy"):
        drawn = tab.run(f'kd.unpack(kd.curve(kd.byId.get("{shown[0]}"), "student").{name})')
        assert drawn == pytest.approx([row[name] for row in rows], abs=1e-4)
    tab.run("document.getElementById('role').value = 'baseline'")
    tab.run("document.getElementById('role').dispatchEvent(new Event('change'))")
    assert tab.run("document.querySelectorAll('#plot-curves .line').length") == 2
    tab.run("document.querySelector('#curves-legend button').click()")
    assert tab.run("kd.state.chosen") == shown[1:]
    tab.run("document.getElementById('choose-shown').click()")
    assert tab.run("document.querySelectorAll('#curves-legend li').length") == 8


def test_the_share_of_the_gradient_has_a_line_for_each_term(tab, outputs, runs):
    shown = next(run["id"] for run in runs if run["state"] == "finished")
    visit(tab, outputs, f"#chosen={shown}&measure=share")
    assert tab.run("document.querySelectorAll('#plot-curves .line').length") == 2
    assert "hard" in tab.run("document.getElementById('curves-help').textContent")


def test_it_opens_itself_again_and_keeps_its_place(tab, outputs):
    index = scan(outputs)
    (outputs / "watched.html").write_text(html(index, outputs, reload=0.3), "utf-8")
    tab.open("about:blank")
    tab.open((outputs / "watched.html").as_uri() + "#q=scenes&sort=-accuracy")
    tab.run("document.getElementById('runs-box').scrollTop = 700; scrollTo(0, 150); window.before = true")
    until = time.monotonic() + 30
    while tab.run("window.before === true || document.readyState !== 'complete'"):
        assert time.monotonic() < until
        time.sleep(0.1)
    assert tab.run("location.hash") == "#q=scenes&sort=-accuracy"
    assert tab.run("[document.getElementById('runs-box').scrollTop, scrollY]") == [700, 150]
    tab.open(outputs / NAME)
    tab.run("window.before = true")
    tab.run("new Promise(done => setTimeout(done, 700))")
    assert tab.run("window.before") is True  # a page that nothing watches stays


def test_no_text_becomes_part_of_the_page(browser, outputs, runs, tmp_path):
    index = scan(outputs)
    for number, run in enumerate(index.runs[:4]):
        run |= {"data": EVIL, "method": EVIL, "message": EVIL, "command": EVIL, "overrides": [EVIL]}
        run |= {"settings": {EVIL: number, **run["settings"]}, "sweeps": [EVIL]}
    index.sweeps[0] |= {"name": EVIL, "command": EVIL, "swept": [EVIL]}
    (tmp_path / NAME).write_text(html(index, tmp_path / EVIL.replace("/", "_")), "utf-8")
    browser.messages.clear()
    browser.run("undefined")
    browser.open("about:blank")
    browser.open((tmp_path / NAME).as_uri() + f"#open={index.runs[0]['id']}&chosen={index.runs[0]['id']}")
    assert browser.run("document.images.length") == 0 and browser.run("document.scripts.length") == 4
    assert EVIL in browser.run("document.getElementById('rows').textContent")
    assert browser.messages == []


def test_a_folder_without_runs_has_a_page(browser, tmp_path):
    (tmp_path / "runs").mkdir()
    path, _ = write_index(tmp_path)
    browser.messages.clear()
    browser.open(path)
    assert browser.messages == [] and browser.run(COUNT) == "0 runs"
    assert "kd.run" in browser.run("document.body.innerText")


@pytest.mark.slow  # a time
def test_a_thousand_runs_open_in_two_seconds(tmp_path):
    path, _ = write_index(make_outputs(tmp_path / "outputs", runs=1000))
    assert min(measure(path)["open"]) < 2
