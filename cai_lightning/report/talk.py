"""Transcripts as HTML: prompt, reply, each critique and revision under its principle, the players side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from cai_lightning.report.style import label, looks, mark, ordered


def conversations(transcripts: Sequence[Mapping[str, Any]]) -> str:
    """One foldable block a transcript (layout: `transcripts.choose`), the first one open."""
    return "".join(_conversation(one, opened=not index) for index, one in enumerate(transcripts))


def _conversation(one: Mapping[str, Any], *, opened: bool) -> str:
    kind = escape(one["kind"].replace("_", "-"))
    title = f'<summary><span class="kind">{kind}</span>{escape(one["prompt"][-1]["content"])}</summary>'
    earlier = "".join(step(turn["role"], turn["content"], "turn") for turn in one["prompt"][:-1])
    flag = " open" if opened else ""
    return f'<details class="talk"{flag}>{title}{earlier}{_chain(one)}{_answers(one["answers"])}</details>\n'


def _chain(one: Mapping[str, Any]) -> str:
    if one["reply"] is None:
        return ""
    steps = [step("reply", one["reply"], "reply")]
    for turn in one["rounds"]:
        steps.append(f'<p class="principle">Round {turn["round"]} · {escape(turn["principle"])}</p>')
        if turn["critique"] is not None:
            steps.append(step("critique", turn["critique"], "critique"))
        steps.append(step("revision", turn["revision"], "revision"))
    return f'<div class="chain">{"".join(steps)}</div>'


def step(name: str, text: str, style: str) -> str:
    """One turn under its name, both escaped; `style` is a class of page.css."""
    return f'<div class="step {style}"><h4>{escape(name)}</h4><p>{escape(text)}</p></div>'


def _answers(answers: Sequence[Mapping[str, str]]) -> str:
    texts = ordered({answer["player"]: answer["text"] for answer in answers})
    look = looks(list(texts))
    columns = "".join(
        f'<div class="answer" style="--player:var(--{look[name].colour})">'
        f"<h4>{mark(look[name])}{escape(label(name))}</h4><p>{escape(text)}</p></div>"
        for name, text in texts.items()
    )
    return f'<div class="answers">{columns}</div>' if columns else ""
