"""Reads the initial state of a litmus test: what registers, memory and descriptors hold at
first.
"""

import re

from hvo.litmus.program import Test
from hvo.litmus.source import Source
from hvo.litmus.values import (
    ATTRIBUTES,
    FLAGS,
    Address,
    Descriptor,
    Value,
    as_descriptor,
    is_attribute,
    number,
)


def read_initial(source: Source, test: Test) -> None:
    """Read the braces and what stands in them into the test; the source is left at the line after
    them.
    """
    text, first = "", source.at
    while "}" not in text:
        if source.at == len(source.lines):
            raise source.error(first, "the end", "'}' after the initial state")
        text += source.lines[source.at] + "\n"
        source.at += 1
    body, _, rest = text.partition("{")[2].partition("}")
    if rest.strip():
        source.at -= 1
        source.lines[source.at] = rest
    line = first
    for statement in body.split(";"):
        leading = len(statement) - len(statement.lstrip())
        if statement.strip():
            _declare(source, test, statement.strip(), line + statement[:leading].count("\n"))
        line += statement.count("\n")


_TYPE = r"(?:(?:u?int(?:\d+_t|ptr_t)?|pteval_t)\s+\*?\s*)?"
_REGISTER = re.compile(rf"{_TYPE}P?(\d+):([XWxw]\d+)\s*(?:=\s*(.+))?", re.DOTALL)
_MEMORY = re.compile(
    rf"{_TYPE}\[?\s*((?:PTE|PA)\(\s*\w+\s*\)|\w+)\s*\]?\s*(?:=\s*(.+))?", re.DOTALL
)


def _declare(source: Source, test: Test, text: str, line: int) -> None:
    expected = "an initial value, as 0:X0=x, [x]=1, [PTE(x)]=(oa:PA(y), af:0) or 0:X1=PTE(x)"
    if match := _REGISTER.fullmatch(text):
        value = read_value(source, test, match[3] or "0", line)
        test.registers[int(match[1]), "X" + match[2][1:]] = value
    elif match := _MEMORY.fullmatch(text):
        place = read_place(match[1])
        test.coding.frame(place.name)
        own = place.name if place.kind == "PTE" else None
        given = match[2] or ("()" if own else "0")
        test.memory[place] = read_value(source, test, given, line, own)
    else:
        raise source.error(line, text, expected)


def read_place(text: str) -> Address:
    """The place that is named: PTE(x) or, in older tests, pte_x; PA(x), phy_x, or x itself."""
    match = re.fullmatch(r"(PTE|PA)\(\s*(\w+)\s*\)|(pte|phy)_(\w+)", text.strip())
    if match is None:
        return Address("PA", text.strip())
    return Address("PTE" if "PTE" in (match[1] or match[3]).upper() else "PA", match[2] or match[4])


def read_value(source: Source, test: Test, text: str, line: int, own: str | None = None) -> Value:
    """The value that is written; a descriptor that does not say where it leads leads to the page
    `own`.
    """
    text = text.strip()
    if re.fullmatch(r"-?(0[xX][0-9a-fA-F]+|\d+)", text):
        return as_descriptor(number(text)) if own else number(text)
    if text.startswith("(") and text.endswith(")"):
        return _descriptor(source, test, text, line, own)
    if text == "invalid":
        return test.coding.descriptor(own, {"valid": 0})
    if match := re.fullmatch(r"(PTE|PA|TLB)\(\s*(\w+)\s*\)|(pte|phy)_(\w+)", text):
        test.coding.frame(match[2] or match[4])
        return Address("TLB", match[2]) if match[1] == "TLB" else read_place(text)
    if re.fullmatch(r"[A-Za-z_]\w*", text):
        test.coding.frame(text)
        return Address("VA", text)
    raise source.error(
        line,
        text,
        "a number, x, PTE(x), PA(x) or a descriptor, (oa:PA(x), valid:1, af:1, db:1, dbm:0,"
        " attrs:(Normal))",
    )


def _descriptor(source: Source, test: Test, text: str, line: int, own: str | None) -> Descriptor:
    page = own
    flags: dict[str, int] = {}
    attributes: list[str] = []
    for part in re.findall(r"(?:[^,()]|\([^()]*\))+", text[1:-1]):
        name, _, value = (word.strip() for word in part.partition(":"))
        if name == "oa" and (match := re.fullmatch(r"PA\(\s*(\w+)\s*\)|(?:phy|PA)_(\w+)", value)):
            page = match[1] or match[2]
        elif name in FLAGS and value in ("0", "1"):
            flags[name] = int(value)
        elif name == "attrs" or not value:
            attributes += [word for word in re.split(r"[\s,()]+", value or name) if word]
        else:
            raise source.error(
                line, part, "oa:PA(x), valid, af, db, dbm or el0 with :0 or :1, or attrs:(...)"
            )
    unknown = [name for name in attributes if not is_attribute(name)]
    if unknown:
        raise source.error(line, unknown[0], f"a memory attribute: {', '.join(ATTRIBUTES)}")
    return test.coding.descriptor(page, flags, attributes)
