"""The pool of buffers."""

from __future__ import annotations

from pyfactory.loader.batch import BufferPool


def test_the_pool_forgets_what_it_need_not_remember():
    """Catches: a pool that grows with every batch that somebody holds."""
    pool = BufferPool(3, (2, 8), ["input_ids"])
    held = []
    for _ in range(10):
        buffers = pool.take()
        held.append(buffers.tensors())
        pool.give_back(buffers)
    assert len({tensors["input_ids"].data_ptr() for tensors in held}) == 10
    assert len(pool._buffers) == 3


def test_a_buffer_that_is_being_filled_is_not_lent_again():
    """Catches: two threads that fill one buffer, since no tensor of it exists yet."""
    pool = BufferPool(3, (2, 8), ["input_ids"])
    first, second = pool.take(), pool.take()
    assert first is not second
    pool.give_back(first)
    assert pool.take() is first
