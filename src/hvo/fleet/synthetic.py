"""Synthetic fleets: groups of hosts that are much alike, as real ones are; of any size, and the
same for the same seed.

Every state that an answer tells apart is there: switch on, off and not known, pools that are
optimised, mixed, or of which only bounds are known, sizes and kernels and architectures that
cannot, hosts without pools, with pools of two sizes, and with one on each of two nodes.
"""

from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from hvo.errors import HvoError
from hvo.fleet.columns import NAMES
from hvo.fleet.kinds import judge
from hvo.memory.whole_file import whole_file

Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]
_CHUNK = 900_000
"""Hosts at a time: their rows fill one row group."""
_GIB = 1 << 30
_STRUCT_PAGE = 64


class _Model(NamedTuple):
    """A kind of machine: architecture, base page, two HugeTLB sizes, kernels, and how many groups
    of a hundred have it.
    """

    arch: str
    page_size: int
    sizes: tuple[int, int]
    kernels: tuple[str, ...]
    weight: int


_MODELS = (
    _Model(
        "x86_64",
        4096,
        (2 << 20, _GIB),
        ("6.1.0-50-amd64", "6.8.0-45-generic", "6.12.94+deb13-amd64", "6.18.44", "7.3.4"),
        50,
    ),
    _Model(
        "x86_64",
        4096,
        (2 << 20, _GIB),
        ("5.15.0-119-generic", "5.14.0-503.11.1.el9_5.x86_64", "6.12.117+deb13-amd64"),
        22,
    ),
    _Model("x86_64", 4096, (_GIB, 2 << 20), ("5.4.0-216-generic", "4.18.0-553.el8_10.x86_64"), 6),
    _Model(
        "arm64",
        4096,
        (2 << 20, _GIB),
        ("6.1.0-50-arm64", "6.8.0-45-generic", "6.0.19", "7.3.4"),
        12,
    ),
    _Model(
        "arm64", 65536, (512 << 20, 2 << 20), ("6.8.0-45-generic-64k", "6.12.94+deb13-arm64-64k"), 5
    ),
    _Model("riscv64", 4096, (2 << 20, 64 << 10), ("6.12.94+deb13-riscv64", "6.1.192"), 3),
    _Model("s390x", 4096, (1 << 20, 2 << 30), ("6.12.94+deb13-s390x",), 2),
)
_MEMORY = np.array([64, 128, 256, 384, 512, 768, 1024, 2048], np.int64) * _GIB
_PAIRS = [(number, kernel) for number, model in enumerate(_MODELS) for kernel in model.kernels]
_MODEL = np.array([number for number, _ in _PAIRS])
"""The model of each kernel."""
_ROWS = np.array([1, 1, 2, 2])
_SIZE = np.array([(-1, -1), (0, -1), (0, 1), (0, 0)])
_NODE = np.array([(-1, -1), (-1, -1), (-1, -1), (0, 1)])
"""Of hosts with no pool, with one, with two sizes, with two nodes: how many rows they have, and the
size and the node of each row.
"""


@dataclass(frozen=True)
class _Groups:
    """What is alike in all hosts of a group; an array each, with an element a group."""

    weight: NDArray[np.float64]
    kernel: Integers
    memory: Integers
    often: NDArray[np.float64]
    """How likely its hosts have the switch on, know how many of their pages are optimised, and have
    a pool: three rows.
    """


def write_fleet(hosts: int, seed: int, path: Path) -> int:
    """Write the inventory of so many hosts to a Parquet file -> its rows; raises `HvoError` where
    it cannot be written.
    """
    random, rows = np.random.default_rng(seed), 0
    groups, can = _groups(min(200, 1 + hosts // 50), random), _can()
    chunks = (
        _chunk(range(first, min(first + _CHUNK, hosts)), groups, can, random)
        for first in range(0, hosts, _CHUNK)
    )
    try:
        first = next(chunks)
        with (
            whole_file(path) as part,
            pq.ParquetWriter(part, first.schema, compression="snappy") as writer,
        ):
            for chunk in chain((first,), chunks):
                writer.write_table(chunk)
                rows += chunk.num_rows
    except OSError as error:
        raise HvoError(
            f"cannot write {path}: {error.strerror or error}; name another file"
        ) from error
    return rows


def _can() -> Flags:
    """Whether each kernel has the mechanism for each of its model's two sizes."""
    known = (
        [judge(model.arch, kernel, model.page_size, _STRUCT_PAGE, size) for size in model.sizes]
        for model, kernel in ((_MODELS[number], kernel) for number, kernel in _PAIRS)
    )
    return np.array([[each.offered and each.freed > 0 for each in row] for row in known])


def _groups(number: int, random: np.random.Generator) -> _Groups:
    weights = np.array([model.weight / len(model.kernels) for model in _MODELS])[_MODEL]
    share = random.pareto(1.5, number) + 0.05
    often = np.where(random.random((3, number)) < np.array([[0.5], [0.7], [0.8]]), 0.95, 0.1)
    kernel = random.choice(_MODEL.size, number, p=weights / weights.sum())
    return _Groups(share / share.sum(), kernel, random.choice(_MEMORY, number), often)


def _chunk(hosts: range, groups: _Groups, can: Flags, random: np.random.Generator) -> pa.Table:
    """The rows of the hosts with these numbers."""
    group = random.choice(groups.weight.size, len(hosts), p=groups.weight)
    on, known, pooled = random.random((3, group.size)) < groups.often[:, group]
    before = np.maximum(
        groups.kernel[group] - 1, 0
    )  # some hosts still have the kernel before their group's
    stays = (random.random(group.size) < 0.9) | (_MODEL[before] != _MODEL[groups.kernel[group]])
    kernel = np.where(stays, groups.kernel[group], before)
    shape = np.where(pooled, random.choice([1, 2, 3], group.size, p=(0.96, 0.02, 0.02)), 0)
    host = np.repeat(np.arange(group.size), _ROWS[shape])
    row = (
        shape[host],
        np.arange(host.size) - np.searchsorted(host, host),
    )  # the rows of a host lie together
    memory, any_size = groups.memory[group], np.any(can[kernel], axis=1)
    columns = _of_hosts(np.asarray(hosts), group, memory, kernel, on, np.asarray(any_size), random)
    room = (memory // _ROWS[shape])[host]
    pools = _of_pools(
        kernel[host], _SIZE[row], _NODE[row], room, on[host], can, known[host], random
    )
    return pa.table({name: value.take(host) for name, value in columns.items()} | pools).select(
        NAMES
    )


def _of_hosts(
    number: Integers,
    group: Integers,
    memory: Integers,
    kernel: Integers,
    on: Flags,
    can: Flags,
    random: np.random.Generator,
) -> dict[str, Any]:
    model, digits = _MODEL[kernel], pc.utf8_lpad(pa.array(number).cast(pa.string()), 8, "0")
    return {
        "host": pc.binary_join_element_wise(pa.scalar("host"), digits, "-"),
        "group": _chosen([f"group {each:03}" for each in range(group.max(initial=0) + 1)], group),
        "arch": _chosen([each.arch for each in _MODELS], model),
        "kernel": _chosen([release for _, release in _PAIRS], kernel),
        "page_size": pa.array(np.array([each.page_size for each in _MODELS])[model]),
        "memory": pa.array(memory),
        "struct_page_size": pa.array(np.full(number.size, _STRUCT_PAGE)),
        "supported": pa.array(can, mask=random.random(can.size) < 0.7),
        "gate": pa.array(on, mask=~can | (random.random(can.size) < 0.03)),
    }


def _of_pools(
    kernel: Integers,
    size: Integers,
    node: Integers,
    memory: Integers,
    on: Flags,
    can: Flags,
    known: Flags,
    random: np.random.Generator,
) -> dict[str, Any]:
    """Pools of a part of `memory`, optimised as their switch says or, for some, as it said
    before.
    """
    none = size < 0
    bytes_of = np.array([each.sizes for each in _MODELS])[_MODEL[kernel], size]
    pages = memory * random.integers(1, 8, size.size) // 8 // bytes_of
    as_said = np.where(on, pages, 0)
    optimized = (
        np.where(random.random(size.size) < 0.8, as_said, pages - as_said)
        * random.integers(3, 5, size.size)
        // 4
    )
    optimized = np.where(can[kernel, size], optimized, 0)
    bounded = ~known & (random.random(size.size) < 0.3)
    lower, upper = optimized // 2, np.minimum(pages, optimized + (pages - optimized) // 2)
    return {
        "hugepage_size": pa.array(bytes_of, mask=none),
        "pages": pa.array(pages, mask=none),
        "node": pa.array(node, mask=node < 0),
        "optimized": pa.array(optimized, mask=none | ~known),
        "optimized_min": pa.array(lower, mask=none | ~bounded),
        "optimized_max": pa.array(upper, mask=none | ~bounded),
        "self_hosted": pa.nulls(size.size, pa.int64()),
    }


def _chosen(names: list[str], number: Integers) -> pa.Array:
    """The names with these numbers, each stored once: else Parquet would not keep it so."""
    once, place = np.unique(np.array(names), return_inverse=True)
    return pa.DictionaryArray.from_arrays(
        pa.array(place[number].astype(np.int32)), pa.array(once.tolist())
    )
