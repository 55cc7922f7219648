"""The transcript browser: its controls for `transcripts.js`, and a few transcripts for pages without JavaScript."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from cai_lightning.report.plots import choices
from cai_lightning.report.style import Look, label, mark, ordered
from cai_lightning.report.talk import conversations

STILL = 10  # transcripts without JavaScript


def reading_room(texts: Mapping[str, Any], runs: Sequence[str], look: Mapping[str, Look]) -> str:
    """Controls, list and page of one transcript; nothing where there are none. `texts` is what `browse` returns."""
    shown = texts["prompts"]
    if not shown:
        return ""
    said = (
        f"{len(shown):,} of {texts['total']:,} prompts, chosen by the hash of the prompt, never by outcome; "
        "snapshots are left out."
    )
    still = conversations([_still(texts, one) for one in shown[:STILL]])
    more = f" Without JavaScript the first {min(STILL, len(shown))} stand here." if len(shown) > STILL else ""
    return (
        f'<p class="caption" id="reading-note">{escape(said)}</p>'
        f'<div class="static">{still}<p class="caption">{escape(more)}</p></div>'
        f'<div class="live reading" hidden>{_controls(texts, runs, look)}'
        '<p class="count"><output data-count aria-live="polite"></output></p>'
        '<div class="room"><div class="prompts" data-prompts role="radiogroup" aria-label="Prompts"></div>'
        '<article class="open" data-open tabindex="-1" aria-label="The chosen prompt"></article></div></div>'
    )


def _controls(texts: Mapping[str, Any], runs: Sequence[str], look: Mapping[str, Look]) -> str:
    shown = texts["prompts"]
    kinds = dict.fromkeys(one["kind"] for one in shown)
    rounds = [step for one in shown for chain in one["chains"] for step in chain["rounds"]]
    numbers = sorted({step["round"] for step in rounds})
    principles = sorted({step["principle"] for step in rounds})
    players = ordered(dict.fromkeys(name for one in texts["makers"] for name in one["players"]))
    named = [(name, f"{mark(look[name])}{escape(label(name))}") for name in players]
    selects = (
        _select("kind", "Kind", "all kinds", [(kind, kind.replace("_", "-")) for kind in kinds])
        + _select("principle", "Principle", "all principles", [(one, one) for one in principles])
        + _select("round", "Round", "all rounds", [(str(number), f"round {number}") for number in numbers])
        + _select(
            "run", "Run or sweep", "all", [(str(k), name) for k, name in enumerate(runs)] if len(runs) > 1 else []
        )
    )
    search = '<input type="search" name="search" aria-label="Search" placeholder="words of prompt, reply, critique">'
    return (
        '<form class="controls" data-reading aria-label="Which transcripts are shown"><div class="fields">'
        f'<label class="field">Search{search}</label>{selects}</div>'
        f"{choices('Players', 'player', named) if named else ''}</form>"
    )


def _select(name: str, title: str, every: str, options: Iterable[tuple[str, str]]) -> str:
    shown = "".join(f'<option value="{escape(value)}">{escape(words)}</option>' for value, words in options)
    if not shown:
        return ""
    inner = f'<option value="">{every}</option>{shown}'
    return f'<label class="field">{title}<select name="{name}" aria-label="{title}">{inner}</select></label>'


def _still(texts: Mapping[str, Any], one: Mapping[str, Any]) -> dict[str, Any]:
    """A transcript as `talk.conversations` shows it: the first chain, and a reply a player."""
    chain = one["chains"][0] if one["chains"] else {"reply": None, "rounds": []}
    first: dict[str, str] = {}
    for reply in one["replies"]:
        for player in texts["makers"][reply["maker"]]["players"]:
            first.setdefault(player, reply["text"])
    return {
        "kind": one["kind"],
        "prompt": [{"role": role, "content": words} for role, words in one["turns"]],
        "reply": chain["reply"],
        "rounds": [{**step, "revision": step["text"]} for step in chain["rounds"]],
        "answers": [{"player": player, "text": words} for player, words in first.items()],
    }
