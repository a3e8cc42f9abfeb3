"""A certificate authority that issues short-lived SPIFFE identities (EC P-256)."""

import datetime
import os

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from . import xds

# Certificates are valid from a little before they are made: clocks differ.
SKEW = datetime.timedelta(minutes=2)


def _now():
    return datetime.datetime.now(datetime.timezone.utc)


def _pem(certificate):
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key):
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                             serialization.NoEncryption())


class Identity:
    """One certificate with its key: `uri`, `serial` (lower-case hex), `chain_pem`, `key_pem`."""

    def __init__(self, certificate, key, uri):
        self.certificate = certificate
        self.uri = uri
        self.serial = f"{certificate.serial_number:x}"
        self.chain_pem = _pem(certificate)
        self.key_pem = _key_pem(key)

    def write(self, folder):
        """write puts cert.pem and key.pem into `folder` and returns both paths."""
        paths = []
        for name, data in (("cert.pem", self.chain_pem), ("key.pem", self.key_pem)):
            path = os.path.join(folder, name)
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
                out.write(data)
            paths.append(path)
        return tuple(paths)


class Authority:
    """A root of trust for one trust domain."""

    def __init__(self, trust_domain="cluster.local", folder=None):
        """The root is kept in `folder` when one is given, and found there again the next time."""
        self.trust_domain = trust_domain
        key_file = os.path.join(folder, "root-key.pem") if folder else None
        root_file = os.path.join(folder, "root-cert.pem") if folder else None
        if key_file and os.path.exists(key_file):
            with open(key_file, "rb") as src:
                self._key = serialization.load_pem_private_key(src.read(), None)
            with open(root_file, "rb") as src:
                self._root = x509.load_pem_x509_certificate(src.read())
        else:
            self._key = ec.generate_private_key(ec.SECP256R1())
            self._root = self._make_root()
            if folder:
                os.makedirs(folder, mode=0o700, exist_ok=True)
                with open(root_file, "wb") as out:
                    out.write(_pem(self._root))
                with open(os.open(key_file, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as out:
                    out.write(_key_pem(self._key))
        self._older_roots = b""

    def _make_root(self):
        name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, self.trust_domain)])
        return (x509.CertificateBuilder()
                .subject_name(name).issuer_name(name)
                .public_key(self._key.public_key())
                .serial_number(x509.random_serial_number())
                .not_valid_before(_now() - SKEW)
                .not_valid_after(_now() + datetime.timedelta(days=1))
                .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
                .add_extension(x509.KeyUsage(
                    digital_signature=False, content_commitment=False, key_encipherment=False,
                    data_encipherment=False, key_agreement=False, key_cert_sign=True,
                    crl_sign=True, encipher_only=None, decipher_only=None), critical=True)
                .add_extension(x509.SubjectKeyIdentifier.from_public_key(
                    self._key.public_key()), critical=False)
                .sign(self._key, hashes.SHA256()))

    @property
    def roots_pem(self):
        """roots_pem is what a peer must trust: the root, and earlier ones after rotate_root."""
        return _pem(self._root) + self._older_roots

    def rotate_root(self):
        """rotate_root makes a new root; the earlier ones stay in roots_pem."""
        self._older_roots = self.roots_pem
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._root = self._make_root()

    def spiffe(self, service_account, namespace="demo"):
        """spiffe is the identity of a service account, as Istio writes it."""
        return f"spiffe://{self.trust_domain}/ns/{namespace}/sa/{service_account}"

    def issue(self, uri, lifetime=3600, dns=(), starts=None, client=True, server=True):
        """issue makes an identity with the URI SAN `uri` (None: no URI), valid for `lifetime`
        seconds from `starts` (a datetime; default: shortly before now)."""
        key = ec.generate_private_key(ec.SECP256R1())
        starts = starts or _now() - SKEW
        usages = ([ExtendedKeyUsageOID.CLIENT_AUTH] if client else []) + (
            [ExtendedKeyUsageOID.SERVER_AUTH] if server else [])
        names = [x509.DNSName(name) for name in dns]
        if uri:
            names.append(x509.UniformResourceIdentifier(uri))
        builder = (x509.CertificateBuilder()
                   .subject_name(x509.Name([])).issuer_name(self._root.subject)
                   .public_key(key.public_key())
                   .serial_number(x509.random_serial_number())
                   .not_valid_before(starts)
                   .not_valid_after(starts + SKEW + datetime.timedelta(seconds=lifetime))
                   .add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
                   .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(
                       self._key.public_key()), False)
                   .add_extension(x509.KeyUsage(
                       digital_signature=True, content_commitment=False, key_encipherment=False,
                       data_encipherment=False, key_agreement=False, key_cert_sign=False,
                       crl_sign=False, encipher_only=None, decipher_only=None), True))
        if names:  # an empty subject makes the SAN critical (RFC 5280, 4.2.1.6)
            builder = builder.add_extension(x509.SubjectAlternativeName(names), True)
        if usages:
            builder = builder.add_extension(x509.ExtendedKeyUsage(usages), False)
        return Identity(builder.sign(self._key, hashes.SHA256()), key, uri)

    def secret_identity(self, identity, name="default"):
        """secret_identity is the Secret that hands `identity` to a proxy."""
        secret = xds.message_class("Secret")(name=name)
        secret.tls_certificate.certificate_chain.inline_bytes = identity.chain_pem
        secret.tls_certificate.private_key.inline_bytes = identity.key_pem
        return secret

    def secret_roots(self, name="ROOTCA"):
        """secret_roots is the Secret with the roots to trust."""
        secret = xds.message_class("Secret")(name=name)
        secret.validation_context.trusted_ca.inline_bytes = self.roots_pem
        return secret
