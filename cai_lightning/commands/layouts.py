"""Rows in the columns that other libraries read: TRL's, those of Hugging Face's CAI data sets, ShareGPT's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from cai_lightning.commands.source_rows import asked, sides
from cai_lightning.constitution.principles import Constitution, Principle
from cai_lightning.constitution.styles import solved
from cai_lightning.text.dialogue import Dialogue, Message
from cai_lightning.text.records import Answer, Label, Prompt, Response, Revision

Columns = dict[str, Any]
Principles = Mapping[str, Principle]
_ROLES = {"system": "system", "human": "user", "assistant": "assistant"}
_SPEAKERS = {"system": "system", "human": "human", "assistant": "gpt"}
_FACTS = ("id", "source", "kind", "principle", "round", "model", "weight")


def trl(rows: Sequence[Any], principles: Principles) -> Iterator[Columns]:
    """Labels as prompt, chosen, rejected and p_chosen; replies and last revisions as messages; prompts as prompt."""
    del principles
    for row in _last(rows):
        facts = _facts(row)
        if isinstance(row, Label):
            chosen, rejected = sides(row).values()
            pair = {"chosen": _messages(_reply(chosen)), "rejected": _messages(_reply(rejected))}
            yield {"prompt": _messages(asked(row)), **pair, "p_chosen": max(row.p_a, 1 - row.p_a), **facts}
        elif isinstance(row, Response | Answer | Revision):
            yield {"messages": _messages((*asked(row), *_reply(row.text))), **facts}
        elif isinstance(row, Prompt):
            yield {"prompt": _messages(asked(row)), **facts}
        else:
            raise _unfit(row, "trl", "prompts, replies, revisions and labels fit (comparisons once they are labelled)")


def hf_cai(rows: Sequence[Any], principles: Principles) -> Iterator[Columns]:
    """A row a chain of revisions, in the columns of Hugging Face's cai-conversation sets.

    init_response is the first reply and revision_response the last revision; critic_* and revision_prompt are those of
    the last round, and `rounds` has all of them. The prompt columns hold the last human words, as theirs do; messages,
    chosen and rejected the whole dialogue.
    """
    for chain in _chains(rows):
        first, last = chain[0], chain[-1]
        dialogue = asked(last)
        steps = [_step(row, principles) for row in chain]
        yield {
            "init_prompt": dialogue[-1].content,
            "init_response": first.previous,
            **{name: steps[-1][name] for name in ("critic_prompt", "critic_response", "revision_prompt")},
            "revision_response": last.text,
            "prompt": dialogue[-1].content,
            "messages": _messages((*dialogue, *_reply(last.text))),
            "chosen": _messages((*dialogue, *_reply(last.text))),
            "rejected": _messages((*dialogue, *_reply(first.previous))),
            "rounds": steps,
            **_facts(last),
        }


def sharegpt(rows: Sequence[Any], principles: Principles) -> Iterator[Columns]:
    """`conversations` of {from, value}; labels with chosen and rejected beside, as LLaMA-Factory reads them."""
    del principles
    for row in _last(rows):
        facts = _facts(row)
        if isinstance(row, Label):
            chosen, rejected = (_spoken(_reply(text))[0] for text in sides(row).values())
            yield {"conversations": _spoken(asked(row)), "chosen": chosen, "rejected": rejected, **facts}
        elif isinstance(row, Response | Answer | Revision):
            yield {"conversations": _spoken((*asked(row), *_reply(row.text))), **facts}
        elif isinstance(row, Prompt):
            yield {"conversations": _spoken(asked(row)), **facts}
        else:
            raise _unfit(row, "sharegpt", "prompts, replies, revisions and labels fit")


LAYOUTS: dict[str, Callable[[Sequence[Any], Principles], Iterator[Columns]]] = {
    "trl": trl,
    "hf_cai": hf_cai,
    "sharegpt": sharegpt,
}


def constitution_json(constitution: Constitution) -> dict[str, Any]:
    """The revising principles and examples in the shape of Hugging Face's recipe."""
    return {
        "constitutions": [{"critic": one.critique, "revision": one.revision} for one in constitution.revising],
        "system_chat": [
            [{"role": _ROLES[step.role or "human"], "content": step.words} for step in solved(text)]
            for text in constitution.critique_few_shots
        ],
    }


def _chains(rows: Sequence[Any]) -> list[list[Revision]]:
    """The revisions by chain, rounds in order. Raises ValueError on other rows."""
    found: dict[str, list[Revision]] = {}
    for row in rows:
        if not isinstance(row, Revision):
            raise _unfit(row, "hf_cai", "revisions fit")
        found.setdefault(row.id.rpartition(".r")[0] or row.id, []).append(row)
    return [sorted(chain, key=lambda row: row.round) for chain in found.values()]


def _last(rows: Sequence[Any]) -> Sequence[Any]:
    """The rows; of revisions the last of each chain."""
    return [chain[-1] for chain in _chains(rows)] if rows and isinstance(rows[0], Revision) else rows


def _step(row: Revision, principles: Principles) -> dict[str, str]:
    """A round's requests and texts; where the principle's words are not at hand, its id."""
    principle = principles.get(row.principle_hash)
    return {
        "principle": row.principle,
        "previous": row.previous,
        "critic_prompt": (principle.critique if principle else None) or row.principle,
        "critic_response": row.critique or "",
        "revision_prompt": (principle.revision if principle else None) or row.principle,
        "revision_response": row.text,
    }


def _facts(row: Any) -> Columns:
    values = {name: getattr(row, name, None) or getattr(getattr(row, "prompt", None), name, None) for name in _FACTS}
    return {name: value for name, value in values.items() if value is not None}


def _reply(text: str) -> Dialogue:
    return (Message("assistant", text),)


def _messages(dialogue: Dialogue) -> list[dict[str, str]]:
    return [{"role": _ROLES[turn.role], "content": turn.content} for turn in dialogue]


def _spoken(dialogue: Dialogue) -> list[dict[str, str]]:
    return [{"from": _SPEAKERS[turn.role], "value": turn.content} for turn in dialogue]


def _unfit(row: Any, format: str, known: str) -> ValueError:
    return ValueError(f"{type(row).__name__} rows do not fit the format {format}: {known}")
