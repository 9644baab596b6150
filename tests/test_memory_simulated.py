"""Simulated memory keeps frames of struct pages as templates; what is read must be what plain bytes
would say.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvo.memory.interface import MemoryFault
from hvo.memory.simulated import SimulatedMemory

PAGE = 4096
FRAMES = 6

near_the_start = st.tuples(st.integers(0, FRAMES - 1), st.integers(0, 40)).map(
    lambda at: at[0] * 512 + at[1]
)
operation = st.one_of(
    st.tuples(st.just("write"), near_the_start, st.integers(0, 2**64 - 1)),
    st.tuples(
        st.just("fill"),
        st.lists(st.integers(0, FRAMES - 1), unique=True),
        st.integers(1, 9),
        st.booleans(),
    ),
    st.tuples(
        st.just("update"),
        st.lists(st.integers(0, FRAMES - 1), unique=True),
        st.integers(0, 7),
        st.booleans(),
    ),
    st.tuples(st.just("copy"), st.integers(0, FRAMES - 1), st.integers(0, FRAMES - 1)),
    st.tuples(
        st.just("frames"), st.lists(st.integers(0, FRAMES - 1), unique=True), st.integers(0, 99)
    ),
    st.tuples(st.just("forget"), st.lists(st.integers(0, FRAMES - 1), unique=True)),
)


def both(memory: SimulatedMemory, flat: np.ndarray, op: tuple) -> None:
    """Do `op` to the memory under test and to a plain array of the same size."""
    frames = flat.reshape(FRAMES, 64, 8)
    match op:
        case ("write", word, value):
            memory.write_words(np.array([word * 8], np.uint64), np.array([value], np.uint64))
            flat[word] = value
        case ("fill", pfns, seed, linked):
            pfns, row = np.array(pfns, np.int64), np.arange(seed, seed + 8, dtype=np.uint64)
            links = pfns.astype(np.uint64) * np.uint64(1000) if linked else None
            memory.fill_rows(pfns, row, links)
            frames[pfns] = row
            if links is not None:
                frames[pfns, :, 1] = links[:, None]
        case ("update", pfns, word, linked):
            pfns = np.array(pfns, np.int64)
            links = pfns.astype(np.uint64) * np.uint64(77) if linked else None
            memory.update_rows(pfns, {word: 12345}, links)
            frames[pfns, :, word] = 12345
            if links is not None:
                frames[pfns, :, 1] = links[:, None]
        case ("copy", source, target) if source != target:
            memory.copy_frames(np.array([source]), np.array([target]))
            frames[target] = frames[source]
        case ("frames", pfns, value):
            memory.write_frames(np.array(pfns, np.int64), np.uint64(value))
            frames[np.array(pfns, np.int64)] = value
        case ("forget", pfns):
            memory.forget(np.array(pfns, np.int64))
            frames[np.array(pfns, np.int64)] = 0


@settings(derandomize=True, max_examples=150, deadline=None)
@given(st.lists(operation, max_size=25))
def test_templates_read_as_plain_bytes(operations: list[tuple]) -> None:
    """Any sequence of word writes, template fills, updates and copies reads back like the same
    sequence on plain memory.
    """
    memory = SimulatedMemory(PAGE, [(0, FRAMES * PAGE)])
    flat = np.zeros(FRAMES * 512, np.uint64)
    for op in operations:
        both(memory, flat, op)
        assert memory.read(0, FRAMES * PAGE) == flat.tobytes()


def test_bytes_need_no_alignment() -> None:
    """`write` and `read` take any address and length, across frames."""
    memory = SimulatedMemory(PAGE, [(0, 2 * PAGE)])
    memory.write(PAGE - 3, b"abcdefg")
    assert memory.read(PAGE - 4, 9) == b"\0abcdefg\0"


def test_outside_ram_is_a_fault_that_names_the_address() -> None:
    """Reading or writing between two ranges of RAM says where."""
    memory = SimulatedMemory(PAGE, [(0, PAGE), (4 * PAGE, 5 * PAGE)])
    with pytest.raises(MemoryFault, match="0x1000"):
        memory.read_words(np.array([0, PAGE], np.uint64))
    with pytest.raises(MemoryFault, match="0x5000"):
        memory.write(5 * PAGE, b"x")
    assert memory.readable(np.array([0, PAGE, 4 * PAGE], np.uint64)).tolist() == [True, False, True]


def test_backing_shows_through_until_written() -> None:
    """A memory over another one (a core) reads through to it and never changes it."""
    under = SimulatedMemory(PAGE, [(0, PAGE)])
    under.write(0, b"underneath")
    over = SimulatedMemory(PAGE, [(0, 2 * PAGE)], backing=under)
    over.write(5, b"X")
    assert over.read(0, 10) == b"underXeath"
    assert under.read(0, 10) == b"underneath"
    assert over.read(PAGE, 2) == b"\0\0"
