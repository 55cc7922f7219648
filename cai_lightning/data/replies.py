"""Comparisons as other readers' material: replies without what was asked, and the texts that a base model learns."""

from __future__ import annotations

from dataclasses import replace

from cai_lightning.data.reading import Read
from cai_lightning.data.wrappers import Reading, as_read
from cai_lightning.text.dialogue import prompt_text, reply_text
from cai_lightning.text.records import Label


def replies_alone(*, labels: Reading[Label]) -> Read[Label]:
    """The labels with empty dialogues, for a model that is to judge replies by themselves, as a bag of words does.

    Ids and clusters stay those of the prompts.
    """
    found = as_read(labels)
    return replace(found, rows=[replace(row, prompt=replace(row.prompt, dialogue=())) for row in found.rows])


def reply_texts(*, labels: Reading[Label]) -> Read[str]:
    """Two texts a label, none of which says which reply is better: the dialogue with a, and b alone behind its marker.

    So a prompt is learned once a label, not twice.
    """
    found = as_read(labels)
    texts = [
        prompt_text(dialogue) + reply_text(reply)
        for row in found.rows
        for dialogue, reply in ((row.prompt.dialogue, row.a), ((), row.b))
    ]
    return Read(texts, found.dropped, found.skipped)
