import pytest

from cai_lightning.data.batching import BatchLoader, length_buckets

LENGTHS = [3, 17, 9, 9, 10, 30, 1, 16, 8, 24, 25, 2]


def buckets(**changes):
    return length_buckets(LENGTHS, **({"batch_tokens": 64, "multiple": 8, "seed": 0, "epoch": 0} | changes))


def test_every_row_comes_once_and_batches_keep_the_budget():
    for epoch in range(5):
        batches = buckets(epoch=epoch)
        assert sorted(row for batch in batches for row in batch) == list(range(len(LENGTHS)))
        for batch in batches:
            longest = max(-(-LENGTHS[row] // 8) * 8 for row in batch)
            assert longest * len(batch) <= 64


def test_all_epochs_have_equally_many_batches_in_another_order():
    epochs = [buckets(epoch=epoch) for epoch in range(6)]
    assert len({len(batches) for batches in epochs}) == 1
    assert len({str(batches) for batches in epochs}) == 6


def test_the_order_is_a_function_of_seed_and_epoch():
    assert buckets(seed=1, epoch=2) == buckets(seed=1, epoch=2)
    assert buckets(seed=1, epoch=2) != buckets(seed=2, epoch=1)


def test_batches_hold_rows_of_similar_length():
    """Sorting leaves at most one length class boundary a batch: padding stays under a third here."""
    batches = buckets()
    padded = sum(max(-(-LENGTHS[row] // 8) * 8 for row in batch) * len(batch) for batch in batches)
    assert sum(LENGTHS) / padded > 0.67


def test_a_row_over_the_budget_is_named():
    with pytest.raises(ValueError, match="row 5 has 30 tokens, 32 with padding, but batch_tokens is 24"):
        buckets(batch_tokens=24)


def test_no_rows_make_no_batches():
    assert length_buckets([], batch_tokens=8, multiple=8, seed=0, epoch=0) == []


def loader(accumulate=1):
    """Epoch e serves rows 0-4 singly, as (epoch, row, divisor)."""
    plan = {epoch: [[row] for row in range(5)] for epoch in range(9)}

    def collate(rows, divisor):
        return rows[0], divisor

    return BatchLoader(lambda epoch: plan[epoch], collate, [1.0, 2.0, 4.0, 8.0, 16.0], accumulate=accumulate)


def test_divisors_span_the_window_and_undo_the_trainers_division():
    # windows {1, 2}, {4, 8}, {16}: sums 3, 12 and 16, halved because the trainer halves as well
    assert [divisor for _, divisor in loader(accumulate=2)] == [1.5, 1.5, 6.0, 6.0, 8.0]


def epoch_loader():
    return BatchLoader(
        lambda epoch: [[epoch, k] for k in range(3)], lambda rows, _: tuple(rows), [0.0] * 9, accumulate=1
    )


def test_each_iteration_is_the_next_epoch():
    batches = epoch_loader()
    assert len(batches) == 3
    assert list(batches) == [(0, 0), (0, 1), (0, 2)]
    assert list(batches) == [(1, 0), (1, 1), (1, 2)]


@pytest.mark.parametrize("served", range(1, 7))
def test_a_resumed_loader_serves_the_rest(served):
    """Stopped after any number of batches, a fresh loader goes on with the very next one."""
    first = epoch_loader()
    all_batches = [(epoch, k) for epoch in range(3) for k in range(3)]
    seen = []
    while len(seen) < served:
        for batch in first:
            seen.append(batch)
            if len(seen) == served:
                break
    second = epoch_loader()
    second.load_state_dict(first.state_dict())
    for _ in range(3):
        seen.extend(second)
    assert seen[: len(all_batches)] == all_batches
