"""The gateway's own certificate is trusted by whoever is given it, for the names that it is reached by."""

import socket
import ssl
import stat
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from nano.web import certificate


def test_a_pair_is_made_once_and_kept(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    first = [
        path.read_bytes() for path in certificate.files(tmp_path / "tls", ["10.0.0.7", "nano.test"], now)
    ]
    again = [path.read_bytes() for path in certificate.files(tmp_path / "tls", [], now)]
    assert first == again
    assert stat.S_IMODE((tmp_path / "tls" / certificate.KEY).stat().st_mode) == 0o600
    names = x509.load_pem_x509_certificate(first[0]).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    hosts = names.value.get_values_for_type(x509.DNSName)
    assert {"localhost", socket.gethostname(), "nano.test"} <= set(hosts)
    addresses = map(str, names.value.get_values_for_type(x509.IPAddress))
    assert {"127.0.0.1", "::1", "10.0.0.7"} <= set(addresses)


def test_a_client_that_trusts_the_file_speaks_tls_with_us(tmp_path: Path) -> None:
    pair = certificate.files(tmp_path, [], datetime.now(UTC))
    trust = ssl.create_default_context(cafile=str(pair[0]))
    for name in ("127.0.0.1", "localhost"):
        ours, theirs = ssl.MemoryBIO(), ssl.MemoryBIO()
        serving = certificate.context(*pair).wrap_bio(theirs, ours, server_side=True)
        asking = trust.wrap_bio(ours, theirs, server_hostname=name)
        for end in (asking, serving, asking, serving):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
        assert asking.version() == "TLSv1.3"
