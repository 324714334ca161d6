"""What an API key looks like, and what of it is kept."""

import hashlib
import re
import string

import pytest

from ledger.api_keys.secret import PREFIX, is_key_id, new_key, read_key

A_KEY = new_key()


def test_keys_are_found_by_scanners_and_hold_256_random_bits() -> None:
    keys = {new_key() for _ in range(200)}
    assert len(keys) == 200
    for key in keys:
        assert re.fullmatch(r"lgk_[0-9a-z]{10}_[0-9A-Za-z]{49}", key)
    secret_letters = {letter for key in keys for letter in key[15:58]}
    assert secret_letters == set(string.ascii_letters + string.digits)
    assert 62**43 > 2**256


def test_what_is_kept_is_the_digest_of_the_whole_key() -> None:
    key = new_key()
    presented = read_key(key)
    assert presented is not None
    assert presented.id == key[4:14]
    assert is_key_id(presented.id)
    assert presented.digest == hashlib.sha256(key.encode()).digest()
    assert presented.is_that_of(hashlib.sha256(key.encode()).digest())
    assert not presented.is_that_of(hashlib.sha256(b"other").digest())


@pytest.mark.parametrize("place", range(0, 64, 3))
def test_a_mistyped_key_is_none(place: int) -> None:
    key = new_key()
    other = "b" if key[place] != "b" else "c"
    assert read_key(key[:place] + other + key[place + 1 :]) is None


@pytest.mark.parametrize(
    "text",
    ["", PREFIX, "lgk_" + "a" * 60, A_KEY[:-1], A_KEY + "a", f" {A_KEY}", A_KEY + "\n", "é" * 64],
    ids=["nothing", "prefix", "no parts", "shorter", "longer", "space before", "line after", "not ASCII"],
)
def test_what_cannot_be_a_key_is_none(text: str) -> None:
    assert read_key(text) is None


def test_a_key_is_no_id() -> None:
    assert not is_key_id(new_key())
    assert not is_key_id("0123456789\n")
