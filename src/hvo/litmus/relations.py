"""Relations between the events of an execution, as one bit mask of successors for each event."""

from collections.abc import Iterator

Relation = list[int]
"""`relation[a] >> b & 1`: a is related to b."""


def none(size: int) -> Relation:
    """The empty relation over `size` events."""
    return [0] * size


def members(mask: int) -> Iterator[int]:
    """The events in a mask, lowest first."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


def union(*relations: Relation) -> Relation:
    """What any of the relations has."""
    result = list(relations[0])
    for relation in relations[1:]:
        for at, row in enumerate(relation):
            result[at] |= row
    return result


def inverse(relation: Relation) -> Relation:
    """The relation read from right to left."""
    result = none(len(relation))
    for at, row in enumerate(relation):
        for other in members(row):
            result[other] |= 1 << at
    return result


def closure(relation: Relation) -> Relation:
    """The transitive closure."""
    result = list(relation)
    for middle in range(len(result)):
        row, bit = result[middle], 1 << middle
        if row:
            for at, successors in enumerate(result):
                if successors & bit:
                    result[at] = successors | row
    return result


def is_cyclic(closed: Relation) -> bool:
    """Whether a transitive relation leads from an event to itself."""
    return any(row >> at & 1 for at, row in enumerate(closed))


def shifted(relation: Relation, offset: int) -> Relation:
    """The rows of a relation among events that are numbered from `offset`."""
    return [row << offset for row in relation]
