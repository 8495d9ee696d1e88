"""A certificate for ``localhost``, made anew."""

import shutil
import subprocess
from pathlib import Path
from ssl import Purpose, SSLContext, create_default_context

__all__ = ["localhost_certificate"]


def localhost_certificate(folder: Path) -> tuple[Path, SSLContext]:
    """A certificate for ``localhost``, which is its own authority, and a context that shows it."""
    openssl = shutil.which("openssl")
    if openssl is None:
        raise FileNotFoundError("there is no openssl to make a certificate with")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    kind = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    names = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost")
    files = ("-keyout", str(key), "-out", str(certificate))
    subprocess.run(
        [openssl, "req", "-x509", *kind, *files, *names], check=True, capture_output=True
    )
    context = create_default_context(Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    return certificate, context
