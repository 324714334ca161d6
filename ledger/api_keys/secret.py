"""What an API key looks like, and what of it is kept.

A key is `lgk_<id>_<secret><checksum>`. The id is no secret: it names the key in lists and logs. The secret is 256
random bits, so that one SHA-256 of it is all that must be kept: nobody can try so many, and a slow hash, which protects
words that people choose, would only slow every request down. The prefix lets scanners find a key that was published by
mistake; the checksum tells a mistyped one from an unknown one without asking anybody.
"""

import hashlib
import hmac
import re
import secrets
import string
import zlib
from dataclasses import dataclass
from typing import Final

PREFIX: Final = "lgk_"
ID_CHARACTERS: Final = 10
SECRET_CHARACTERS: Final = 43
"""Of 62 letters and digits: 256 bits."""

CHECKSUM_CHARACTERS: Final = 6

_ALPHABET: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase
_KEY: Final = re.compile(
    rf"{PREFIX}(?P<id>[0-9a-z]{{{ID_CHARACTERS}}})_[0-9A-Za-z]{{{SECRET_CHARACTERS + CHECKSUM_CHARACTERS}}}", re.ASCII
)
_ID: Final = re.compile(rf"[0-9a-z]{{{ID_CHARACTERS}}}", re.ASCII)


@dataclass(frozen=True, slots=True)
class PresentedKey:
    """A key as a caller shows it: which one it claims to be, and the digest that must be the one that is kept."""

    id: str
    digest: bytes

    def is_that_of(self, digest: bytes) -> bool:
        """Whether the digest is the kept one; takes the same time wherever the two begin to differ."""
        return hmac.compare_digest(self.digest, digest)


def new_key() -> str:
    """A key that nobody has; to be shown once, and kept as its digest only."""
    identity = "".join(secrets.choice(string.digits + string.ascii_lowercase) for _ in range(ID_CHARACTERS))
    secret = "".join(secrets.choice(_ALPHABET) for _ in range(SECRET_CHARACTERS))
    body = f"{PREFIX}{identity}_{secret}"
    return body + _checksum(body)


def read_key(text: str) -> PresentedKey | None:
    """Read what a caller shows; None when no key can look so."""
    found = _KEY.fullmatch(text)
    if found is None or _checksum(text[:-CHECKSUM_CHARACTERS]) != text[-CHECKSUM_CHARACTERS:]:
        return None
    return PresentedKey(found["id"], hashlib.sha256(text.encode()).digest())


def is_key_id(text: str) -> bool:
    """Whether a key could have this id."""
    return _ID.fullmatch(text) is not None


def _checksum(body: str) -> str:
    number = zlib.crc32(body.encode())
    characters = []
    for _ in range(CHECKSUM_CHARACTERS):
        number, digit = divmod(number, len(_ALPHABET))
        characters.append(_ALPHABET[digit])
    return "".join(characters)
