"""The proxy's own certificate authority: it vouches to sandboxes for hosts that secrets go to.

Its key lives as long as the worker, so that a new proxy process can go on with the sandboxes of a
dead one; it is in memory only. It vouches to nobody but the sandboxes of this worker.
"""

import datetime
import os
import ssl
from collections import OrderedDict
from collections.abc import Callable

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_NAME = "Peritus egress proxy"
AUTHORITY_LIFE = datetime.timedelta(days=365)
LEAF_LIFE = datetime.timedelta(days=2)
LEAF_RENEWED_BEFORE = datetime.timedelta(days=1)
CLOCKS_DIFFER = datetime.timedelta(hours=1)
HOSTS_MAX = 500
NAME_MAX = 64  # characters of a common name (RFC 5280); the alternative name has it whole

Now = Callable[[], datetime.datetime]


class Authority:
    """A certificate authority, and a certificate for each host it was asked for."""

    def __init__(self, pem: bytes, now: Now) -> None:
        """Of the key and certificate that `create` returned."""
        key = serialization.load_pem_private_key(pem, password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            msg = "the authority's key is of another kind"
            raise TypeError(msg)
        self._key = key
        self._certificate = x509.load_pem_x509_certificate(pem)
        self._now = now
        self._leaf_key = ec.generate_private_key(ec.SECP256R1())
        self._leaf_key_pem = _key_pem(self._leaf_key)
        self._contexts: OrderedDict[str, tuple[datetime.datetime, ssl.SSLContext]] = OrderedDict()

    @property
    def certificate(self) -> bytes:
        """What sandboxes are to trust, as PEM."""
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    def context(self, host: str) -> ssl.SSLContext:
        """What to serve TLS with as that host."""
        ends, context = self._contexts.get(host, (None, None))
        if ends is None or context is None or self._now() > ends - LEAF_RENEWED_BEFORE:
            ends = self._now() + LEAF_LIFE
            context = self._serving(host, ends)
        self._contexts[host] = (ends, context)
        self._contexts.move_to_end(host)
        while len(self._contexts) > HOSTS_MAX:
            self._contexts.popitem(last=False)
        return context

    def _serving(self, host: str, ends: datetime.datetime) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        # OpenSSL reads certificates from files only: this one is in memory.
        descriptor = os.memfd_create("leaf", os.MFD_CLOEXEC)
        try:
            with os.fdopen(descriptor, "wb", closefd=False) as file:
                file.write(self._leaf_key_pem + self._leaf(host, ends) + self.certificate)
            context.load_cert_chain(f"/proc/self/fd/{descriptor}")
        finally:
            os.close(descriptor)
        return context

    def _leaf(self, host: str, ends: datetime.datetime) -> bytes:
        public = self._leaf_key.public_key()
        certificate = (
            x509.CertificateBuilder()
            .subject_name(_name(host))
            .issuer_name(self._certificate.subject)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(self._now() - CLOCKS_DIFFER)
            .not_valid_after(ends)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.PEM)


def create(now: Now) -> bytes:
    """A new authority: its key and certificate, as PEM. Whoever has them can vouch as it does."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(AUTHORITY_NAME)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now() - CLOCKS_DIFFER)
        .not_valid_after(now() + AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_signs_only(), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return _key_pem(key) + certificate.public_bytes(serialization.Encoding.PEM)


def _signs_only() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:NAME_MAX])])


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
