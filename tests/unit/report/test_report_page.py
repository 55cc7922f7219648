from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest

from cai_lightning.report.console import as_text, rating_table
from cai_lightning.report.page import render
from cai_lightning.report.public import Shown
from cai_lightning.report.style import COLOURS, METRICS, SHAPES, label, looks, mark, number, ordered

ATTACK = "<script>alert('x')</script>"


def figure(value: float | None, low: float | None = None, high: float | None = None, n: int = 40) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high, "n": n}


def player(elo: float, rate: float) -> dict[str, Any]:
    rates = {metric: figure(rate, rate / 2, rate * 1.5) for metric in METRICS}
    return rates | {metric: figure(elo, elo - 30, elo + 30) for metric in ("harmless_elo", "helpful_elo")}


def players() -> dict[str, Any]:
    anchor = player(0.0, 0.5) | {metric: figure(0.0) for metric in ("harmless_elo", "helpful_elo")}
    return {"ppo": player(321.4, 0.031), "helpful_only": anchor, "sl_cai": player(-12.0, 0.25)}


def variant() -> dict[str, Any]:
    shown = players()
    single = {"helpful_elo": [0.0, 1.0], "harmless_elo": [300.0, 310.0]}
    ellipse = {"mean": [10.0, 300.0], "covariance": [[200.0, 50.0], [50.0, 100.0]]}
    matrix = {"players": ["helpful_only", "ppo"], "share": [[None, 0.125], [0.875, None]], "n": [[0, 40], [40, 0]]}
    return {
        "players": shown,
        "replicate_values": dict.fromkeys(shown, single),
        "curve": [{"player": "ppo@64", "run": "ppo", "sequences": 64, **player(100.0, 0.1)}],
        "ellipses": {"ppo": ellipse, "sl_cai": ellipse},
        "frontier": {
            "reference": [-400, -400],
            "hypervolume": figure(5e5, 4e5, 6e5),
            "pareto": ["ppo"],
            "non_dominated": dict.fromkeys(shown, 0.5),
        },
        "wins": {"harmless": matrix},
        "ties": {"harmless": 0.375},
        "peaks": {
            "ppo": {
                "harmless": {"at": "ppo@128", "among": ["ppo@128", "ppo@192"], "peaked": True},
                "helpful": {"at": "ppo", "among": ["ppo@192", "ppo"], "peaked": False},
            }
        },
    }


def summary() -> dict[str, Any]:
    return {
        "schema": 1,
        "experiment": f"run {ATTACK}",
        "seeds": [0, 1],
        "seconds": 125.0,
        "peak_rss_mb": 900.0,
        "anchor": "helpful_only",
        "judge": ATTACK,
        "players": players(),
        "feedback": calibration() | {"position_bias": -0.2},
        "reward_model": {"accuracy_harmless": 0.9, "accuracy_helpful": None},
        "frontier": {"hypervolume": figure(5e5, 4e5, 6e5)},
        "stages": {"sft": {"0": {"key": "abcdef0123456789", "seconds": 3.25, "reused": True}}},
        "evals": {ATTACK: {"accuracy": 0.5, "low": 0.4, "high": 0.6, "n": 99}},
        "tables": {},
        "ties": {"harmless": 0.375},
        "warnings": [f"many ties {ATTACK}"],
        "jobs": [job("0", "kl=1"), job("1", ATTACK)],
    }


def job(name: str, override: str) -> dict[str, Any]:
    feedback = {"accuracy": 0.75, "ece": 0.1, "brier": 0.2, "position_bias": 0.0, "n": 9}
    reward = {"accuracy_harmless": 0.625, "accuracy_helpful": None}
    overrides = ["experiment=smoke", override]
    return {"job": name, "overrides": overrides, "seeds": [0], "feedback": feedback, "reward_model": reward}


def transcripts() -> list[dict[str, Any]]:
    step = {"round": 1, "principle": ATTACK, "critique": ATTACK, "revision": ATTACK}
    turns = [{"role": role, "content": ATTACK} for role in ("human", "assistant", "human")]
    talk = {"id": "t0", "kind": ATTACK, "prompt": turns, "reply": ATTACK, "rounds": [step]}
    return [talk | {"answers": [{"player": ATTACK, "text": ATTACK}]}]


def calibration() -> dict[str, Any]:
    bins = [{"p": 0.2, "share": 0.1, "low": 0.05, "high": 0.2, "n": 50}]
    error = {"ece": 0.08, "ece_low": 0.0, "ece_high": 0.0625, "ece_by_chance": 0.0321}
    return {"accuracy": 0.875, **error, "brier": 0.1, "n": 400, "bins": bins}


def page() -> str:
    return render(summary(), tables(), transcripts())


def tables() -> dict[str, Any]:
    return {
        "ratings": variant(),
        "calibration": calibration(),
        "reward_model": {"accuracy_harmless": figure(0.9, 0.85, 0.925)},
        "note": f"not evidence {ATTACK}",
        "public": {"other": Shown("other", {ATTACK: [1, ATTACK]})},
    }


class Outline(HTMLParser):
    """Collects tags and attributes, and checks that every tag is closed by its own end tag."""

    VOID = frozenset({"meta", "br", "use", "path"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.ids += [value for name, value in attrs if name == "id" and value]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.ids += [value for name, value in attrs if name == "id" and value]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_whatever_a_model_wrote_is_escaped() -> None:
    text = page()
    outline = Outline()
    outline.feed(text)
    assert "script" not in outline.seen
    # title, heading, note, warning, judge, evaluation, job, two of a table, kind, four turns, chain and answers
    assert text.count("&lt;script&gt;") >= 16


def test_page_needs_no_network() -> None:
    text = page()
    assert not re.search(r"https?:|//[a-z]|@import|\bsrc=|<link", text)
    assert all(target.startswith("#") for target in re.findall(r'href="([^"]*)"', text))
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", text))


def test_page_is_well_formed_and_ids_are_unique() -> None:
    outline = Outline()
    outline.feed(page())
    assert outline.open == ["html"] or outline.open == []
    assert len(outline.ids) == len(set(outline.ids))
    assert outline.seen.count("svg") == 4


def test_page_is_the_same_twice() -> None:
    assert page() == page()


def test_page_shows_the_figures() -> None:
    text = page()
    for shown in ("+321", "\u221212", "0.875", "500,000", "2 min 5 s", "abcdef012345", "not evidence", "87.5"):
        assert shown in text
    assert "prefers-color-scheme: dark" in text
    assert "reward model, helpful" not in text  # unavailable
    assert "reward model, harmless (0.850 … 0.925)" in text
    assert "Ties among verdicts: harmless 37.5 %. A tie is half a win." in text and "many ties" in text
    assert "calibration error (0.000 … 0.062, by chance 0.032)" in text and "noise raises it" in text
    assert "0.625" in text and "experiment=smoke" not in text  # what all jobs have sets none apart


def test_a_page_says_where_curves_have_their_peaks() -> None:
    rows = [row for row in re.findall(r"<tr>(.*?)</tr>", page()) if "harmless" in row or "helpful" in row]
    cells = [re.findall(r"<t[hd][^>]*>([^<]*)</t[hd]>", row) for row in rows]
    assert ["RL-CAI (PPO)", "harmless", "128", "128, 192", "yes"] in cells
    assert ["RL-CAI (PPO)", "helpful", "end", "192, end", "not shown"] in cells


def test_page_of_a_run_without_ratings_is_still_a_page() -> None:
    empty = {name: None for name in ("seconds", "peak_rss_mb", "judge", "feedback", "reward_model", "frontier")}
    bare = summary() | empty | {"players": {}, "stages": {}, "evals": {}, "jobs": []}
    nothing: dict[str, Any] = {key: {} for key in ("players", "replicate_values", "ellipses", "wins")}
    parts = dict.fromkeys(tables()) | {"ratings": nothing | {"curve": [], "frontier": None}, "public": {}}
    text = render(bare, parts, [])
    assert "<h2>" not in text and "<h1>" in text


@pytest.mark.parametrize(
    ("metric", "value", "shown"),
    [
        ("harmless_elo", 0.4, "0"),
        ("harmless_elo", -0.4, "0"),
        ("helpful_elo", -12.6, "\u221213"),
        ("helpful_elo", 31.0, "+31"),
        ("harmful_rate", 0.0315, "3.1"),
        ("harmful_rate", 1.0, "100.0"),
        ("harmful_rate", None, "–"),
    ],
)
def test_numbers_for_readers(metric: str, value: float | None, shown: str) -> None:
    assert number(metric, value) == shown


def test_players_look_different_and_keep_their_looks() -> None:
    known = ["helpful_only", "rlhf_helpful", "rlhf_hh", "sl_cai", "dpo", "ppo", "ppo_cot"]
    names = [*known, "dpo_hh", "ppo_hh", *map(str, range(30))]
    chosen = looks(names)
    assert len(set(chosen.values())) == len(names)
    assert looks(["ppo", "another"])["ppo"] == chosen["ppo"]
    assert all(looks(["another", name, "more"])[name] == chosen[name] for name in known)
    assert {look.colour for look in chosen.values()} <= set(COLOURS)
    assert len({mark(look) for look in chosen.values()}) == len(names)  # on the page as well
    assert {look.marker for look in chosen.values()} <= {"o", *SHAPES}


def test_twelve_players_have_twelve_colours_in_both_themes() -> None:
    chosen = looks(["helpful_only", "sl_cai", "dpo", "ppo", *map(str, range(8))])
    for theme in (0, 1):
        assert len({COLOURS[look.colour][theme] for look in chosen.values()}) == 12


def test_variants_and_snapshots_keep_the_name_and_place_of_their_kind() -> None:
    assert label("ppo [kl_coef=0.2]") == "RL-CAI (PPO) [kl_coef=0.2]"
    assert label("ppo [kl_coef=0.2]@64") == "RL-CAI (PPO) [kl_coef=0.2]@64"
    assert label("sl_cai@8") == "SL-CAI @8"
    assert label("rlhf_hh [punish_evasion=true]@256") == "HH RLHF [punish_evasion=true]@256"
    assert [label(name) for name in ("rlhf_helpful", "ppo_cot")] == ["Helpful RLHF", "RL-CAI (PPO, CoT)"]
    assert [label(name) for name in ("someone", "a@b [c]", "ppo_hh")] == ["someone", "a@b [c]", "ppo_hh"]
    names = ["other", "ppo_cot", "ppo [a]", "dpo [b]", "dpo [a]", "rlhf_hh", "helpful_only"]
    shown = ["helpful_only", "rlhf_hh", "dpo [b]", "dpo [a]", "ppo [a]", "ppo_cot", "other"]
    assert list(ordered(dict.fromkeys(names))) == shown


def luminance(colour: str) -> float:
    parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", [0, 1])
def test_text_is_readable_by_wcag(theme: int) -> None:
    paper = luminance(COLOURS["paper"][theme])
    for role, needed in (("ink", 7.0), ("muted", 4.5)):
        low, high = sorted((paper, luminance(COLOURS[role][theme])))
        assert (high + 0.05) / (low + 0.05) >= needed


def test_terminal_table_has_every_player_and_figure() -> None:
    text = as_text(rating_table(players(), title="A run", width=120), width=120)
    assert text.index("Helpful only") < text.index("SL-CAI") < text.index("RL-CAI (PPO)")
    assert "+291 … +351" in text and "3.1" in text
    assert max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize("width", [140, 80, 50])
def test_terminal_table_cuts_nothing_in_silence(width: int) -> None:
    variants = {f"ppo [kl_coef={k}, target=all_the_rest]": player(1000.0 * k, 0.5) for k in range(9)}
    text = as_text(rating_table(players() | variants, title="A sweep", width=width), width=width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in re.sub(r"\S … \S", "", text)  # only between the ends of an interval
    squeezed = re.sub(r"\s+", "", text)
    for metric in METRICS.values():
        assert all(word in text for word in metric.split())
    assert "+8030" in text and "kl_coef=8" in squeezed
    assert ("no room for" in text) == (width < 140)
