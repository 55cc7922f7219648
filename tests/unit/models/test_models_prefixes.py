from __future__ import annotations

import random
from itertools import accumulate

from cai_lightning.models.prefixes import Group, by_prefix


def test_rows_that_begin_alike_share_their_beginning():
    rows = [[1, 2, 3, 4], [9, 9], [1, 2, 3, 5], [1, 2, 3, 6, 7]]
    assert by_prefix(rows, least=1, multiple=1) == [Group((0, 2, 3), 3), Group((1,), 0)]
    assert by_prefix(rows[:1], least=1, multiple=1) == [Group((0,), 0)]
    assert by_prefix([], least=1, multiple=1) == []


def test_what_is_shared_is_long_enough_or_nothing():
    rows = [[1, 2, 3, 4], [1, 2, 3, 5]]
    assert by_prefix(rows, least=3, multiple=1) == [Group((0, 1), 3)]
    assert by_prefix(rows, least=4, multiple=1) == [Group((0, 1), 0)]


def test_what_is_shared_is_cut_to_a_multiple():
    rows = [[*range(20), 50], [*range(20), 60]]
    assert by_prefix(rows, least=16, multiple=8) == [Group((0, 1), 16)]
    assert by_prefix(rows, least=16, multiple=20) == [Group((0, 1), 20)]
    assert by_prefix(rows, least=16, multiple=21) == [Group((0, 1), 0)]


def test_each_row_keeps_an_id_of_its_own():
    assert by_prefix([[1, 2, 3], [1, 2, 3]], least=1, multiple=1) == [Group((0, 1), 2)]
    assert by_prefix([[1, 2, 3], [1, 2, 3, 4, 5]], least=1, multiple=1) == [Group((0, 1), 2)]
    assert by_prefix([[1], [1], [1]], least=1, multiple=1) == [Group((0, 1, 2), 0)]


def test_deeper_beginnings_are_split_where_that_saves_more():
    # two conversations of 6 behind 2 common ids, two ends each: 2 x 6 ids saved apart, 3 x 2 together
    first, second = [1, 1, 2, 2, 2, 2], [1, 1, 3, 3, 3, 3]
    rows = [[*first, 7], [*second, 7], [*first, 8], [*second, 8]]
    assert by_prefix(rows, least=1, multiple=1) == [Group((0, 2), 6), Group((1, 3), 6)]
    # where conversations are short beside what all share, together: 3 x 4 against 2 x 5
    rows = [[1, 1, 1, 1, turn, end] for turn, end in ((2, 7), (3, 7), (2, 8), (3, 8))]
    assert by_prefix(rows, least=1, multiple=1) == [Group((0, 2, 1, 3), 4)]


def test_groups_and_their_rows_are_in_the_order_of_their_ids_and_those_alone_come_last():
    rows = [[5, 5, 2], [4], [1, 1, 9], [5, 5, 1], [3], [1, 1, 8]]
    assert by_prefix(rows, least=2, multiple=1) == [Group((5, 2), 2), Group((3, 0), 2), Group((4, 1), 0)]


def test_equal_rows_go_by_number():
    assert by_prefix([[2, 2], [1, 1], [2, 2], [1, 1]], least=1, multiple=1) == [Group((1, 3), 1), Group((0, 2), 1)]


def test_tuples_and_lists_are_alike():
    assert by_prefix([(1, 2, 3), (1, 2, 4)], least=1, multiple=1) == by_prefix(
        [[1, 2, 3], [1, 2, 4]], least=1, multiple=1
    )


def shared(rows, least, multiple):
    """What all rows may share, counted id by id."""
    room = min(map(len, rows)) - 1
    same = [len({row[place] for row in rows}) == 1 for place in range(room)]
    alike = sum(accumulate(same, lambda a, b: a and b))
    return alike // multiple * multiple if alike >= least else 0


def most_saved(rows, least, multiple):
    """The best of all ways to cut the sorted rows into neighbours."""
    rows = sorted(rows)
    best = [0] * (len(rows) + 1)
    for past in range(1, len(rows) + 1):
        for first in range(past):
            group = (past - first - 1) * (shared(rows[first:past], least, multiple) if past - first > 1 else 0)
            best[past] = max(best[past], best[first] + group)
    return best[-1]


def saved(groups):
    return sum((len(group.rows) - 1) * group.length for group in groups)


def check(rows, groups, least, multiple):
    assert sorted(row for group in groups for row in group.rows) == [*range(len(rows))]
    assert [group.length for group in groups].count(0) <= 1 and all(group.length for group in groups[:-1])
    for group in groups:
        order = [(list(rows[row]), row) for row in group.rows]
        assert order == sorted(order)
        if group.length:
            assert len(group.rows) > 1 and group.length % multiple == 0
            assert group.length <= shared([rows[row] for row in group.rows], least, 1)
    firsts = [rows[group.rows[0]] for group in groups if group.length]
    assert firsts == sorted(firsts)


def test_random_rows_read_few_tokens_more_than_they_must():
    """Neighbours are joined greedily, so ties may cost something: 4 % of what could be saved over rows of two ids."""
    rng = random.Random(0)
    found = possible = 0
    for _ in range(1000):
        least, multiple = rng.randint(1, 4), rng.choice([1, 1, 2, 3])
        rows = [[rng.choice([0, 0, 0, 1]) for _ in range(rng.randint(1, 9))] for _ in range(rng.randint(1, 8))]
        groups = by_prefix(rows, least=least, multiple=multiple)
        check(rows, groups, least, multiple)
        assert saved(groups) <= most_saved(rows, least, multiple)
        found, possible = found + saved(groups), possible + most_saved(rows, least, multiple)
    assert found > 0.95 * possible


def test_rows_that_fork_as_questions_do_read_as_few_tokens_as_they_can():
    """A common beginning, some conversations of one length, each with the same ends behind it."""
    rng = random.Random(1)
    for _ in range(500):
        least = rng.randint(1, 3)
        base, ends = [9] * rng.randint(0, 5), rng.randint(2, 3)
        length = rng.randint(0, 4)
        talks = [[10 + number, *[7] * length] for number in range(rng.randint(1, 3))]
        rows = [[*base, *talk, 20 + end, *[8] * rng.randint(0, 3)] for end in range(ends) for talk in talks]
        groups = by_prefix(rows, least=least, multiple=1)
        check(rows, groups, least, 1)
        assert saved(groups) == most_saved(rows, least, 1)
