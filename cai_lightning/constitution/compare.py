"""Two constitutions side by side: a hash of what each says, and every text in which they differ."""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from cai_lightning.constitution.lint import block_of, texts
from cai_lightning.constitution.principles import Constitution
from cai_lightning.text.records import fingerprint


@dataclass(frozen=True)
class Difference:
    """A text that differs, by its key; null on the side that lacks it."""

    key: str
    before: str | None
    after: str | None


def content_hash(built: Constitution) -> str:
    """The fingerprint of all that a constitution says, its name apart.

    The order of its principles does not matter and their ids do, as in `draw`; few-shots count in their order. So two
    constitutions with one hash ask the same of every row.
    """
    said = {**dataclasses.asdict(built), "name": None}
    said["principles"] = sorted(said["principles"], key=lambda principle: principle["id"])
    return fingerprint(json.dumps(said, sort_keys=True))


def differences(before: Constitution, after: Constitution) -> list[Difference]:
    """What was taken out, changed and added, in this order of keys: principles by id, then few-shots and template."""
    old, new = dict(_texts(before)), dict(_texts(after))
    keys = dict.fromkeys((*old, *new))
    return [Difference(key, old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key)]


def word_diff(before: str, after: str) -> list[tuple[str, str]]:
    """Runs of text with "=", "-" or "+": what both share, what only `before` has, what only `after` has."""
    old, new = re.findall(r"\S+|\s+", before), re.findall(r"\S+|\s+", after)
    runs = []
    for _, i, j, k, m in difflib.SequenceMatcher(a=old, b=new, autojunk=False).get_opcodes():
        if old[i:j] == new[k:m]:
            runs.append(("=", "".join(old[i:j])))
        else:
            runs += [(sign, "".join(words)) for sign, words in (("-", old[i:j]), ("+", new[k:m])) if words]
    return runs


def _texts(built: Constitution) -> Iterator[tuple[str, str]]:
    block = block_of(built)
    named = {one["id"]: {kind: words for kind, words in one.items() if kind != "id"} for one in block["principles"]}
    return texts({**block, "name": None, "principles": named})
