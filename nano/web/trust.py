"""By what a client judges the certificate of a server of ours."""

import ssl

from nano.model.errors import Invalid


def trusted(certificate: str) -> ssl.SSLContext | bool:
    """That file, which is its own authority; or, where it is empty, what the system trusts."""
    if not certificate:
        return True
    try:
        return ssl.create_default_context(cafile=certificate)
    except OSError as error:  # an SSLError is one too
        raise Invalid(
            "certificate", f"certificate {certificate} cannot be used: {error.strerror}; correct the settings"
        ) from error
