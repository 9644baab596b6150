"""Text that leaves the process: passwords are masked, and characters that would control a terminal
are shown escaped.

Commands apply both where text leaves (`hvo.cli.output`, `hvo.report.terminal`). Masking prefers too
much to too little: a password that should have been percent-encoded may hold any character, so all
up to the last `@` of an address is taken for one.
"""

import json
import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import cast
from urllib.parse import quote, unquote, unquote_plus

MASK = "***"
"""What stands in the place of a secret."""
_MASKED = re.compile(r"['\"{]?\*\*\*[^\w\s]*")
"""A value that is masked already, and what stands behind it."""
_CONTROLS = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Unicode categories that are escaped: controls, bidirectional and other format characters, lone
surrogates, and what ends a line.
"""
_WORD = (
    r"(?<![a-z])pass|pass(?:word|wd|phrase|code)|pwd|secret|token|credentials?|signature|api_?key|access_?key"
    r"(?:_?id)?|private_?key|account_?key"
)
_SECRET_NAME = re.compile(rf"(?:{_WORD})|^(?:key|sig|auth|pw|sas)$", re.IGNORECASE)
_URL = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]{0,30})(?P<slashes>(?::|%3a)(?:/|%2f){1,2})(?P<rest>\S*)",
    re.IGNORECASE,
)
_PARAMETER = re.compile(r"(?P<name>[?&;#][^=&;?#\s]{1,200})=(?P<value>[^&;#\s]*)")
_QUOTED = r"'(?:[^'\\]|\\.|'')*'|\"(?:[^\"\\]|\\.)*\"|\{[^}]*\}"
_KEYWORD = re.compile(
    rf"(?P<name>(?:{_WORD})[\w.-]{{0,40}}(?:['\"]\s{{0,9}}[:=]|\s{{0,9}}=|%3d)\s{{0,9}})"
    rf"(?P<value>{_QUOTED}|[^\s&;]+)",
    re.IGNORECASE,
)
_AWS_KEY = re.compile(r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}\b")
_HOST = re.compile(r"(?:\[[^\]]*\]|[^:\[\]]*)(?::(?:\d*|PORT))?")
_AROUND = ".,;:)]}'\"`"
"""What may stand behind an address in a sentence."""
_TOKEN_SCHEMES = ("http", "https", "s3", "s3a", "s3n", "gs", "gcs", "abfs", "abfss", "az", "md")
"""Schemes whose user without a password is itself a secret."""
_AT, _COLON = re.compile(r"@|%40"), re.compile(r":|%3a", re.IGNORECASE)
_BACKSLASHES = r"\\*"
_SHORT = 4
"""A secret of fewer characters is found in other text as a word only."""


def escape_controls(text: str) -> str:
    r"""`text` with every control, format and line-ending character as `\x1b`, `\n` or `\u202e`."""
    if text.isprintable():
        return text
    return "".join(
        each.encode("unicode_escape").decode() if unicodedata.category(each) in _CONTROLS else each
        for each in text
    )


def mask_secrets(text: str, addresses: Iterable[str] = ()) -> str:
    """`text` without passwords: those of URLs (any scheme), of parameters and keywords such as
    `password=`, AWS keys, and every secret of `addresses` wherever it stands.

    `addresses` are the database addresses that the text may quote parts of, as an engine's error
    does.
    """
    for address in addresses:
        text = _without(text, secrets_of(address))
    if ":/" in text or "%" in text:
        text = _URL.sub(_masked_url, text)
    if "=" in text or "%" in text or ":" in text:
        text = _PARAMETER.sub(_masked_parameter, text)
        text = _KEYWORD.sub(_masked_keyword, text)
    return _AWS_KEY.sub(MASK, text)


def mask_address(address: str) -> str:
    """An address as it can be shown; unlike in free text, white space may be part of a secret."""
    return mask_secrets(address, [address])


def mask_values(value: object) -> object:
    """The same JSON value with every text in it masked."""
    if isinstance(value, str):
        return mask_secrets(value)
    if isinstance(value, Mapping):
        entries = cast("Mapping[str, object]", value)
        return {mask_secrets(str(key)): mask_values(each) for key, each in entries.items()}
    if isinstance(value, list | tuple):
        return [mask_values(each) for each in cast("Iterable[object]", value)]
    return value


def secrets_of(address: str) -> list[str]:
    """Every secret in one address, and the parts that parsers make of one, the longest first."""
    found: set[str] = set()
    scheme, *rests = re.split(r":/{1,2}", address, maxsplit=1)
    for rest in rests:
        at = _last(_AT, rest)
        user, _, secret = _split(_COLON, rest[: at.start()] if at else "")
        found.add(secret or (user if scheme.lower() in _TOKEN_SCHEMES else ""))
    for name, value in re.findall(r"[?&;#]([^=&;?#]+)=([^&;#]*)", address):
        if _SECRET_NAME.search(unquote(name)):
            found.add(value)
    found.update(_unquoted(match["value"]) for match in _KEYWORD.finditer(address))
    found.discard("")
    parts = {part for each in found for part in re.split(r"[/@?#:&=;\s]", each)}
    return sorted(found | {part for part in parts if len(part) >= _SHORT}, key=len, reverse=True)


def _without(text: str, secrets: Iterable[str]) -> str:
    """`text` without the secrets, however they are quoted."""
    for secret in secrets:
        for plain in {secret, unquote(secret), unquote_plus(secret)}:
            pattern = _BACKSLASHES.join(map(_written, plain))
            if len(plain) < _SHORT:
                pattern = rf"(?<!\w){pattern}(?!\w)"
            text = re.sub(pattern, MASK, text, flags=re.IGNORECASE)
    return text


def _written(each: str) -> str:
    """A pattern of the ways to write a character: as it is, as in Python, JSON or a URL; with any
    number of backslashes before it.
    """
    encoded = quote(each, safe="", errors="backslashreplace")
    forms = {each, ascii(each)[1:-1], json.dumps(each)[1:-1], encoded}
    parts = (form.split("\\") for form in sorted(forms, key=len, reverse=True))
    return f"(?:{'|'.join(_BACKSLASHES.join(map(re.escape, form)) for form in parts)})"


def _masked_url(match: re.Match[str]) -> str:
    """The URL without the password, and without what may be one that was cut off."""
    # paths are normalised, so one slash may be left of two
    start, rest = match["scheme"] + match["slashes"], match["rest"]
    at = _last(_AT, rest)
    if at:
        user, colon, secret = _split(_COLON, rest[: at.start()])
        if secret or (not colon and match["scheme"].lower() in _TOKEN_SCHEMES):
            return f"{start}{f'{user}:' if colon else ''}{MASK}{rest[at.start() :]}"
        return match[0]
    authority = re.split(r"[/?#]|%2f", rest, maxsplit=1, flags=re.IGNORECASE)[0]
    user, colon, _ = _split(_COLON, authority)
    hosts = authority.rstrip(_AROUND).split(",")
    path = "//" not in match["slashes"] and "%2f%2f" not in match["slashes"].lower()
    plain = path or not colon or all(_HOST.fullmatch(host) for host in hosts)
    return match[0] if plain else f"{start}{user}:{MASK}"


def _masked_parameter(match: re.Match[str]) -> str:
    if not _SECRET_NAME.search(unquote(match["name"][1:])) or _MASKED.fullmatch(match["value"]):
        return match[0]
    return f"{match['name']}={MASK}"


def _masked_keyword(match: re.Match[str]) -> str:
    return match[0] if _MASKED.fullmatch(match["value"]) else f"{match['name']}{MASK}"


def _unquoted(value: str) -> str:
    return value[1:-1] if len(value) > 1 and value[0] in "'\"{" else value


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    """The last match, None if there is none."""
    return next(reversed(list(pattern.finditer(text))), None)


def _split(pattern: re.Pattern[str], text: str) -> tuple[str, str, str]:
    """`text` before, at and after the first match, as `str.partition` does."""
    found = pattern.search(text)
    return (text[: found.start()], found[0], text[found.end() :]) if found else (text, "", "")
