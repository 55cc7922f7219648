from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from model_oracles import whole_texts

from cai_lightning.models.packing import Segment, Tree, owners, pack, places, texts


def lists(packed):
    return packed.ids.tolist(), packed.positions.tolist(), packed.previous.tolist(), packed.branches.tolist()


def test_a_text_alone():
    packed = pack([Tree([], [[4, 5, 6]])])
    assert lists(packed) == ([4, 5, 6], [0, 1, 2], [-1, 0, 1], [[0, 3]])
    assert packed.segments == (Segment(0, 3, 0, 0),)


def test_a_prompt_with_one_branch_is_one_segment():
    packed = pack([Tree([4, 5], [[6]])])
    assert lists(packed) == ([4, 5, 6], [0, 1, 2], [-1, 0, 1], [[2, 3]])
    assert packed.segments == (Segment(0, 3, 0, 0),)


def test_further_branches_go_on_from_the_prompts_end():
    packed = pack([Tree([10, 11, 12], [[13, 14], [15], [16, 17, 18]])])
    assert lists(packed) == (
        [10, 11, 12, 13, 14, 15, 16, 17, 18],
        [0, 1, 2, 3, 4, 3, 3, 4, 5],
        [-1, 0, 1, 2, 3, 2, 2, 6, 7],
        [[3, 5], [5, 6], [6, 9]],
    )
    assert packed.segments == (Segment(0, 5, 0, 0), Segment(5, 6, 0, 3), Segment(6, 9, 0, 3))


def test_branches_without_a_prompt_are_texts_of_their_own():
    packed = pack([Tree([], [[4, 5], [6], [7, 8]])])
    assert lists(packed) == ([4, 5, 6, 7, 8], [0, 1, 0, 0, 1], [-1, 0, -1, -1, 3], [[0, 2], [2, 3], [3, 5]])
    assert packed.segments == (Segment(0, 2, 0, 0), Segment(2, 3, 0, 0), Segment(3, 5, 0, 0))


def test_several_trees():
    """Prompts with their first branches stand before the other branches, both kinds by length."""
    packed = pack([Tree([7, 8], [[9]]), Tree([3], [[4], [5, 6], [10]]), Tree([], [[1, 2, 11, 12]])])
    assert lists(packed) == (
        [3, 4, 7, 8, 9, 1, 2, 11, 12, 10, 5, 6],
        [0, 1, 0, 1, 2, 0, 1, 2, 3, 1, 1, 2],
        [-1, 0, -1, 2, 3, -1, 5, 6, 7, 0, 0, 10],
        [[4, 5], [1, 2], [10, 12], [9, 10], [5, 9]],
    )
    spans = [(0, 2, 0, 0), (2, 5, 2, 2), (5, 9, 5, 5), (9, 10, 0, 1), (10, 12, 0, 1)]
    assert packed.segments == tuple(Segment(*span) for span in spans)
    assert places(packed).tolist() == [4, 1, 10, 11, 9, 5, 6, 7, 8]
    assert owners(packed).tolist() == [0, 1, 2, 2, 3, 4, 4, 4, 4]
    assert [text.tolist() for text in texts(packed)] == [[2, 3, 4], [0, 1], [0, 10, 11], [0, 9], [5, 6, 7, 8]]


def test_other_branches_stand_by_length_too_and_beside_those_of_their_tree():
    packed = pack([Tree([1], [[2], [3, 4], [8]]), Tree([5], [[6], [7]])])
    assert packed.ids.tolist() == [1, 2, 5, 6, 8, 3, 4, 7]
    assert packed.segments[2:] == (Segment(4, 5, 0, 1), Segment(5, 7, 0, 1), Segment(7, 8, 2, 3))
    packed = pack([Tree([1], [[2], [3, 4]]), Tree([5], [[6], [7]])])
    assert packed.ids.tolist() == [1, 2, 5, 6, 7, 3, 4]
    assert packed.segments[2:] == (Segment(4, 5, 2, 3), Segment(5, 7, 0, 1))


ids = some.lists(some.integers(0, 99), min_size=1, max_size=5)
trees = some.lists(some.builds(Tree, ids | some.just([]), some.lists(ids, min_size=1, max_size=4)), max_size=4)


@given(trees)
@settings(max_examples=60, deadline=None)
def test_every_text_is_found_again_in_any_row(trees):
    packed = pack(trees)
    wanted = whole_texts(trees)
    tails = [branch for _, branches in trees for branch in branches]
    assert [packed.ids[text].tolist() for text in texts(packed)] == wanted
    for text in texts(packed):
        assert packed.positions[text].tolist() == [*range(len(text))]
        assert packed.previous[text].tolist() == [-1, *text[:-1].tolist()]
    assert [packed.ids[start:stop].tolist() for start, stop in packed.branches.tolist()] == tails
    assert packed.ids[places(packed)].tolist() == [id for tail in tails for id in tail]
    assert owners(packed).tolist() == [number for number, tail in enumerate(tails) for _ in tail]
    # shared prompts stand there once, and each place belongs to one segment
    assert len(packed.ids) == sum(len(prompt) + sum(map(len, branches)) for prompt, branches in trees)
    assert [place for start, stop, *_ in packed.segments for place in range(start, stop)] == [*range(len(packed.ids))]


@pytest.mark.parametrize(
    ("trees", "number"),
    [([Tree([1], [])], 0), ([Tree([], [[1]]), Tree([1, 2], [[3], []])], 1), ([Tree([], [[]])], 0)],
)
def test_a_tree_without_a_branch_or_a_branch_without_a_token_is_named(trees, number):
    with pytest.raises(ValueError, match=f"tree {number}: has an empty branch, or none") as error:
        pack(trees)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", [np.uint16, np.int64, torch.int32, torch.int64])
def test_arrays_and_tensors_are_read_as_lists_are(kind):
    make = torch.tensor if isinstance(kind, torch.dtype) else np.array
    rows = [Tree([], [[4, 250]]), Tree([6, 7], [[8], [9, 10]])]
    made = [
        Tree(make(prompt, dtype=kind), [make(branch, dtype=kind) for branch in branches]) for prompt, branches in rows
    ]
    packed = pack(made)
    assert lists(packed) == lists(pack(rows)) and packed.segments == pack(rows).segments
    assert packed.ids.dtype == packed.positions.dtype == packed.previous.dtype == torch.int64


def test_a_row_does_not_change_with_the_arrays_it_was_made_of():
    source = np.array([4, 5], np.int64)
    packed = pack([Tree([], [source])])
    source[0] = 9
    assert packed.ids.tolist() == [4, 5]


def test_no_tree_gives_an_empty_row():
    packed = pack([])
    assert lists(packed) == ([], [], [], []) and packed.branches.shape == (0, 2) and packed.segments == ()
    assert len(places(packed)) == len(owners(packed)) == len(texts(packed)) == 0
    assert packed.ids.dtype == packed.branches.dtype == places(packed).dtype == torch.int64


def test_what_a_model_reads_moves_and_the_layout_stays_on_the_cpu():
    packed = pack([Tree([1], [[2], [3]])], route="padded")
    moved = packed.to("meta", non_blocking=True)
    assert {each.device.type for each in (moved.ids, moved.positions, moved.previous)} == {"meta"}
    assert torch.equal(moved.branches, packed.branches)
    assert (moved.segments, moved.route) == (packed.segments, "padded")
    assert packed.ids.device.type == "cpu"
