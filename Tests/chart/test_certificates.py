"""TLS: certificates that Helm makes fit, and stay the same for as long as they fit."""

import base64
import json
import ssl

import pytest
import yaml
from api_server import APIServer
from chart import helms, merged, IMAGE, one, render, template

programs = pytest.mark.parametrize("program", helms(), ids=lambda path: path.rsplit("/", 1)[-1])


def files(secret, folder):
    folder.mkdir(exist_ok=True)
    for name, content in secret["data"].items():
        (folder / name).write_bytes(base64.b64decode(content))
    return folder


def greet(server_files, client_files, name):
    """A TLS handshake in memory, with certificates on both sides. Gives back the name that the client has shown."""
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=server_files / "ca.crt")
    server.load_cert_chain(server_files / "tls.crt", server_files / "tls.key")
    server.verify_mode = ssl.CERT_REQUIRED
    client = ssl.create_default_context(cafile=client_files / "ca.crt")
    client.load_cert_chain(client_files / "tls.crt", client_files / "tls.key")
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [server.wrap_bio(to_server, to_client, server_side=True),
             client.wrap_bio(to_client, to_server, server_hostname=name)]
    open_sides = list(sides)
    for _ in range(20):
        for side in list(open_sides):
            try:
                side.do_handshake()
                open_sides.remove(side)
            except ssl.SSLWantReadError:
                pass
    assert not open_sides
    return dict(pair for part in sides[0].getpeercert()["subject"] for pair in part)["commonName"]


@programs
def test_the_certificates_fit_each_other_and_every_name_of_the_server(program, tmp_path):
    objects = render({"tls": {"extraNames": ["ipam.example", "192.0.2.7", "2001:db8::7"]}}, program)
    server = files(one(objects, "Secret", "holdfast-server-tls"), tmp_path / "server")
    client = files(one(objects, "Secret", "holdfast-client-tls"), tmp_path / "client")
    agent = one(objects, "DaemonSet")["spec"]["template"]["spec"]["containers"][0]
    target = next(it["value"] for it in agent["env"] if it["name"] == "HOLDFAST_SERVER")
    host, port = target.rsplit(":", 1)
    assert port == "7440"
    names = [host, "holdfast-server", f"{host}.cluster.local", "holdfast-server-0.holdfast-server-headless.holdfast-system.svc",
             "localhost", "127.0.0.1", "ipam.example", "192.0.2.7", "2001:db8::7"]
    for name in names:
        assert greet(server, client, name) == "holdfast-agent"
    # As a client in its own pod.
    assert greet(server, server, "127.0.0.1") == "holdfast-server"
    with pytest.raises(ssl.SSLCertVerificationError):
        greet(server, client, "elsewhere.example")
    stranger = files(one(render({"fullnameOverride": "x"}, program), "Secret", "x-client-tls"), tmp_path / "stranger")
    (stranger / "ca.crt").write_bytes((client / "ca.crt").read_bytes())
    with pytest.raises(ssl.SSLError):
        greet(server, stranger, host)


def secrets(program, server, values):
    """Name to Secret, and what pods are told of them, as an upgrade of what `server` holds would make them."""
    text = template(merged(IMAGE, values), "--dry-run=server", "--disable-openapi-validation", *server.arguments, program=program).stdout
    objects = [document for document in yaml.safe_load_all(text) if document]
    told = {kind: one(objects, kind)["spec"]["template"]["metadata"]["annotations"]["checksum/certificate"]
            for kind in ("StatefulSet", "DaemonSet")}
    return objects, {it["metadata"]["name"]: it["data"] for it in objects if it["kind"] == "Secret"}, told


@programs
def test_an_upgrade_keeps_what_fits_and_signs_anew_what_does_not(program, tmp_path):
    with APIServer() as server:
        objects, first, told = secrets(program, server, {})
        assert set(first) == {"holdfast-ca", "holdfast-server-tls", "holdfast-client-tls"}
        server.put(objects)
        assert secrets(program, server, {})[1:] == (first, told)

        # Another name: the server's is signed anew, by the same CA; the agents need not know.
        objects, second, told_then = secrets(program, server, {"tls": {"extraNames": ["ipam.example"]}})
        assert {name for name in first if first[name] != second[name]} == {"holdfast-server-tls"}
        assert {kind for kind in told if told[kind] != told_then[kind]} == {"StatefulSet"}
        server.put(objects)
        made = {name: files({"data": second[name]}, tmp_path / name) for name in second}
        assert greet(made["holdfast-server-tls"], made["holdfast-client-tls"], "ipam.example")

        # A Secret was deleted so that it be made anew.
        del server.objects["/api/v1/namespaces/holdfast-system/secrets/holdfast-client-tls"]
        third = secrets(program, server, {"tls": {"extraNames": ["ipam.example"]}})[1]
        assert {name for name in second if second[name] != third[name]} == {"holdfast-client-tls"}


def test_cert_manager_s_certificates_have_the_same_names():
    generated, managed = render(), render({"tls": {"mode": "certManager"}})
    certificates = {it["spec"]["secretName"]: it["spec"] for it in managed if it["kind"] == "Certificate"}
    assert set(certificates) == {it["metadata"]["name"] for it in generated if it["kind"] == "Secret"}
    server = certificates["holdfast-server-tls"]
    assert "holdfast-server.holdfast-system.svc" in server["dnsNames"] and "127.0.0.1" in server["ipAddresses"]
    assert {"server auth", "client auth"} <= set(server["usages"])
    assert "client auth" in certificates["holdfast-client-tls"]["usages"]
    issuers = {it["metadata"]["name"] for it in managed if it["kind"] == "Issuer"}
    assert {spec["issuerRef"]["name"] for spec in certificates.values()} == issuers
    theirs = render({"tls": {"mode": "certManager", "certManager": {"issuerRef": {"name": "company", "kind": "ClusterIssuer"}}}})
    assert not [it for it in theirs if it["kind"] == "Issuer"]
    for it in theirs:
        if it["kind"] == "Certificate":
            assert it["spec"]["issuerRef"] == {"name": "company", "kind": "ClusterIssuer", "group": "cert-manager.io"}
