"""Prompts before the replies of other rows, over all batches of an optimizer step: what KTO's KL is read from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from cai_lightning.models.packing import Packed, Route, Tree, pack

if TYPE_CHECKING:
    from cai_lightning.data.unpaired import UnpairedRow


class Mismatched(NamedTuple):
    """A batch's prompts before replies of other rows of its step; one that does not `count` only keeps processes that
    share weights in step.
    """

    packed: Packed
    counts: bool


def mismatched(
    rows: Sequence[UnpairedRow], step: Sequence[Sequence[int]], mine: Sequence[int], *, longest: int, route: Route
) -> tuple[Mismatched, ...]:
    """The mismatched texts of those batches of a step that are `mine`, by their numbers in it; none of a single row.

    Every reply of the step is used once, however the step is cut. A number behind the last batch gives what does not
    count. Texts are cut at `longest` tokens.
    """
    whole = [rows[number] for batch in step for number in batch]
    by = rotation([tuple(map(int, row.prompt)) for row in whole])
    starts = [sum(map(len, step[:number])) for number in range(len(step))]

    def texts(number: int) -> Packed:
        places = range(starts[number], starts[number] + len(step[number]))
        replies = [whole[(place + by) % len(whole)].reply for place in places]
        prompts = [whole[place].prompt for place in places]
        cut = [reply[: longest - len(prompt)] for prompt, reply in zip(prompts, replies, strict=True)]
        return pack([Tree(prompt, (reply,)) for prompt, reply in zip(prompts, cut, strict=True)], route=route)

    last = len(step) - 1
    return tuple(Mismatched(texts(min(number, last)), number <= last) for number in mine) if by else ()


def rotation(prompts: Sequence[tuple[int, ...]]) -> int:
    """By how many rows to turn the replies so that the fewest stand behind their own prompt again; 0 for one row.

    Both replies of a label have one prompt and are often neighbours, so a turn by one would not part them.
    """
    numbers: dict[tuple[int, ...], int] = {}
    asked = [numbers.setdefault(prompt, len(numbers)) for prompt in prompts]  # compared often: numbers are quicker

    def met(by: int) -> int:
        return sum(map(int.__eq__, asked, asked[by:] + asked[:by]))

    turns = range(1, len(prompts))
    return next((by for by in turns if not met(by)), 0) or min(turns, key=met, default=0)
