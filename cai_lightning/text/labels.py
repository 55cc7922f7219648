"""Labels of people, real or simulated."""

from __future__ import annotations

from cai_lightning.text.records import Label, Prompt


def human_label(
    *, id: str, prompt: Prompt, a: str, b: str, p_a: float, source: str, weight: float, margin: float
) -> Label:
    """A label whose fields of an AI label are null: principle, feedback model and its log-odds."""
    return Label(
        id=id,
        prompt=prompt,
        a=a,
        b=b,
        p_a=p_a,
        logit_ab=None,
        logit_ba=None,
        principle=None,
        principle_hash=None,
        model=None,
        source=source,
        weight=weight,
        margin=margin,
    )
