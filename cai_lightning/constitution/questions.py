"""Which questions are asked about two replies: under which principles, in which orders, after which solved examples.

Every draw is keyed by the seed and names, never by the place of a row in its chunk.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cai_lightning.constitution.principles import ComparisonExample, Constitution, Principle, draw
from cai_lightning.constitution.reasoning import LETTERS, Reasoning
from cai_lightning.constitution.styles import Step, Steps, Style, after, turn
from cai_lightning.text.backends import Prompt, Query
from cai_lightning.text.dialogue import Dialogue, to_text
from cai_lightning.text.records import Comparison

Order = Callable[[int, str], tuple[bool, ...]]
"""(seed, row id) -> the orders to ask in: False has a in slot A, True has it in slot B."""

Pick = Callable[[Sequence[Principle], int, str], tuple[Principle, ...]]
"""(comparing principles, seed, row id) -> those to ask under."""

FewShotDraw = Callable[[str], str]
"""Row id -> the name that principles and letters of the solved examples are drawn by."""


def fixed(_seed: int, _row: str) -> tuple[bool, ...]:
    """One question, a first."""
    return (False,)


def random_order(seed: int, row: str) -> tuple[bool, ...]:
    """One question; a coin keyed by (seed, row) says which reply stands first."""
    return (coin(f"{seed}/{row}"),)


def coin(key: str) -> bool:
    """A fair coin, by the hash of its key."""
    return hashlib.sha256(f"order/{key}".encode()).digest()[0] % 2 == 1


def both_orders(_seed: int, _row: str) -> tuple[bool, ...]:
    """Two questions, one in each order."""
    return (False, True)


def drawn(principles: Sequence[Principle], seed: int, row: str) -> tuple[Principle, ...]:
    """One principle a label: what the paper calls ensembling over principles (section 4.1)."""
    return (draw(principles, seed=seed, row=row, round=0, replacement=True),)


def averaged(principles: Sequence[Principle], seed: int, row: str, *, count: int) -> tuple[Principle, ...]:
    """`count` different principles, whose answers are averaged into one label; not in the paper."""
    if not 1 <= count <= len(principles):
        raise ValueError(f"pick.count: is {count}, but the constitution has {len(principles)} principles that compare")
    return tuple(draw(principles, seed=seed, row=row, round=n, replacement=False) for n in range(count))


def every(principles: Sequence[Principle], _seed: int, _row: str) -> tuple[Principle, ...]:
    """All principles in their order: the label keeps the answer under each, so any of them can be left out later."""
    return tuple(principles)


def per_run(_row: str) -> str:
    """The same solved examples before every question of a run: a prefix that can be shared."""
    return ""


def per_label(row: str) -> str:
    """Principles and letters of the solved examples drawn anew for every label, the same in both orders."""
    return f"{row}/"


@dataclass(frozen=True)
class Letters:
    """The question without reasoning: a str.format template, and solved comparisons as examples.

    The template's last paragraph, such as "The answer is:", is where the letter is due; in a chat the assistant's turn
    begins with it. A template whose last paragraph holds a field has none such, and the letter opens that turn.
    """

    template: str
    few_shots: tuple[ComparisonExample, ...]

    def question(self, dialogue: Dialogue, principle: str, first: str, second: str) -> Steps:
        """The comparison with `first` in slot A, up to where a letter is due."""
        end = self.template.rfind("\n\n")
        split = len(self.template) if end < self.template.rfind("}") else end
        asked = self.template[:split].format(conversation=to_text(dialogue), principle=principle, a=first, b=second)
        opening = self.template[split:].format()
        return (turn("human", asked), turn("assistant", opening)) if opening else (turn("human", asked),)

    def examples(self, principles: Sequence[str], key: str) -> tuple[Steps, ...]:
        """The solved examples, letters balanced to one and drawn by `key`: the paper's files name none."""
        tickets = [hashlib.sha256(f"letter/{key}{i}".encode()).digest() for i in range(len(principles))]
        ranks = [sorted(tickets).index(ticket) for ticket in tickets]
        start = coin(f"{key}few-shots")
        shots = []
        for example, principle, rank in zip(self.few_shots, principles, ranks, strict=True):
            better_is_b = (rank + start) % 2 == 1
            replies = (example.worse, example.better) if better_is_b else (example.better, example.worse)
            steps = self.question(example.dialogue, principle, *replies)
            shots.append((*steps, after(steps, LETTERS[better_is_b])))
        return tuple(shots)


@dataclass(frozen=True)
class Question:
    """Two replies under one principle in one order, as they are asked; `name` keys the noise of thoughts."""

    name: str
    principle: Principle
    swapped: bool
    asked: Steps
    examples: tuple[Steps, ...]
    style: Style

    @property
    def prompt(self) -> Prompt:
        """Up to where the model is to answer, or to think."""
        return self.style(self.examples, self.asked)

    def query(self, *thought: Step) -> Query:
        """The letters where they are due: after the question, or after what was thought about it."""
        return Query(self.style(self.examples, (*self.asked, *thought)), LETTERS)


@dataclass(frozen=True)
class Asking:
    """How comparisons are put to a feedback model: `form` is `Letters`, or `Reasoning` for chain of thought."""

    principles: tuple[Principle, ...]
    form: Letters | Reasoning
    style: Style
    order: Order
    pick: Pick
    few_shot_draw: FewShotDraw
    seed: int

    def questions(self, row: Comparison) -> list[Question]:
        """The questions about one comparison: its principles one after the other, each in all orders."""
        examples = self.examples(self.few_shot_draw(row.id))
        sides = {False: (row.a, row.b), True: (row.b, row.a)}
        return [
            Question(
                f"{row.id}/thought/{number}/{'ba' if swapped else 'ab'}",
                principle,
                swapped,
                self.form.question(row.prompt.dialogue, _words(principle), *sides[swapped]),
                examples,
                self.style,
            )
            for number, principle in enumerate(self.pick(self.principles, self.seed, row.id))
            for swapped in self.order(self.seed, row.id)
        ]

    def letters(self, row: Comparison) -> Query:
        """Where a letter is due in the first question about one comparison, without what may be thought before it."""
        thought = self.form.thought("") if isinstance(self.form, Reasoning) else ()
        return self.questions(row)[0].query(*thought)

    def examples(self, scope: str) -> tuple[Steps, ...]:
        """The solved examples, each under a principle of its own; these and the letters are drawn by `scope`."""
        names = [f"{scope}few-shot/{i}" for i in range(len(self.form.few_shots))]
        shown = [draw(self.principles, seed=self.seed, row=name, round=0, replacement=True) for name in names]
        return self.form.examples([_words(principle) for principle in shown], f"{self.seed}/{scope}")


def asking(
    constitution: Constitution,
    *,
    reasoning: bool,
    style: Style,
    order: Order,
    pick: Pick,
    few_shot_draw: FewShotDraw,
    seed: int,
) -> Asking:
    """How the constitution's comparisons are asked. Raises ValueError where it is to reason and does not know how."""
    form: Letters | Reasoning | None = Letters(constitution.comparison_template, constitution.comparison_few_shots)
    if reasoning:
        form = constitution.reasoning
    if form is None:
        raise ValueError(f"constitution {constitution.name}: has no `reasoning`; give it one or no reasoning_samples")
    return Asking(constitution.comparing, form, style, order, pick, few_shot_draw, seed)


def _words(principle: Principle) -> str:
    return principle.comparison or ""
