"""Messages on a command topic as hypothesis makes them: readable ones, ones with a flaw, and noise."""

import json
from typing import Any

from hypothesis import strategies as st

FIELDS = (
    "command_id",
    "operation",
    "owner_id",
    "nonce",
    "issued_at",
    "amount",
    "credit_type",
    "not_after",
    "metadata",
)
REQUIRED = FIELDS[:5]

storable_texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=12)
owner_ids = storable_texts | st.sampled_from(
    ["user-42", "\U0001f600" * 128, "a" * 128, "\u2028", '"\\/', "\x7f", "\ufeff"]
)
whole_days = st.sampled_from(
    ["2026-01-31", "2024-02-29", "0001-01-01", "0001-01-02", "9999-12-31", "1969-12-31", "1970-01-01"]
)
clock_times = st.sampled_from(
    ["00:00:00", "12:30:45.5", "23:59:59.999999", "23:59:59.9999995", "12:00:00.1234567", "12:00:00.000000001"]
)
zones = st.sampled_from(["Z", "+00:00", "-00:00", "+05:30", "-23:59", "+23:59", "z"])
times = st.tuples(whole_days, st.sampled_from(["T", "t", " "]), clock_times, zones).map("".join)

json_values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | storable_texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(storable_texts, inner, max_size=3),
    max_leaves=6,
)
metadata_objects = st.dictionaries(storable_texts, json_values, max_size=3)

readable_fields = st.fixed_dictionaries(
    {
        "command_id": st.uuids().map(str),
        "operation": st.sampled_from(["CREDIT_ADD", "X" * 64, "é"]) | storable_texts,
        "owner_id": owner_ids,
        "nonce": owner_ids,
        "issued_at": st.tuples(
            st.sampled_from(["2026-01-31", "2024-02-29", "1969-12-31"]), st.just("T"), clock_times, zones
        ).map("".join),
    },
    optional={
        "amount": st.integers(-(2**63), 2**63 - 1) | st.sampled_from([0, -1, 2**53 - 1, 2**53, -(2**53)]),
        "credit_type": st.sampled_from(["credits", "points"]),
        "not_after": st.sampled_from(["2026-01-31T12:00:00Z", "2026-01-31T12:00:00.25+01:00"]),
        "metadata": metadata_objects,
    },
)

ODD_TEXTS = [
    '""',
    '"a"',
    '"' + "a" * 64 + '"',
    '"' + "a" * 65 + '"',
    '"' + "a" * 128 + '"',
    '"' + "a" * 129 + '"',
    '"' + "\U0001f600" * 128 + '"',
    '"' + "\\ud83d\\ude00" * 128 + '"',
    '"' + "\\ud83d\\ude00" * 129 + '"',
    '"' + "é" * 129 + '"',
    r'"\u0000"',
    r'"a\u0000b"',
    r'"\ud800"',
    r'"\udc00\ud800"',
    r'"\ud800\u0041"',
    r'"\ud800\ud83d\ude00"',
    r'"\uD83D"',
    r'"\u00e9"',
    r'"\u00E9"',
    r'"\/\b\f\n\r\t\"\\"',
    r'"\x41"',
    r'"\u12"',
    r'"\'"',
    "'a'",
    '"\t"',
    '"\n"',
    '"\x00"',
    '"\x1f"',
    '"\x7f"',
    '"\u2028"',
    '"unfinished',
]
ODD_NUMBERS = [
    "0",
    "-0",
    "0.0",
    "-0.0",
    "5.0",
    "5.5",
    "5e0",
    "5E2",
    "1e2",
    "1e-2",
    "1e400",
    "-1e400",
    "NaN",
    "-NaN",
    "Infinity",
    "-Infinity",
    "inf",
    "01",
    "-01",
    "+1",
    "1.",
    ".5",
    "1_000",
    "0x10",
    "9007199254740991",
    "9007199254740992",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "-9223372036854775809",
    "18446744073709551615",
    "18446744073709551616",
    "1" + "0" * 30,
    "1" + "0" * 400,
    "-1" + "0" * 400,
    "1" + "0" * 5_000,
    "0." + "1" * 400,
    "-",
    "1e",
]
ODD_TIMES = [
    '"2026-01-31"',
    '"2026-01-31T12:00Z"',
    '"2026-01-31T12:00:00"',
    '"2026-01-31 12:00:00Z"',
    '"2026-01-31t12:00:00z"',
    '"2026-01-31T12:00:00+0530"',
    '"2026-01-31T12:00:00+05"',
    '"2026-01-31T12:00:00+24:00"',
    '"2026-01-31T12:00:00+23:60"',
    '"2026-01-31T24:00:00Z"',
    '"2026-01-31T23:59:60Z"',
    '"2026-02-29T12:00:00Z"',
    '"2026-13-01T12:00:00Z"',
    '"2026-00-01T12:00:00Z"',
    '"2026-1-31T12:00:00Z"',
    '"02026-01-31T12:00:00Z"',
    '"0000-01-01T00:00:00Z"',
    '"0001-01-01T00:00:00Z"',
    '"0001-01-01T00:00:00+00:01"',
    '"0001-01-01T00:00:00-00:01"',
    '"9999-12-31T23:59:59.999999Z"',
    '"9999-12-31T23:59:59.9999999Z"',
    '"9999-12-31T23:59:59.999999-00:01"',
    '"9999-12-31T23:59:59.999999+00:01"',
    '"2026-01-31T12:00:00.Z"',
    '"2026-01-31T12:00:00,5Z"',
    '"2026-01-31T12:00:00.1234567890123Z"',
    '"2026-01-31T12:00:00.0000005Z"',
    '"2026-01-31T12:00:00.9999995Z"',
    '"2026-01-31T12:00:00.9999994Z"',
    '" 2026-01-31T12:00:00Z"',
    '"2026-01-31T12:00:00Z "',
    '"2026-01-31T12:00:00 Z"',
    '"2026-01-31T12:00:00 +01:00"',
    '"20260131T120000Z"',
    '"2026-W05-6T12:00:00Z"',
    '"1769860800"',
    "1769860800",
    "1769860800.5",
    '"now"',
    '"٢٠٢٦-01-31T12:00:00Z"',
    r'"2026-01-31T12:00:00\u005a"',
]
ODD_UUIDS = [
    '"6F1B6D3A-6F0E-5C0E-9A53-3C1D2F0F7A10"',
    '"6f1b6d3a6f0e5c0e9a533c1d2f0f7a10"',
    '"{6f1b6d3a-6f0e-5c0e-9a53-3c1d2f0f7a10}"',
    '"urn:uuid:6f1b6d3a-6f0e-5c0e-9a53-3c1d2f0f7a10"',
    '" 6f1b6d3a-6f0e-5c0e-9a53-3c1d2f0f7a10"',
    '"6f1b6d3a-6f0e-5c0e-9a53-3c1d2f0f7a1"',
    '"6f1b6d3a-6f0e-5c0e-9a53-3c1d2f0f7a1g"',
    '"6f1b6d3a-6f0e5c0e-9a53-3c1d2f0f7a10"',
    '"6f1b-6d3a6f0e-5c0e-9a53-3c1d2f0f7a10"',
    '"00000000-0000-0000-0000-000000000000"',
    '"ffffffff-ffff-ffff-ffff-ffffffffffff"',
    '"６f1b6d3a-6f0e-5c0e-9a53-3c1d2f0f7a10"',
    "5",
    '"\\u0036f1b6d3a-6f0e-5c0e-9a53-3c1d2f0f7a10"',
]
ODD_OBJECTS = [
    "null",
    "true",
    "false",
    "True",
    "[]",
    "[{}]",
    "{}",
    "{ }",
    '{"a":1,"a":2}',
    '{"a":1.50,"b":1e2,"c":[null,true]}',
    '{"a":{"a":{"a":[[[]]]}}}',
    '{"a":NaN}',
    '{"a":Infinity}',
    '{"a":1e400}',
    '{"a":1e-400}',
    '{"a":' + "9" * 400 + "}",
    '{"a":' + "9" * 5_000 + "}",
    '{"a":18446744073709551616}',
    '{"a":01}',
    '{"a":-0}',
    r'{"\u0000":"\u0000"}',
    r'{"\ud800":1}',
    r'{"a":"\ud800"}',
    r'{"a":"\udc00"}',
    '{"a":"\x01"}',
    '{"a":1,}',
    '{"a"}',
    '{"a":}',
    "{1:2}",
    '{"a":"' + "x" * 4_088 + '"}',
    '{"a":"' + "x" * 4_089 + '"}',
    '{"a":"' + "é" * 2_044 + '"}',
    '{"a":"' + "é" * 2_045 + '"}',
    "{" + " " * 4_094 + "}",
    "{" + " " * 4_095 + "}",
    '{"a":' + "[" * 99 + "]" * 99 + "}",
    '{"a":' + "[" * 100 + "]" * 100 + "}",
    '{"a":' + "[" * 300 + "]" * 300 + "}",
    '{"a":' * 200 + "1" + "}" * 200,
    '{"a":' + "[" * 1_500 + "]" * 1_500 + "}",
    '{"a":' + "[" * 100_000 + "]" * 100_000 + "}",
    '{"a":"' + "[" * 150 + '"}',
    '{"a":"' + '\\"[' * 150 + '"}',
    "[" * 100_000,
    '"text"',
]
ODD_VALUES = ODD_TEXTS + ODD_NUMBERS + ODD_TIMES + ODD_UUIDS + ODD_OBJECTS

spaces = st.sampled_from(["", "", "", " ", "\t", "\n", "\r\n", "  "])
odd_spaces = st.sampled_from(["\x0b", "\x0c", "\xa0", "\ufeff", "\u2028", "/**/", "//\n", "\0", ",", "}", "{}", "1"])


def encoded(value: object, *, ascii_only: bool) -> str:
    """As any JSON encoder writes it."""
    return json.dumps(value, ensure_ascii=ascii_only)


@st.composite
def fields_as_texts(draw: st.DrawFn) -> list[tuple[str, str]]:
    """The names and values of a readable command, as JSON texts, in any order."""
    fields = draw(readable_fields)
    names = draw(st.permutations(list(fields)))
    ascii_only = draw(st.booleans())
    return [(encoded(name, ascii_only=True), encoded(fields[name], ascii_only=ascii_only)) for name in names]


@st.composite
def readable_messages(draw: st.DrawFn) -> bytes:
    """Values of messages that must be readable."""
    return joined(draw, draw(fields_as_texts()))


def joined(draw: st.DrawFn, fields: list[tuple[str, str]]) -> bytes:
    """An object of these fields, with white space where JSON allows it."""
    space = draw(spaces)
    inside = f"{space},{draw(spaces)}".join(f"{name}{space}:{draw(spaces)}{value}" for name, value in fields)
    return f"{space}{{{space}{inside}{space}}}{draw(spaces)}".encode("utf-8", "surrogatepass")


@st.composite
def flawed_messages(draw: st.DrawFn) -> bytes:
    """Values of messages with one to three flaws in their fields; some flaws are none."""
    fields = draw(fields_as_texts())
    for _ in range(draw(st.integers(1, 3))):
        flaw = draw(st.sampled_from(["value", "value", "value", "drop", "double", "unknown", "name", "space"]))
        place = draw(st.integers(0, max(len(fields) - 1, 0)))
        if flaw == "unknown" or not fields:
            name = draw(st.sampled_from(["amonut", "", "Amount", "amount ", "app", "\0", "command_id\0"]))
            fields.insert(place, (encoded(name, ascii_only=True), draw(st.sampled_from(ODD_VALUES))))
        elif flaw == "value":
            fields[place] = (fields[place][0], draw(st.sampled_from(ODD_VALUES)))
        elif flaw == "drop":
            del fields[place]
        elif flaw == "double":
            name = encoded(draw(st.sampled_from(FIELDS)), ascii_only=True)
            fields.append((name, draw(st.sampled_from(ODD_VALUES))))
        elif flaw == "name":
            escaped = "".join(f"\\u{ord(letter):04x}" for letter in json.loads(fields[place][0]))
            fields[place] = (f'"{escaped}"', fields[place][1])
        else:
            fields[place] = (fields[place][0], fields[place][1] + draw(odd_spaces))
    return joined(draw, fields)


@st.composite
def damaged_messages(draw: st.DrawFn) -> bytes:
    """Values of messages with damaged bytes."""
    value = bytearray(draw(readable_messages()))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(value)))
        length = draw(st.integers(0, 3))
        noise = draw(
            st.binary(max_size=3)
            | st.sampled_from(
                [b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80", b"\xef\xbb\xbf", b'"', b"\\", b"\\u0000"]
            )
        )
        value[at : at + length] = noise
    return bytes(value)


any_messages = (
    readable_messages() | flawed_messages() | damaged_messages() | st.binary(max_size=60) | st.text().map(str.encode)
)
