"""Simulated humans: labelled comparisons of replies, right but for the stated share of flips."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from cai_lightning.microworld import replies
from cai_lightning.microworld.noise import Reviser
from cai_lightning.microworld.oracle import Truth, assess
from cai_lightning.microworld.prompts import SOURCE, to_prompt
from cai_lightning.microworld.revisions import draft_at_some_round
from cai_lightning.microworld.world import Benign, Kind, Split, draw_benign, draw_red_team
from cai_lightning.text.labels import human_label
from cai_lightning.text.records import Comparison, Label, Prompt, Rating

MORE_WRONG = (1, 2, 3)


def helpful(comparisons: Sequence[Comparison], *, flip: float, sharpness: float, seed: int) -> list[Label]:
    """Labels with p_a = sigmoid(sharpness x difference in the share of right slots); a share `flip` is turned round.

    Raises ValueError on a comparison for a red-team prompt: no reply to it is helpful.
    """
    rng = random.Random(f"helpful {seed}")
    labels = []
    for row in comparisons:
        a, b = (assess(row.prompt.dialogue, reply).slots_right for reply in (row.a, row.b))
        if a is None or b is None:
            raise ValueError(f"comparison {row.id}: {row.prompt.kind} prompts have no helpfulness labels; drop it")
        p_a = 1 / (1 + math.exp(-sharpness * (a - b)))
        labels.append(_label(f"{row.id}:helpful", row.prompt, row.a, row.b, _turn(rng, p_a, flip), "helpful"))
    return labels


def harmless(comparisons: Sequence[Comparison], *, punish_evasion: bool, flip: float, seed: int) -> list[Label]:
    """Labels 0 or 1 for the less harmful reply, a share `flip` turned round; comparisons without a preference drop out.

    Of two replies with equal harm the evasive one loses when evasion is punished and wins when it is not: to an
    annotator who looks for harm only, a curt apology is the safest reply.
    """
    rng = random.Random(f"harmless {seed}")
    labels = []
    for row in comparisons:
        a, b = (_badness(assess(row.prompt.dialogue, reply), punish_evasion) for reply in (row.a, row.b))
        if a != b:
            p_a = _turn(rng, float(a < b), flip)
            labels.append(_label(f"{row.id}:harmless", row.prompt, row.a, row.b, p_a, "harmless"))
    return labels


def _badness(truth: Truth, punish_evasion: bool) -> tuple[bool, int, bool]:
    return truth.garbage, truth.harm_elements, truth.evasive == punish_evasion


def fact_contrasts(
    *, count: int, better_wrong: Sequence[int], flip: float, seed: int, split: Split, borderline_share: float
) -> list[Label]:
    """`count` labels for answers against answers with one to three wrong facts more.

    The better answer has as many wrong facts as one of `better_wrong`, each as likely.
    """
    rng = random.Random(f"facts {split} {seed}")
    labels = []
    for i in range(count):
        request = _harmless_request(rng, split, borderline_share)
        wrong = rng.choice(better_wrong)
        better = replies.answer_with_wrong(rng, request, wrong)
        worse = replies.answer_with_wrong(rng, request, wrong + rng.choice(MORE_WRONG))
        labels.append(_contrast(rng, f"facts:{split}:{seed}:{i}", request, better, worse, flip, "facts"))
    return labels


def refusal_contrasts(*, count: int, seed: int, split: Split, borderline_share: float) -> list[Label]:
    """`count` labels for right answers against needless refusals, evasive or with an invented reason."""
    rng = random.Random(f"refusals {split} {seed}")
    labels = []
    for i in range(count):
        request = _harmless_request(rng, split, borderline_share)
        right, refusal = replies.answer(request, {}), replies.benign_refusal(rng, request)
        labels.append(_contrast(rng, f"refusals:{split}:{seed}:{i}", request, right, refusal, 0.0, "refusals"))
    return labels


def reply_contrasts(
    *, count: int, evasive_share: float, revision: Reviser, seed: int, split: Split
) -> list[Comparison]:
    """`count` comparisons of different red-team replies at any stage of revision; a share has an apology as a reply."""
    rng = random.Random(f"replies {split} {seed}")
    rows: list[Comparison] = []
    while len(rows) < count:
        request = draw_red_team(rng, part=split)
        a, b = (draft_at_some_round(rng, request, revision).text for _ in range(2))
        if rng.random() < evasive_share:
            a, b = rng.sample([replies.EVASION, b], 2)
        if a != b:
            rows.append(
                Comparison(
                    id=f"replies:{split}:{seed}:{len(rows)}",
                    prompt=to_prompt(rng, request),
                    a=a,
                    b=b,
                    source=SOURCE,
                    model="",
                    temperature=0.0,
                    seed=seed,
                )
            )
    return rows


def harm_ratings(
    *, count: int, worst: int, scatter: float, evasive_share: float, revision: Reviser, seed: int, split: Split
) -> list[Rating]:
    """`count` ratings of red-team replies at any stage of revision; a share are apologies.

    A reply is rated by its harm elements, 0 to `worst` of them: P(desirable) is 1 less their share of `worst`. With
    probability `scatter` the annotator says one more or one fewer, as likely, within these ends.
    """
    rng = random.Random(f"ratings {split} {seed}")
    rows = []
    for i in range(count):
        request = draw_red_team(rng, part=split)
        prompt, text = to_prompt(rng, request), draft_at_some_round(rng, request, revision).text
        text = replies.EVASION if rng.random() < evasive_share else text
        rating = min(assess(prompt.dialogue, text).harm_elements, worst)
        if rng.random() < scatter:
            rating = min(max(rating + rng.choice((-1, 1)), 0), worst)
        name = f"ratings:{split}:{seed}:{i}"
        rows.append(
            Rating(id=name, prompt=prompt, text=text, p_desirable=1 - rating / worst, source=SOURCE, weight=1.0)
        )
    return rows


def _harmless_request(rng: random.Random, part: Split, borderline_share: float) -> Benign:
    kind: Kind = "borderline" if rng.random() < borderline_share else "benign"
    return draw_benign(rng, kind=kind, part=part)


def _contrast(
    rng: random.Random, name: str, request: Benign, better: str, worse: str, flip: float, source: str
) -> Label:
    """The label of a better against a worse reply, in random order."""
    swapped = rng.random() < 0.5
    a, b = (worse, better) if swapped else (better, worse)
    return _label(name, to_prompt(rng, request), a, b, _turn(rng, float(not swapped), flip), source)


def _turn(rng: random.Random, p_a: float, flip: float) -> float:
    return 1 - p_a if rng.random() < flip else p_a


def _label(name: str, prompt: Prompt, a: str, b: str, p_a: float, source: str) -> Label:
    return human_label(id=name, prompt=prompt, a=a, b=b, p_a=p_a, source=source, weight=1.0, margin=0.0)
