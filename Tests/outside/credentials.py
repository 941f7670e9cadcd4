"""Tokens as an API server issues them, and certificates as cert-manager does: signed by keys of the test's own."""

import base64
import datetime
import ipaddress
import json
import time
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

ISSUER = "https://kubernetes.default.svc.cluster.local"


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def number(value):
    return b64(value.to_bytes((value.bit_length() + 7) // 8, "big"))


class Key:
    """What an issuer signs with: RS256, as kubeadm's clusters, or ES256."""

    def __init__(self, name, algorithm="RS256"):
        self.name, self.algorithm = name, algorithm
        if algorithm == "RS256":
            self.private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        else:
            self.private = ec.generate_private_key(ec.SECP256R1())

    def jwk(self):
        numbers = self.private.public_key().public_numbers()
        parts = {"kid": self.name, "use": "sig", "alg": self.algorithm}
        if self.algorithm == "RS256":
            return parts | {"kty": "RSA", "n": number(numbers.n), "e": number(numbers.e)}
        return parts | {
            "kty": "EC", "crv": "P-256", "x": b64(numbers.x.to_bytes(32, "big")), "y": b64(numbers.y.to_bytes(32, "big"))}

    def sign(self, claims, **header):
        parts = [{"alg": self.algorithm, "kid": self.name} | header, claims]
        text = ".".join(b64(json.dumps(part).encode()) for part in parts)
        if self.algorithm == "RS256":
            signature = self.private.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
        else:
            r, s = decode_dss_signature(self.private.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
            signature = r.to_bytes(32, "big") + s.to_bytes(32, "big")
        return f"{text}.{b64(signature)}"


def claims(account="holdfast/holdfast-agent", node="node-a", **changes):
    """Of a pod's bound token, as the API server writes them since 1.30; `name=None` leaves a claim out."""
    namespace, name = account.split("/")
    now = int(time.time())
    kubernetes = {
        "namespace": namespace, "serviceaccount": {"name": name, "uid": "5e1f"},
        "pod": {"name": f"{name}-x7k2p", "uid": "9d3c"}, "warnafter": now + 3607}
    if node:
        kubernetes["node"] = {"name": node, "uid": "11aa"}
    whole = {
        "iss": ISSUER, "sub": f"system:serviceaccount:{namespace}:{name}", "aud": ["holdfast"], "iat": now, "nbf": now,
        "exp": now + 3600, "jti": "a-b-c", "kubernetes.io": kubernetes}
    return {name: value for name, value in (whole | changes).items() if value is not None}


def write_keys(path, *keys):
    replace(path, json.dumps({"keys": [key.jwk() for key in keys]}))


def replace(path, content):
    """At once, as the kubelet does: nobody reads half a file."""
    part = Path(f"{path}.part")
    part.write_text(content)
    part.rename(path)


class Authority:
    """A CA, and certificates that it signs."""

    def __init__(self, name="ca"):
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self._sign(name, self.key, None, [], datetime.timedelta(days=1))

    @property
    def pem(self):
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    def _sign(self, name, key, issuer, names, life):
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = (
            x509.CertificateBuilder().subject_name(subject).issuer_name(issuer.subject if issuer else subject)
            .public_key(key.public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=2)).not_valid_after(now + life)
            .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True))
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        if issuer:
            usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
            builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        return builder.sign(self.key, hashes.SHA256())

    def issue(self, name, life=datetime.timedelta(days=1)):
        """(certificate, key) in PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        certificate = self._sign(name, key, self.certificate, names, life)
        return (
            certificate.public_bytes(serialization.Encoding.PEM).decode(),
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode())

    def client(self, name=None):
        """A gRPC client's credentials, with a certificate where it has a name."""
        certificate, key = self.issue(name) if name else (None, None)
        return grpc.ssl_channel_credentials(
            self.pem.encode(), key and key.encode(), certificate and certificate.encode())


class Mounted:
    """A Secret as the kubelet mounts it: the files are links through `..data`, which is swapped."""

    def __init__(self, folder):
        self.folder, self.version = Path(folder), 0
        self.folder.mkdir()

    def write(self, **files):
        self.version += 1
        data = self.folder / f"..{self.version}"
        data.mkdir()
        for name, content in files.items():
            (data / name.replace("_", ".")).write_text(content)
        link = self.folder / "..data_tmp"
        link.symlink_to(data.name)
        link.rename(self.folder / "..data")
        for name in files:
            path = self.folder / name.replace("_", ".")
            if not path.is_symlink():
                path.symlink_to(f"..data/{path.name}")

    def path(self, name):
        return str(self.folder / name)
