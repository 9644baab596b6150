"""No secret of an address is left in a text that quotes it; no character controls a terminal."""

import json
import time
import unicodedata
from urllib.parse import quote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from hvo.safe_text import MASK, escape_controls, mask_address, mask_secrets, mask_values, secrets_of

START = "Zq9"
"""How the secrets of the tests begin: no other text has it."""
ANY = st.text(st.characters(exclude_categories=["Cs"]), max_size=20).map(lambda text: START + text)
PRINTED = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=20).map(
    lambda text: START + text
)
ENCODED = ANY.map(lambda text: quote(text, safe=""))
SCHEMES = st.sampled_from(
    ["postgresql", "mysql", "s3", "clickhouse", "mssql+pyodbc", "snowflake", "hvo-own"]
)
NAMES = st.sampled_from(
    ["password", "PWD", "token", "motherduck_token", "sslpassword", "aws_secret_access_key", "sig"]
)
WHERE = st.sampled_from(["host/db", "host:5432/db", "[::1]:99/db", "h1:1,h2:2/db?x=1", "/srv/f.db"])


def left(text: str, secret: str) -> bool:
    """Whether anything of a secret is in a text."""
    return START in text or any(
        part in text for part in (secret, quote(secret, safe="")) if len(part) > len(START)
    )


@given(SCHEMES, st.one_of(PRINTED, ENCODED), WHERE, st.sampled_from(["u", "", "a%40b", "u.v"]))
def test_passwords_of_urls(scheme, secret, where, user):
    """Any scheme, any password, encoded or not, in a sentence or alone, twice masked as once."""
    address = f"{scheme}://{user}:{secret}@{where}"
    for text in (address, f"cannot read {address}: no such host", f"('{address}',)", address * 2):
        masked = mask_secrets(text)
        assert not left(masked, secret), masked
        assert mask_secrets(masked) == masked
    assert mask_address(address).startswith(f"{scheme}://{user}:{MASK}@")


@given(ANY, NAMES, st.sampled_from("?&;"))
def test_parameters(secret, name, before):
    """Those whose names say so, also where the name is percent-encoded."""
    secret = quote(secret, safe="")
    for spelled in (name, "".join(f"%{ord(each):02x}" for each in name)):
        address = f"postgresql://host/db{before}{spelled}={secret}&x=1"
        assert not left(mask_secrets(f"at {address}."), secret)
        assert "x=1" in mask_secrets(address)


@given(PRINTED, NAMES)
def test_keywords_of_libpq_and_odbc(secret, name):
    """Quoted or not; the other keywords stay."""
    assume(not set(secret) & set("'\\&;}"))
    for text in (
        f"host=h {name}={secret} user=u",
        f"host=h {name} = '{secret}' user=u",
        f"Server=h;{name}={{{secret}}};user=u",
        f"{{'{name}': '{secret}'}} user=u",
    ):
        assume(name != "sig")  # a word of its own in parameters only
        assert not left(mask_secrets(text), secret), text
        assert "user=u" in mask_secrets(text)


@given(ANY, st.sampled_from(["{}", "invalid port {!r}", "host {} and {}", '"{}"', "[{!a}]"]))
def test_what_drivers_make_of_an_address(secret, said):
    """An error quotes the secret of the address alone, decoded, or as Python or JSON write it."""
    address = f"postgresql://u:{quote(secret, safe='')}@h/db"
    for quoted in (secret, json.dumps(secret)[1:-1], quote(secret)):
        text = mask_secrets(said.format(quoted, quoted), [address])
        assert START not in text, text
    assert secrets_of("postgresql://u@h/db?x=1") == []


@given(st.text(max_size=40), st.integers(0, 60))
def test_addresses_that_were_cut_off(secret, end):
    """What is masked before it is cut shows nothing."""
    text = mask_secrets(f"cannot read postgresql://u:{START}{quote(secret)}@h")[:end]
    assert START not in text


@pytest.mark.parametrize(
    "text",
    [
        "metrics at http://127.0.0.1:9750/metrics, and at http://[::1]:9750/metrics",
        "expected duckdb, spark, or a Spark master such as spark://host:7077",
        "postgres://h1:5432,h2:5433/db?sslmode=require",
        "sqlite://fleet.db and duckdb:///srv/x.duckdb?read_only=True",
        "FATAL: password authentication failed for user",
        "size=2MiB pages=512 keys=3 compass=1",
        "postgresql://user@host/db",
    ],
)
def test_what_is_no_secret_stays(text):
    """Addresses without one are shown whole."""
    assert mask_secrets(text) == text


def test_aws_keys_and_tokens():
    """Key and secret of a bucket, and a token in the place of a user."""
    masked = mask_address(f"s3://AKIAABCDEFGHIJKLMNOP:{START}/x+y@bucket/fleet.parquet")
    assert masked == "s3://***:***@bucket/fleet.parquet"
    assert mask_secrets("key AKIAABCDEFGHIJKLMNOP of") == "key *** of"
    assert mask_secrets(f"https://{START}@host/x") == "https://***@host/x"


def test_values_are_masked_all_the_way_down():
    """Texts and keys of JSON; numbers and structure stay."""
    value = {"a": [1, None, {"b": f"x://u:{START}@h"}], f"x://u:{START}@h": True}
    assert mask_values(value) == {"a": [1, None, {"b": "x://u:***@h"}], "x://u:***@h": True}


@given(st.text())
def test_nothing_controls_a_terminal(text):
    """No control, format or line-ending character is left; what can be read is as it was."""
    shown = escape_controls(text)
    assert not [
        each for each in shown if unicodedata.category(each) in ("Cc", "Cf", "Cs", "Zl", "Zp")
    ]
    shown.encode()
    assert escape_controls(shown) == shown
    assert text.isprintable() <= (shown == text)


def test_escapes_are_those_of_python():
    """C0, C1, the escape itself, overrides of direction, line ends, lone surrogates."""
    shown = escape_controls("a\x00\x1b[2J\x7f\x9b\n\r\t\u202e\u2066\u2028\udc80é✓")
    assert shown == r"a\x00\x1b[2J\x7f\x9b\n\r\t\u202e\u2066\u2028\udc80é✓"


@pytest.mark.parametrize(
    "text",
    ["a" * 200_000 + "=", "://a:" * 40_000, "pass" * 50_000, "password='" * 20_000, "%" * 200_000],
)
def test_long_texts_take_no_time(text):
    """Nothing is quadratic: a hostile file must not stop a report."""
    begun = time.process_time()
    mask_secrets(text)
    assert time.process_time() - begun < 5
