"""TLS contexts of Python's ssl for both ends, from identities of the control plane's authority."""

import os
import socket
import ssl
import tempfile

from cryptography import x509

from .http1 import Client


def context(authority, identity=None, server=False, alpn=(), require=True):
    """context is an SSL context that trusts the authority and shows `identity`."""
    kind = ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT
    made = ssl.SSLContext(kind)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_REQUIRED if require else ssl.CERT_NONE
    made.load_verify_locations(cadata=authority.roots_pem.decode())
    if identity:
        with tempfile.TemporaryDirectory() as folder:
            made.load_cert_chain(*identity.write(folder))
    if alpn:
        made.set_alpn_protocols(list(alpn))
    return made


def connect(port, tls, sni="test", timeout=10):
    """connect is a Client over TLS."""
    raw = socket.create_connection(("127.0.0.1", port), timeout=timeout)
    try:
        return Client(port, sock=tls.wrap_socket(raw, server_hostname=sni))
    except BaseException:
        raw.close()
        raise


def peer(client):
    """peer is the certificate that the other end shows."""
    return x509.load_der_x509_certificate(client.sock.getpeercert(binary_form=True))


def refused(port, tls, alpn=()):
    """refused says whether a handshake (or, in TLS 1.3, the first exchange after it) fails."""
    try:
        with connect(port, tls) as client:
            client.ask()
        return False
    except (ssl.SSLError, ConnectionError):
        return True
    except Exception as error:  # Closed: the alert came after our side was done
        return type(error).__name__ == "Closed"


def socket_path(folder):
    """socket_path is a path for a Unix socket that is short enough (107 bytes)."""
    path = os.path.join(str(folder), "s")
    return path if len(path) < 100 else tempfile.mktemp(prefix="attache-", dir="/tmp")
