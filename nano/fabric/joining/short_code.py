"""The short code that two ends of a link show to people, who compare it: equal codes, nobody in between.

It is made of what identifies both ends and of a nonce of each. Neither end, and nobody who stands between
them, may choose the code, since eight letters are found by trial in no time by whoever can try alone. So
the applicant says first what it will say (`commitment`), the scheduler then names its own nonce, and only
then the applicant opens the commitment: whoever sits between has one try for each code of the applicant's. At
the scheduler he may collect as many codes as he likes, so an applicant makes new ones ever more slowly.

    applicant                                      scheduler
    commitment = SHA-256(Na)            ->
                                        <-         challenge = Ns
    nonce = Na                          ->         opens the commitment?
                         both: code(applicant's key, authority, Na, Ns)
"""

import hashlib
import hmac

NONCE_BYTES = 32

_DOMAIN = b"nano join"
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's: no letter that is taken for another
_LETTERS = 8
_BITS = 5
_GROUP = 4


def commitment_to(nonce: bytes) -> bytes:
    """What is said of `nonce` before it is said itself."""
    return hashlib.sha256(nonce).digest()


def opens(nonce: bytes, commitment: bytes) -> bool:
    """Whether `nonce` is the one that was committed to."""
    return len(nonce) == NONCE_BYTES and hmac.compare_digest(commitment_to(nonce), commitment)


def short_code(applicant: bytes, authority: bytes, applicant_nonce: bytes, scheduler_nonce: bytes) -> str:
    """The code, such as `7K2M-Q0XD`.

    `applicant` is the SubjectPublicKeyInfo of the applicant's key, `authority` the authority's certificate,
    both DER. Each part has a length of its own or a fixed one, so that no two inputs give one hash input.
    """
    parts = (applicant, authority, applicant_nonce, scheduler_nonce)
    digest = hashlib.sha256(_DOMAIN + b"".join(parts)).digest()
    number = int.from_bytes(digest[: _LETTERS * _BITS // 8], "big")
    letters = [
        _ALPHABET[number >> shift & (1 << _BITS) - 1] for shift in range((_LETTERS - 1) * _BITS, -1, -_BITS)
    ]
    return "".join(letters[:_GROUP]) + "-" + "".join(letters[_GROUP:])
