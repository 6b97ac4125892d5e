"""The page of ``flowbench report``, as somebody uses it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from opened import Opened
from sketch_cases import HOSTILE

from flowbench.report.page.build import PROGRAM

VIEWS = ("", "mine", "mine/run-0", "mine/run-1", "mine/diverged")


def comparison(page: Any) -> Any:
    return page.get_by_role("region", name="Comparison: mine").locator("table")


def names(page: Any) -> list[str]:
    return [row.split("\t")[0] for row in comparison(page).locator("tbody tr").all_inner_texts()]


def test_it_asks_for_nothing_and_shows_everything(opened: Any, page_file: Path) -> None:
    page = opened.at()
    assert page.locator(".chart svg").count() == 1  # how costs grow
    page = opened.at("mine")
    assert page.locator("h2").all_inner_texts() == [
        "Which flow to pick", "Comparison", "Training", "Which differences are real", "Has it got worse?",
    ]  # fmt: skip
    assert page.locator(".chart svg").count() == 4
    page = opened.at("mine/run-1")
    assert page.locator(".chart svg").count() == 6  # numbers, classes, pairs, calibration, log-densities, training
    assert page.locator(".images img").evaluate_all("all => all.every((image) => image.naturalWidth === 16)")
    assert page_file.stat().st_size < 3e6


def test_the_browser_lets_it_ask_for_nothing(browser: Any, page_file: Path) -> None:
    """Whatever were put into it: its policy says so."""
    found = Opened(browser, page_file, offline=False)
    page = found.at()
    said = page.evaluate("fetch('http://127.0.0.1:9/').then(() => 'asked', (error) => error.message)")
    page.evaluate("document.body.append(Object.assign(document.createElement('script'), {text: 'window.got = 1'}))")
    assert said == "Failed to fetch"
    assert page.evaluate("window.got") is None
    assert any("Content Security Policy" in wrong for wrong in found.wrong)
    found.context.close()


def test_columns_are_sorted_and_rows_filtered(opened: Any) -> None:
    page = opened.at("mine")
    page.get_by_role("button", name="validation nats").click()
    assert page.locator("th[aria-sort]").get_attribute("aria-sort") == "descending"
    down = names(page)
    page.get_by_role("button", name="validation nats").click()
    up = names(page)
    runs = len([name for name in down if name[0].isdigit()])
    assert up[: runs - 1] == down[: runs - 1][::-1]  # the diverged one, which has none, stays last
    page.get_by_label("Filter").fill("iaf")
    assert names(page) == [next(name for name in down if "iaf" in name)]
    assert page.locator("main [role=status]").first.inner_text().startswith("1 of ")
    page.get_by_text("Columns", exact=True).click()
    box = page.get_by_role("group", name="Columns shown").get_by_label("train")
    before = comparison(page).locator("thead th").count()
    box.set_checked(not box.is_checked())
    assert abs(comparison(page).locator("thead th").count() - before) == 1


def test_what_is_shown_is_copied(browser: Any, page_file: Path) -> None:
    found = Opened(browser, page_file)
    page = found.at("mine")
    page.evaluate(
        "window.copied = []; document.addEventListener('copy', () => copied.push(document.activeElement.value))"
    )
    page.evaluate("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    page.get_by_label("Filter").fill("realnvp")
    for form in ("CSV", "LaTeX"):
        page.get_by_role("button", name=f"Copy as {form}").first.click()
    csv, latex = page.evaluate("copied")
    assert csv.splitlines()[0].startswith("kind,model,validation nats")
    assert csv.splitlines()[1].startswith("run,realnvp 5 × (2×100)")
    assert re.search(r"realnvp 5 \$\\times\$ \(2\$\\times\$100\) & .*\\\\\n\\bottomrule", latex)
    assert found.wrong == []
    found.context.close()


def test_a_run_is_chosen_and_the_way_back_is_the_browser_s(opened: Any) -> None:
    page = opened.at("mine")
    page.get_by_role("link", name="iaf").first.click()
    assert page.locator("h1").inner_text().startswith("iaf 5 × (2×100), seed 0")
    assert page.evaluate("document.activeElement.tagName") == "H1"
    page.go_back()
    page.wait_for_function("document.querySelector('h1').textContent === 'mine'")
    page.go_back()
    page.go_forward()
    page.wait_for_function("document.querySelector('h1').textContent === 'mine'")


def test_runs_are_laid_over_each_other_as_chosen(opened: Any) -> None:
    page = opened.at("mine")
    chart = page.locator("figure", has_text="Training on mine")
    assert "6 of 6" in chart.get_by_text("Runs drawn").inner_text()
    chart.get_by_text("Runs drawn").click()
    lines = "figure => figure.querySelectorAll('.mark-line path').length"
    before = chart.evaluate(lines)
    chart.get_by_label("iaf").uncheck()
    page.wait_for_function(f"figure => ({lines})(figure) === {before - 2}", arg=chart.element_handle())
    chart.get_by_label("against").select_option("epoch")
    page.wait_for_function(
        "figure => figure.querySelector('svg').textContent.includes('epoch')", arg=chart.element_handle()
    )


def test_light_and_dark_are_what_one_wants_and_stay(browser: Any, page_file: Path) -> None:
    found = Opened(browser, page_file, color_scheme="dark")
    page = found.at("mine")
    ground = "getComputedStyle(document.body).backgroundColor"
    ink = "document.querySelector('.chart svg text').getAttribute('fill')"
    assert page.evaluate(ground) == "rgb(13, 17, 23)"
    dark = page.evaluate(ink)
    page.get_by_role("button", name="Light colours").click()
    page.wait_for_function(f"{ink} !== '{dark}'")
    assert page.evaluate(ground) == "rgb(255, 255, 255)"
    page.reload()
    page.wait_for_function("document.documentElement.dataset.theme === 'light'")
    assert found.wrong == []
    found.context.close()


def test_the_keyboard_alone_reaches_and_works_everything(opened: Any) -> None:
    page = opened.at("mine")
    page.evaluate("document.querySelectorAll('details').forEach((each) => (each.open = true))")
    while not page.evaluate("document.activeElement.textContent.startsWith('validation')"):
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.closest('th').ariaSort") == "descending"
    what = "a, button, input, select, summary, [role=region], .chart"
    there = f"[...document.querySelectorAll('{what}')].filter((each) => !each.disabled)"
    wanted = page.evaluate(f"{there}.map((each, place) => (each.dataset.place = place)).length")
    seen = set()
    for _ in range(wanted + 5):
        page.keyboard.press("Tab")
        seen.add(page.evaluate("document.activeElement.dataset.place"))
    assert len(seen - {None}) == wanted
    page.keyboard.press("Home")
    page.locator(".skip").focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


@pytest.mark.parametrize(("scheme", "views"), [("light", VIEWS), ("dark", VIEWS[1:4:2])])
def test_axe_finds_nothing(browser: Any, page_file: Path, scheme: str, views: tuple[str, ...]) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed").Axe()
    found = Opened(browser, page_file, color_scheme=scheme)
    for view in views:
        page = found.at(view)
        page.evaluate("document.querySelectorAll('details').forEach((each) => (each.open = true))")
        violations = axe.run(page).response["violations"]
        assert [(each["id"], each["nodes"][0]["html"]) for each in violations] == []
    found.context.close()


@pytest.mark.parametrize("width", [320, 390])
def test_a_telephone_shows_it_without_a_scroll_to_the_side(browser: Any, page_file: Path, width: int) -> None:
    found = Opened(browser, page_file, viewport={"width": width, "height": 700})
    for view in VIEWS:
        assert found.at(view).evaluate("document.documentElement.scrollWidth") <= width
    assert found.wrong == []
    found.context.close()


def test_markup_is_text(opened: Any) -> None:
    page = opened.at("mine/run-0")
    assert HOSTILE in page.locator("figure", has_text="Columns of").locator("svg").first.text_content()
    page.locator("figure", has_text="Columns of").first.get_by_text("Numbers").click()
    page.get_by_role("cell", name=HOSTILE).first.wait_for()
    page = opened.at("mine/diverged")
    assert f'diverged: {HOSTILE} "quoted" & \\x1b[31mred at step 3' in page.locator("main").inner_text()
    assert "mine" in opened.at("<img src=x onerror=alert(1)>").locator("main").inner_text()
    assert page.locator("main script, main img[src=x], main b").count() == 0


def test_numbers_are_behind_every_picture(opened: Any) -> None:
    for view in VIEWS:
        page = opened.at(view)
        for figure in page.locator("figure", has=page.locator(".chart")).all():
            figure.get_by_text("Numbers", exact=True).click()
            figure.locator("tbody tr").first.wait_for()


def test_without_a_program_there_is_the_table(browser: Any, page_file: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(page_file.as_uri())
    assert "realnvp 5 × (2×100)" in page.locator("noscript, main").first.inner_text()
    context.close()


def test_the_program_is_all_there() -> None:
    there = {path.name for path in Path(__file__, "../../../../flowbench/report/page").resolve().glob("*.js")}
    assert there == set(PROGRAM)
