"""Which revisions of a chain the SL-CAI model learns."""

from cai_lightning.stages.sft import after, every, final, up_to
from cai_lightning.text.records import Revision


def rounds(revisions: list[Revision]) -> list[int]:
    return [revision.round for revision in revisions]


def test_final_is_the_last_round_wherever_it_stands(chain: list[Revision]) -> None:
    assert rounds(final(chain)) == [3]
    assert rounds(final(chain[:2])) == [2]


def test_every_keeps_all_in_their_order(chain: list[Revision]) -> None:
    assert rounds(every(chain)) == [2, 1, 3]


def test_up_to_n_keeps_the_first_rounds(chain: list[Revision]) -> None:
    assert [rounds(up_to(chain, rounds=n)) for n in (0, 1, 2, 9)] == [[], [1], [2, 1], [2, 1, 3]]


def test_after_n_is_the_one_revision_of_that_round_and_none_behind_the_last(chain: list[Revision]) -> None:
    assert [rounds(after(chain, round=n)) for n in (1, 2, 3, 4)] == [[1], [2], [3], []]
