import gc

import numpy as np
import pytest
import torch

from cai_lightning.data.ragged import Ragged, id_type

SEQUENCES = [[3, 1, 4], [], [1], [5, 9, 2, 6], []]


def filled(dtype=np.uint16, **where):
    rows = Ragged(dtype, **where)
    rows.extend(SEQUENCES)
    return rows


def lists(arrays):
    return [array.tolist() for array in arrays]


def test_what_was_appended_is_read_empty_sequences_too():
    rows = filled()
    assert len(rows) == 5
    assert lists(rows) == SEQUENCES
    assert rows.lengths() == [3, 0, 1, 4, 0]


def test_none_or_only_empty_sequences_can_be_read():
    rows = Ragged(np.uint16)
    assert lists(rows) == [] and rows.lengths() == []
    rows.append([])
    assert lists(rows) == [[]]
    rows.append([7])
    assert lists(rows) == [[], [7]]


def test_numbers_and_slices_are_those_of_a_list():
    rows = filled()
    for number in range(-5, 5):
        assert rows[number].tolist() == SEQUENCES[number]
    for part in (slice(1, 3), slice(None, None, -1), slice(-2, None), slice(3, 99), slice(2, 2)):
        assert lists(rows[part]) == SEQUENCES[part]
    for number in (5, -6):
        with pytest.raises(IndexError):
            rows[number]


def test_appending_after_reading_keeps_what_was_read():
    rows = filled()
    before = rows[0], rows[3]
    rows.append([8, 8])
    assert lists(rows) == [*SEQUENCES, [8, 8]]
    assert lists(before) == [SEQUENCES[0], SEQUENCES[3]]
    rows.append([])
    rows.append([2])
    assert lists(rows[-3:]) == [[8, 8], [], [2]]


def test_what_was_read_outlives_the_rows():
    found = filled()[3]
    gc.collect()
    assert found.tolist() == [5, 9, 2, 6]


def test_weights_are_floats_and_become_tensors():
    rows = filled(np.float32)
    assert torch.equal(torch.tensor(rows[3], dtype=torch.float32), torch.tensor([5.0, 9.0, 2.0, 6.0]))


def test_ids_take_two_bytes_where_the_vocabulary_allows_and_four_where_not():
    # 65 536 ids are 0 to 65 535, the most that sixteen bits hold
    assert id_type(50_000) is id_type(65_536) is np.uint16
    assert id_type(65_537) is id_type(151_936) is np.uint32
    for vocabulary, size in ((65_536, 2), (65_537, 4)):
        rows = Ragged(id_type(vocabulary))
        rows.append([0, vocabulary - 1])
        assert rows[0].tolist() == [0, vocabulary - 1]
        assert rows[0].nbytes == 2 * size


@pytest.mark.parametrize("number", [65_536, -1])
def test_an_id_that_does_not_fit_is_refused_and_not_wrapped(number):
    rows = filled()
    with pytest.raises(OverflowError):
        rows.append([1, number])
    assert lists(rows) == SEQUENCES


def test_the_file_takes_room_in_the_folder_and_has_no_name_there(tmp_path):
    rows = filled(folder=tmp_path)
    assert lists(rows) == SEQUENCES
    assert list(tmp_path.iterdir()) == []


def test_the_numbers_lie_in_the_file_and_not_in_memory(tmp_path):
    rows = Ragged(np.uint32, folder=tmp_path)
    rows.extend([[1] * 1000] * 3)
    whole = rows[0].base
    assert isinstance(whole, np.memmap) and whole.nbytes == 3 * 1000 * 4
    assert rows[2].base is whole
