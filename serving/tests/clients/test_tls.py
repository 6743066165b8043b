"""TLS of the public port, with certificates made here: versions, ALPN, both protocols, services known by
their certificates, and certificates that change while the server runs."""

import datetime
import ipaddress
import socket
import ssl
import subprocess

import grpc
import httpx
import pytest
from conftest import KEY, free_ports, start, stop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from peers import wait_for
from test_tenants import cli, settled

BILLING = "spiffe://company.com/ns/billing/sa/billing-service"
VIEWER = "spiffe://company.com/ns/search/sa/search-service"
NOBODYS = "spiffe://company.com/ns/orphans/sa/orphan"


class Authority:
    """Signs certificates."""

    def __init__(self, name):
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = self.sign(self.name, self.key.public_key(), x509.BasicConstraints(ca=True, path_length=None))

    def sign(self, name, public_key, *extensions):
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = (x509.CertificateBuilder().subject_name(name).issuer_name(self.name).public_key(public_key)
                   .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(hours=1))
                   .not_valid_after(now + datetime.timedelta(hours=1)))
        for extension in extensions:
            builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        return builder.sign(self.key, hashes.SHA256())

    def issue(self, folder, name, *names):
        """A certificate with these names, and its key, as two files."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self.sign(subject, key.public_key(), x509.SubjectAlternativeName(names))
        paths = folder / f"{name}.pem", folder / f"{name}.key"
        private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        for path, content in zip(paths, (certificate.public_bytes(serialization.Encoding.PEM), private)):
            fresh = path.with_suffix(".new")
            fresh.write_bytes(content)
            fresh.rename(path)
        return certificate.serial_number

    def write(self, path):
        path.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))
        return path


LOCAL = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))


@pytest.fixture(scope="module")
def tls(request, tmp_path_factory):
    """A server that speaks TLS, and everything to speak with it."""
    folder = tmp_path_factory.mktemp("tls")
    authority, services = Authority("public"), Authority("mesh")
    authority.write(folder / "public-ca.pem")
    services.write(folder / "mesh-ca.pem")
    authority.issue(folder, "server", LOCAL, x509.DNSName("localhost"))
    for name, *uris in ("billing", BILLING), ("search", VIEWER), ("orphan", NOBODYS), ("stranger", "spiffe://elsewhere/x"), (
            "two", BILLING, VIEWER):
        services.issue(folder, name, *(x509.UniformResourceIdentifier(uri) for uri in uris))
    Authority("false").issue(folder, "forged", x509.UniformResourceIdentifier(BILLING))
    config = folder / "tls.toml"
    config.write_text(f"""
[tls]
certificate_file = "{folder}/server.pem"
key_file = "{folder}/server.key"
clients.authority_file = "{folder}/mesh-ca.pem"
[[tls.clients.identities]]
uri = "{BILLING}"
tenant = "platform"
[[tls.clients.identities]]
uri = "{VIEWER}"
tenant = "platform"
role = "viewer"
[[tls.clients.identities]]
uri = "{NOBODYS}"
tenant = "nobody"
""")
    server = start(request, folder, "--config", str(config))
    server.folder, server.authority = folder, authority
    cli(request, server, "tenants", "create", "platform", "--plan", "professional")
    yield server
    stop(server)


def context(server, client=None):
    made = ssl.create_default_context(cafile=server.folder / "public-ca.pem")
    if client:
        made.load_cert_chain(server.folder / f"{client}.pem", server.folder / f"{client}.key")
    return made


def ask(server, client=None, path="/v1/ml/sentiment", **options):
    with httpx.Client(verify=context(server, client), base_url=f"https://{server.api}", timeout=30) as http:
        return http.post(path, json={"inputs": "All good."}, **options)


def connect(server, made):
    host, port = server.api.split(":")
    return made.wrap_socket(socket.create_connection((host, int(port))), server_hostname=host)


@pytest.mark.parametrize("version, is_spoken", [("TLSv1_1", False), ("TLSv1_2", True), ("TLSv1_3", True)])
def test_versions(tls, version, is_spoken):
    made = context(tls)
    made.set_ciphers("DEFAULT@SECLEVEL=0")
    made.minimum_version = made.maximum_version = ssl.TLSVersion[version]
    if is_spoken:
        assert connect(tls, made).version().replace(".", "_") == version
    else:
        with pytest.raises(ssl.SSLError):
            connect(tls, made)


def test_alpn(tls):
    for offered, expected in (["h2", "http/1.1"], "h2"), (["http/1.1"], "http/1.1"), ([], None):
        made = context(tls)
        if offered:
            made.set_alpn_protocols(offered)
        assert connect(tls, made).selected_alpn_protocol() == expected, offered


def test_plain_http_is_not_spoken(tls):
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://{tls.api}/v1/ml/models")


def test_a_key_over_tls(tls):
    answer = ask(tls, headers={"Authorization": f"Bearer {KEY}"})
    assert answer.status_code == 200, answer.text
    assert answer.headers["strict-transport-security"] == "max-age=31536000; includeSubDomains"


def test_services_are_known_by_their_certificates(request, tls):
    assert ask(tls, "billing").status_code == 200
    check = [
        # client, its headers, status, code
        (None, {}, 401, "missing_credentials"),
        ("search", {}, 403, "forbidden"),
        ("orphan", {}, 403, "unknown_tenant"),
        ("stranger", {}, 401, "invalid_credentials"),
        # Two ids are none.
        ("two", {}, 401, "missing_credentials"),
        # A credential that is shown counts, not the certificate of whoever passes it on.
        ("billing", {"Authorization": "Bearer tc_live_wrong"}, 401, "invalid_credentials"),
    ]
    for client, headers, status, code in check:
        answer = ask(tls, client, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), client
    assert ask(tls, "search", headers={"Authorization": f"Bearer {KEY}"}).status_code == 200
    with pytest.raises(httpx.TransportError):
        ask(tls, "forged")
    assert settled(lambda: cli(request, tls, "usage", "platform")["total"]["completed"], 1) == 1


def test_grpc_with_a_certificate(tls, proto):
    files = [tls.folder / name for name in ("public-ca.pem", "billing.key", "billing.pem")]
    credentials = grpc.ssl_channel_credentials(*(path.read_bytes() for path in files))
    with grpc.secure_channel(tls.api, credentials) as channel:
        answer = proto.Stub(channel).Classify(proto.ClassifyRequest(inputs=["An invoice for October."]))
        assert answer.results


def test_certificates_change_without_a_restart(tls):
    """New files are taken over within seconds; connections stay; files that are no certificates change
    nothing."""
    def serial():
        with connect(tls, context(tls)) as connection:
            return x509.load_der_x509_certificate(connection.getpeercert(binary_form=True)).serial_number

    def turns_to(expected):
        return wait_for(lambda: serial() == expected)

    headers = {"Authorization": f"Bearer {KEY}"}
    with httpx.Client(verify=context(tls), base_url=f"https://{tls.api}", headers=headers) as old:
        assert old.get("/v1/ml/models").status_code == 200
        new = tls.authority.issue(tls.folder, "server", LOCAL)
        assert turns_to(new)
        assert old.get("/v1/ml/models").status_code == 200
        (tls.folder / "server.pem").write_text("no certificate")
        complaints = lambda: [line for line in tls.log_lines() if "cannot be used" in line["message"]]
        wait_for(complaints)
        assert serial() == new
        assert turns_to(tls.authority.issue(tls.folder, "server", LOCAL))
        # However often the bad file was looked at meanwhile.
        (complaint,) = complaints()
        assert "server.pem" in complaint["error"]


def test_what_cannot_be_used_is_said_before_anything_is_loaded(request, tmp_path):
    def failure(text):
        config = tmp_path / "bad.toml"
        config.write_text(text)
        ports = [f"127.0.0.1:{port}" for port in free_ports(2)]
        command = [request.config.getoption("--binary"), "serve", "--config", str(config), "--listen", ports[0], "--ops-listen",
                   ports[1], "--state-dir", str(tmp_path / "state")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
        assert done.returncode == 1
        return done.stderr

    files = f'certificate_file = "{tmp_path}/none.pem"\nkey_file = "{tmp_path}/none.key"'
    assert "none.pem: No such file" in failure(f"[tls]\n{files}")
    (tmp_path / "none.pem").write_text("")
    (tmp_path / "none.key").write_text("")
    assert "none.pem: there is no certificate in it" in failure(f"[tls]\n{files}")
    assert "line 4, column" in failure(f'[tls]\n{files}\nversion_min = "1.1"')
    identities = '[[tls.clients.identities]]\nuri = "https://x"\ntenant = "a"'
    assert "identities[0].uri" in failure(f'[tls]\n{files}\nclients.authority_file = "x"\n{identities}')
