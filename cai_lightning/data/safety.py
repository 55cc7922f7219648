"""Sets of safe prompts that look unsafe, and of unsafe ones beside them: XSTest (2308.01263), OR-Bench and the like."""

from __future__ import annotations

from collections.abc import Mapping

from cai_lightning.data.reading import Fields, Read, Table, collected, text_of
from cai_lightning.text.dialogue import human
from cai_lightning.text.records import Prompt, fingerprint, prompt_id


def safety_prompts(
    *,
    table: Table,
    name: str,
    prompt: str,
    label: str | None,
    kinds: Mapping[str, str],
    category: str | None,
    cluster: str | None,
    skip: int,
    limit: int | None,
    skip_bad: bool,
) -> Read[Prompt]:
    """The distinct prompts of a table, one human turn each, in its order.

    `prompt`, `label`, `category` and `cluster` name columns. `kinds` maps what stands under `label` to a kind of
    prompt: safe look-alikes are to be "borderline", unsafe prompts "red_team"; without a label column it has one entry,
    the kind of all. A row's source is `name`, with "/" and its category where there is one. Rows with equal text under
    `cluster` (a safe prompt and its unsafe contrast, say) are resampled together; without it each for itself. Raises
    ValueError with file:line and cause.
    """
    if label is None and len(kinds) != 1:
        raise ValueError(f"{name}: without a label column `kinds` must have one entry, has {len(kinds)}")

    def made(row: Fields) -> Prompt:
        text = text_of(row, prompt).strip()
        if not text:
            raise ValueError(f"{prompt!r} is empty")
        dialogue = human(text)
        id = prompt_id(dialogue)
        return Prompt(
            id=id,
            dialogue=dialogue,
            source=f"{name}/{text_of(row, category)}" if category else name,
            kind=_kind(row, label, kinds),
            cluster=fingerprint(f"{name}\0{text_of(row, cluster)}") if cluster else id,
        )

    return collected(table, made, skip=skip, limit=limit, skip_bad=skip_bad)


def _kind(row: Fields, label: str | None, kinds: Mapping[str, str]) -> str:
    if label is None:
        return next(iter(kinds.values()))
    value = text_of(row, label)
    if value not in kinds:
        raise ValueError(f"{label!r} is {value!r:.60}, which `kinds` does not name; it names {', '.join(kinds)}")
    return kinds[value]
