"""The certificate that the gateway makes for itself at its first start, and what TLS it speaks.

It is its own authority: a client that is given `certificate.pem` trusts this gateway and nobody else. An
administrator may put another pair in its place.
"""

import ipaddress
import os
import socket
import ssl
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CERTIFICATE = "certificate.pem"
KEY = "key.pem"
VALID = timedelta(days=3650)
"""Clients pin it, so a new one is work for people; whoever wants a short life puts in their own."""
_SKEW = timedelta(days=1)
"""Clocks of clients may be behind."""


def files(folder: Path, names: Iterable[str], now: datetime) -> tuple[Path, Path]:
    """Certificate and key in `folder`; made for this host and `names` when there are none."""
    certificate, key = folder / CERTIFICATE, folder / KEY
    if not (certificate.exists() and key.exists()):
        folder.mkdir(parents=True, exist_ok=True)
        made = make(["localhost", "127.0.0.1", "::1", socket.gethostname(), *names], now)
        write_private(key, made[1])
        _write_whole(certificate, made[0], 0o644)
    return certificate, key


def make(names: Iterable[str], now: datetime) -> tuple[bytes, bytes]:
    """A self-signed certificate for these hosts and its key, both PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Nano gateway")])
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + VALID)
        .add_extension(x509.SubjectAlternativeName([_name(name) for name in dict.fromkeys(names)]), False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)
        .add_extension(identifier, False)
        .sign(key, hashes.SHA256())
    )
    return (
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )


def _name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def write_private(path: Path, content: bytes) -> None:
    """A file that only its owner can read, whole or not at all."""
    _write_whole(path, content, 0o600)


def _write_whole(path: Path, content: bytes, mode: int) -> None:
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)  # whatever the umask says
        file.write(content)
        file.flush()
        os.fsync(descriptor)
    part.replace(path)


def context(certificate: Path, key: Path) -> ssl.SSLContext:
    """TLS 1.2 and later, with the library's own choice of ciphers."""
    made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.load_cert_chain(certificate, key)
    made.set_alpn_protocols(["http/1.1"])
    return made
