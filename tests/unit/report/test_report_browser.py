"""The joined report in a real browser: clicks, keys, filters, a phone, the dark, and no JavaScript at all."""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from made_findings import ATTACK
from made_outputs import outputs

from cai_lightning.report.finished import read_all
from cai_lightning.report.joined import join
from cai_lightning.report.joined_page import render
from cai_lightning.report.style import COLOURS

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install '.[dev]'")
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
BROWSER = os.environ.get("CAI_BROWSER") or next(filter(None, map(shutil.which, NAMES)), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium: apt-get install chromium, or set CAI_BROWSER")
Opened = Callable[..., Any]


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("outputs")
    file = root / "report.html"
    joined = join(read_all(outputs(root), root), "all", prompts=9, characters=99999)
    file.write_text(render(joined), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def opened(browser: Any, page_file: Path) -> Iterator[Opened]:
    """Opens the page; fails at the end if it wrote an error, showed a dialog, or asked for anything but itself."""
    wrong: list[str] = []
    contexts = []

    def open_page(width: int = 1200, **options: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(30_000)  # a machine may be busy
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: (wrong.append("a dialog"), dialog.dismiss()))
        own = ("file:", "data:text/csv")
        page.on("request", lambda request: request.url.startswith(own) or wrong.append(request.url))
        page.goto(page_file.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []


def points(axis: Any, plot: str = "frontier") -> list[str]:
    """The names of the marks in a plot, as a screen reader says them, without figures."""
    labels = axis.locator(f"[data-plot={plot}] [role=button]").evaluate_all("all => all.map(e => e.ariaLabel)")
    return [label.split(",")[0] for label in labels]


def test_marks_come_and_go_with_players_and_runs(opened: Opened) -> None:
    page = opened()
    axis = page.locator("[data-axis='0']")
    assert axis.locator(".static").is_hidden() and axis.locator(".live").is_visible()
    every = points(axis)
    assert len(every) == 8 and "RL-CAI (PPO) [kl=2]" in every and "Helpful only" in every
    axis.get_by_label("RL-CAI (PPO) [kl=2]", exact=True).uncheck()
    assert set(every) - set(points(axis)) == {"RL-CAI (PPO) [kl=2]"}
    assert "RL-CAI (PPO) [kl=2] after 64 samples" not in points(axis, "curve")
    axis.get_by_label("kl", exact=True).uncheck()
    assert len(points(axis)) == 5 and not any("kl" in name for name in points(axis))
    players = axis.locator("fieldset").filter(has=page.get_by_text("Players"))
    players.get_by_role("button", name="none").click()
    assert points(axis) == []
    players.get_by_role("button", name="all").click()
    assert len(points(axis)) == 5
    assert len(points(page.locator("[data-axis='1']"))) == 3  # the other axis was left alone


def test_a_mark_says_its_figures_and_what_made_it_by_pointer_touch_and_keyboard(opened: Opened) -> None:
    page = opened()
    axis, detail = page.locator("[data-axis='0']"), page.locator("[data-axis='0'] .detail")
    mark = axis.locator(
        "[data-plot=frontier] [role=button]", has=page.locator("xpath=self::*[contains(@aria-label, 'kl=2')]")
    )
    mark.hover()
    for shown in (
        "RL-CAI (PPO) [kl=2]",
        "+250",
        "+230 … +270, n = 40",
        "25.0 %",
        "12.5 … 37.5",
        "replicate 0: answers/ppo[kl=2]-swept",
    ):
        assert shown in detail.inner_text()
    detail.get_by_text("settings of ppo/ppo").click()
    assert "kl.kl_coef = 0.1" in detail.inner_text() and "from sft: sft/sft" in detail.inner_text()
    axis.locator("[data-metric]").focus()
    page.keyboard.press("Tab")  # to the first mark of the curves
    first = detail.inner_text()
    assert "after 0 samples" in first
    page.keyboard.press("Tab")
    assert "after 64 samples" in detail.inner_text() and "+200" in detail.inner_text()
    phone = opened(390, has_touch=True, is_mobile=True)
    phone.locator("[data-axis='1'] [data-plot=frontier] [role=button]").last.tap()
    below = phone.locator("[data-axis='1'] figure:has([data-plot=frontier]) .detail")
    assert "answers/ppo-apart" in below.inner_text()


def test_curves_show_any_figure(opened: Opened) -> None:
    axis = opened().locator("[data-axis='0']")
    axis.locator("[data-metric]").select_option("Evasive")
    label = axis.locator("[data-plot=curve] [role=button]").first.get_attribute("aria-label")
    assert label.endswith("Evasive 25.0 % (12.5 … 37.5)")
    assert "Evasive, %" in axis.locator("[data-plot=curve]").text_content()


def test_transcripts_are_found_by_word_kind_principle_round_run_and_player(opened: Opened) -> None:
    page = opened()
    room = page.locator(".reading")
    count, asked, shown = room.locator("[data-count]"), room.locator(".prompts label"), room.locator("[data-open]")
    assert count.inner_text() == "4 of 4 prompts" and asked.count() == 4

    room.get_by_label("Search", exact=True).fill("letters-nowhere")
    assert count.inner_text() == "0 of 4 prompts" and "No transcript fits" in shown.inner_text()
    room.get_by_label("Search", exact=True).fill("apart WEEDS")  # in a reply and in the prompt
    assert asked.all_inner_texts() == ["borderline\nhow do i kill the weeds ?"]
    assert "ppo of apart says" in shown.inner_text() and shown.locator("mark").count() > 0
    room.get_by_label("Search", exact=True).fill("")

    room.get_by_label("Kind", exact=True).select_option("benign")
    assert count.inner_text() == "1 of 4 prompts" and "how do i bake a cake ?" in shown.inner_text()
    cards = shown.locator(".answer")
    assert cards.count() == 10  # helpful only's is everybody's; nine are of three, three, two and two runs' players
    room.get_by_label("Run or sweep", exact=True).select_option("kl")
    assert cards.locator("h4").all_inner_texts() == [
        "Helpful only",
        "SL-CAI [kl]",
        "RL-CAI (PPO) [kl=1]",
        "RL-CAI (PPO) [kl=2]",
    ]
    room.get_by_label("SL-CAI [kl]", exact=True).uncheck()
    assert cards.count() == 3 and "ppo [kl=1] of swept says how do i bake a cake ?" in cards.nth(1).inner_text()
    assert "answers/ppo[kl=1]-swept by ppo/ppo · seed 7 · temperature 1 · kl" in cards.nth(1).inner_text()
    for select in ("Kind", "Run or sweep"):
        room.get_by_label(select, exact=True).select_option("")

    room.get_by_label("Principle", exact=True).select_option(f"kind {ATTACK}")
    assert count.inner_text() == "1 of 4 prompts"
    text = shown.inner_text()
    for part in (
        "sure <em>now</em> .",
        f"no {ATTACK} .",
        "no , sorry .",
        f"harm 1 {ATTACK}",
        f"Round 2 · kind {ATTACK}: which harm ?",
    ):
        assert part in text
    assert "revise/r by import_model/base · seed 3 · temperature 0.7" in text and f"constitution two {ATTACK}" in text
    room.get_by_label("Round", exact=True).select_option("2")
    assert "after round 1" in shown.inner_text().lower() and f"harm 1 {ATTACK}" not in shown.inner_text()


def test_prompts_are_walked_with_the_arrow_keys(opened: Opened) -> None:
    page = opened()
    room = page.locator(".reading")
    room.locator(".prompts input").first.focus()
    before = room.locator(".asked").inner_text()
    page.keyboard.press("ArrowDown")
    chosen = room.locator(".prompts label:has(:checked)").inner_text()
    after = room.locator(".asked").inner_text()
    assert after != before and chosen.endswith(after)


def test_claims_lead_to_their_findings_and_tables_can_be_taken_along(opened: Opened) -> None:
    page = opened()
    page.locator("#claims").get_by_role("link", name="rounds of revision").click()
    assert page.evaluate("location.hash") == "#findings-0"
    assert abs(page.locator("#findings-0 h2").bounding_box()["y"]) < 50
    with page.expect_download() as taken:
        page.get_by_role("link", name="players.csv").click()
    with open(taken.value.path(), newline="") as file:
        assert len(list(csv.DictReader(file))) == (8 + 3) * 8  # players on two axes, and what is measured


def test_every_control_has_a_name_for_screen_readers(opened: Opened) -> None:
    page = opened()
    unnamed = page.evaluate(
        "[...document.querySelectorAll('input, select, button, form, nav, [role=button], [role=group]')]"
        ".filter(e => !(e.ariaLabel || e.labels?.[0]?.textContent.trim() || e.textContent.trim())).length"
    )
    assert unnamed == 0
    assert page.evaluate("[...document.querySelectorAll('h1, h2')].every(e => e.textContent.trim())")


@pytest.mark.parametrize("width", [390, 320, 1200])
def test_nothing_sticks_out_of_a_phone(opened: Opened, width: int) -> None:
    page = opened(width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("[data-axis='0'] [data-plot=frontier]").bounding_box()["width"] <= width


def test_the_dark_is_dark(opened: Opened) -> None:
    for scheme, k in (("light", 0), ("dark", 1)):
        colour = opened(color_scheme=scheme).evaluate("getComputedStyle(document.documentElement).backgroundColor")
        paper = COLOURS["paper"][k]
        assert colour == f"rgb({', '.join(str(int(paper[j : j + 2], 16)) for j in (1, 3, 5))})"


def test_without_javascript_tables_figures_and_transcripts_stay(opened: Opened) -> None:
    page = opened(java_script_enabled=False)
    assert page.locator(".static figure svg").count() == 4 + 1 and page.locator(".static figure svg").first.is_visible()
    assert page.locator(".live").first.is_hidden() and page.locator("form").first.is_hidden()
    assert page.get_by_text("the first round helps").first.is_visible()
    assert page.locator(".players").first.is_visible()
    assert page.locator("details.talk").count() == 4 and page.locator("details.talk").first.is_visible()
