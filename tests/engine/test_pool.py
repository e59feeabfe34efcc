"""Buffers come back when, and only when, nobody can see them any more."""

import gc
import threading

import numpy as np

from engine.caps import Caps
from engine.frame import Frame
from engine.pool import BufferPool
from engine.testing import make_frame


def test_buffer_is_reused_after_its_array_died():
    pool = BufferPool(2)
    first = pool.take((4, 6), np.uint8)
    address = first.ctypes.data
    assert pool.idle == 0
    del first
    assert pool.idle == 1
    assert pool.take((4, 6), np.uint8).ctypes.data == address
    assert pool.allocated == 1


def test_views_and_frames_keep_the_buffer():
    pool = BufferPool(2)
    array = pool.take((4, 6), np.uint8)
    frame = make_frame(array)
    view = frame.data[1:, ::2].reshape(-1)
    del array, frame
    gc.collect()
    assert pool.idle == 0
    assert pool.take((4, 6), np.uint8).ctypes.data != view.base.ctypes.data
    del view
    assert pool.idle == 2


def test_memoryview_keeps_the_buffer():
    pool = BufferPool(2)
    sent = memoryview(pool.take((8,), np.uint8))
    assert pool.idle == 0
    sent.release()
    del sent
    assert pool.idle == 1


def test_limit_bounds_what_is_kept():
    pool = BufferPool(3)
    arrays = [pool.take((16,), np.uint8) for _ in range(10)]
    del arrays
    assert pool.idle == 3


def test_another_size_empties_the_pool():
    pool = BufferPool(4)
    small = pool.take((16,), np.uint8)
    pool.take((8, 4), np.uint16)
    del small
    assert pool.idle == 1
    assert pool.take((8, 4), np.uint16).shape == (8, 4)


def test_arrays_may_die_on_other_threads():
    pool = BufferPool(8)
    frames = [
        Frame(pool.take((64,), np.uint8), Caps(media="packet"), make_frame(np.zeros(1)[None]).stamp)
        for _ in range(8)
    ]
    workers = [threading.Thread(target=frames.pop) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert pool.idle == 8
