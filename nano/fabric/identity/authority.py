"""The zone's own certificate authority.

One file holds all of it, key and certificate, and appears by a single rename: after kill -9 at any moment
there is no authority or a whole one. The zone's id and name are read out of the certificate, so that nothing
beside it can contradict it. The certificate alone is kept in a second file for whoever has to trust it; that
one can be made again and is, at each start.

While a zone moves from one authority to the next there are several such files. Which of them are trusted, and
which one signs, is said by the scheduler's book (`follow`); a file that the book does not name was made for a
change that never began, or is left of one that is over, and goes (`forget_others`).
"""

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from nano.fabric.identity.identity import SCHEME, authority_fingerprint, dns_name, uri
from nano.files import replace_file, sync_folder
from nano.model import names
from nano.model.errors import Corrupt, Invalid
from nano.model.peers import Peer, Role

LIFETIME = timedelta(days=7)
"""How long a peer's certificate is valid: a stolen one ends soon, and a scheduler may be away for days."""

BACKDATED = timedelta(minutes=15)
"""How far before its making a certificate begins. Hosts share no clock: to one that lags some minutes behind
the authority a fresh certificate would not be valid yet. Its end stays put, so nothing lives longer."""

AUTHORITY_LIFETIME = timedelta(days=365 * 30)
"""Longer than any installation: an authority that ends takes the whole zone with it."""

AUTHORITY_BACKDATED = timedelta(days=365)
"""A first start with a clock that is far ahead and set right later must not leave a zone of the future."""

AUTHORITY_FILE = "authority.pem"
_NEXT_FILE = "authority-{}.pem"
_FILES = "authority*.pem"
CERTIFICATE_FILE = "ca.pem"
_LAX = 0o077
_DERIVED = b"nano derived"
_SCALAR_BYTES = 32  # of a key on P-256
_LENGTH_BYTES = 4
_COMMON_NAME_LIMIT = 64  # X.520, ub-common-name; nothing but people reads it


@dataclass(frozen=True, slots=True)
class Zone:
    """A whole installation. `id` is random, so two zones of one name on one network are never mixed up."""

    id: str
    name: str


class Authority:
    """Signs the certificates of one zone's peers. `ca_file` holds what peers trust, readable by all."""

    def __init__(self, folder: Path, signers: Sequence["_Signer"]) -> None:
        self._folder = folder
        self._signers = {each.fingerprint: each for each in signers}
        self._trusted = list(self._signers)
        self.ca_file = folder / CERTIFICATE_FILE
        self.zone = zone_of(self.certificate)

    @classmethod
    def open(cls, folder: Path, now: datetime, *, name: str = SCHEME) -> Self:
        """The authority kept in `folder`; at the first start of a zone, a new one called `name`.

        One that cannot be read is `Corrupt` and stays as it is: to make another would cut off every peer.
        """
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        if not any(folder.glob(_FILES)):
            zone = Zone(secrets.token_hex(8), names.plain("name", name))
            replace_file(folder / AUTHORITY_FILE, _new_authority(zone, now), mode=0o600)
        authority = cls(folder, [_read(path) for path in sorted(folder.glob(_FILES), key=_first_one_first)])
        authority._write_bundle()
        return authority

    @property
    def certificate(self) -> x509.Certificate:
        """Of the one that signs."""
        return self._signer.certificate

    @property
    def fingerprint(self) -> str:
        """Of the one that signs."""
        return self._trusted[0]

    @property
    def trusted(self) -> tuple[str, ...]:
        """Fingerprints of those whose certificates are accepted; the first one signs."""
        return tuple(self._trusted)

    @property
    def certificates(self) -> tuple[x509.Certificate, ...]:
        """Of those who are trusted; the first one signs."""
        return tuple(self._signers[each].certificate for each in self._trusted)

    @property
    def pems(self) -> tuple[str, ...]:
        """`certificates` in PEM."""
        return tuple(pem_of(each) for each in self.certificates)

    def make_next(self, now: datetime) -> str:
        """Another authority of the same zone, durable, trusted by nobody until `follow` names it."""
        content = _new_authority(self.zone, now)
        fingerprint = authority_fingerprint(x509.load_pem_x509_certificate(content))
        path = self._folder / _NEXT_FILE.format(fingerprint[:16])
        replace_file(path, content, mode=0o600)
        self._signers[fingerprint] = _read(path)
        return fingerprint

    def follow(self, trusted: Sequence[str]) -> None:
        """Trust these from now on, and sign by the first. `Corrupt` when there is no file for one of them."""
        missing = [each for each in trusted if each not in self._signers]
        if missing or not trusted:
            raise Corrupt(
                f"the zone trusts the authority {', '.join(missing) or '(none)'}, for which {self._folder} "
                "has no file: put it back from a backup that was made together with the scheduler's books",
                subject=str(self._folder),
            )
        self._trusted = list(trusted)
        self._write_bundle()

    def derive(self, *parts: bytes) -> bytes:
        """32 bytes that only the authority that signs can make of `parts`, and makes again each time."""
        secret = self._signer.key.private_numbers().private_value.to_bytes(_SCALAR_BYTES, "big")
        digest = hmac.new(hashlib.sha256(_DERIVED + secret).digest(), digestmod=hashlib.sha256)
        for part in parts:
            digest.update(len(part).to_bytes(_LENGTH_BYTES, "big") + part)
        return digest.digest()

    def forget_others(self) -> None:
        """Delete the keys of those who are not trusted. To be called once that they are not is durable."""
        for fingerprint in self._signers.keys() - set(self._trusted):
            self._signers.pop(fingerprint).path.unlink(missing_ok=True)
            sync_folder(self._folder)

    @property
    def _signer(self) -> "_Signer":
        return self._signers[self._trusted[0]]

    def _write_bundle(self) -> None:
        bundle = "".join(self.pems).encode()
        if not self.ca_file.exists() or self.ca_file.read_bytes() != bundle:
            replace_file(self.ca_file, bundle, mode=0o644)

    def issue(self, request: x509.CertificateSigningRequest, peer: Peer, now: datetime) -> x509.Certificate:
        """A certificate for the key of `request` that names `peer`, from `now` on for `LIFETIME`.

        Only the key is taken from the request: what a peer is called is said by whoever lets it in.
        """
        key = _key_of(request)
        names.plain("id", peer.id)
        if peer.role is Role.APPLICANT:
            raise Invalid(
                "role", "an applicant has no certificate of the zone: it asks for one as what it will be"
            )
        builder = (
            x509.CertificateBuilder()
            .subject_name(_subject(self.zone.id, f"{peer.role} {peer.id}"[:_COMMON_NAME_LIMIT]))
            .issuer_name(self.certificate.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - BACKDATED)
            .not_valid_after(now + LIFETIME)
        )
        for extension, critical in self._peer_extensions(key, peer):
            builder = builder.add_extension(extension, critical=critical)
        return builder.sign(self._signer.key, hashes.SHA256())

    def _peer_extensions(
        self, key: ec.EllipticCurvePublicKey, peer: Peer
    ) -> list[tuple[x509.ExtensionType, bool]]:
        own_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._signer.key.public_key())
        return [
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (_key_usage(authority=False), True),
            (
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]),
                False,
            ),
            (
                x509.SubjectAlternativeName(
                    [
                        x509.UniformResourceIdentifier(uri(self.zone.id, peer)),
                        x509.DNSName(dns_name(self.zone.id, peer)),
                    ]
                ),
                False,
            ),
            (x509.SubjectKeyIdentifier.from_public_key(key), False),
            (own_key, False),
        ]


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """`key` as it is kept on disk: PKCS #8 in PEM, not encrypted; the file's mode protects it."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def pem_of(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _new_authority(zone: Zone, now: datetime) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _subject(zone.id, zone.name)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - AUTHORITY_BACKDATED)
        .not_valid_after(now + AUTHORITY_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return key_pem(key) + certificate.public_bytes(serialization.Encoding.PEM)


@dataclass(frozen=True, slots=True)
class _Signer:
    """One authority: its file, and what is in it."""

    path: Path
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def fingerprint(self) -> str:
        return authority_fingerprint(self.certificate)


def _first_one_first(path: Path) -> tuple[bool, str]:
    return path.name != AUTHORITY_FILE, path.name


def _read(path: Path) -> _Signer:
    if path.stat().st_mode & _LAX:  # a restore by plain copy
        path.chmod(0o600)
    content = path.read_bytes()
    try:
        key = serialization.load_pem_private_key(content, password=None)
        certificate = x509.load_pem_x509_certificate(content)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _damaged(path, str(error)) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise _damaged(path, "its key and its certificate do not belong together")
    return _Signer(path, key, certificate)


def _damaged(path: Path, why: str) -> Corrupt:
    return Corrupt(
        f"the zone's authority {path} cannot be read ({why}): put it back from a backup; a new one would cut "
        "off every peer of the zone",
        subject=str(path),
    )


def zone_of(certificate: x509.Certificate) -> Zone:
    """The zone whose authority shows `certificate`; `Corrupt` if it names none."""
    try:
        (zone,) = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
        (name,) = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return Zone(names.plain("zone", str(zone.value)), str(name.value))
    except (ValueError, Invalid) as error:
        raise Corrupt("the authority's certificate names no zone: it is not one of Nano's") from error


def _key_of(request: x509.CertificateSigningRequest) -> ec.EllipticCurvePublicKey:
    try:
        key, proven = request.public_key(), request.is_signature_valid
    except (ValueError, UnsupportedAlgorithm) as error:
        raise Invalid("csr", f"the key of the signing request cannot be read: {error}") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise Invalid("csr", "the signing request is not for an ECDSA key on P-256: make such a key")
    if not proven:
        raise Invalid("csr", "the signing request is not signed by its own key")
    return key


def _subject(zone: str, common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, zone),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
