import asyncio
import http.server
import shutil
import ssl
import subprocess
import threading

import grpc
import pytest

from keras_mobilenet.client import TLS, AsyncClient, Client, ClientError, Retry
from tests.keras_mobilenet.client_peer import Peer, write_model

ONCE = Retry(attempts=1)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """A self-signed certificate for the name `model-server`, and another one for a client."""
    if not shutil.which("openssl"):
        pytest.skip("openssl, which writes the certificates, is not installed")
    folder = tmp_path_factory.mktemp("certificates")
    for name in ("model-server", "client"):
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}"]
        command += ["-addext", f"subjectAltName=DNS:{name}", "-keyout", f"{name}.key", "-out", f"{name}.pem"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def peer(certificates, tmp_path_factory):
    pair = ((certificates / "model-server.key").read_bytes(), (certificates / "model-server.pem").read_bytes())
    trusted = (certificates / "client.pem").read_bytes()
    credentials = grpc.ssl_server_credentials([pair], trusted, require_client_auth=True)
    peer = Peer(write_model(tmp_path_factory.mktemp("models") / "colours"), credentials=credentials)
    yield peer
    peer.stop()


@pytest.fixture
def tls(certificates):
    return TLS(
        ca=certificates / "model-server.pem",
        certificate=certificates / "client.pem",
        key=certificates / "client.key",
        server_name="model-server",
    )


@pytest.mark.parametrize("addresses", [1, 2])
def test_mutual_tls(peer, tls, addresses):
    with Client([peer.target] * addresses, model_name="colours", tls=tls) as client:
        assert client.status()[0].version == 3


def test_mutual_tls_with_asyncio(peer, tls):
    async def course():
        async with AsyncClient(peer.target, model_name="colours", tls=tls) as client:
            return await client.status()

    assert asyncio.run(course())[0].version == 3


def test_a_client_without_certificate_a_wrong_name_and_no_tls_are_refused(peer, tls):
    for other in (TLS(ca=tls.ca, server_name="model-server"), TLS(tls.ca, tls.certificate, tls.key), True, None):
        with Client(peer.target, model_name="colours", tls=other, retry=ONCE, timeout=5) as client:
            with pytest.raises(ClientError) as caught:
                client.status()
            assert caught.value.code is grpc.StatusCode.UNAVAILABLE


def test_rest(certificates, tls):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"model_version_status": [{"version": "3", "state": "AVAILABLE"}]}')

        def log_message(self, *_):
            pass

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=certificates / "client.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(certificates / "model-server.pem", certificates / "model-server.key")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    target = f"127.0.0.1:{server.server_port}"
    with Client(target, rest=True, tls=tls) as client:
        assert client.status()[0].version == 3
    with Client(f"https://{target}", retry=ONCE) as client, pytest.raises(ClientError, match=r"(?i)certificate"):
        client.status()
    server.shutdown()
    server.server_close()


def test_arguments_that_do_not_go_together():
    with pytest.raises(ValueError, match="both a certificate and its key"):
        TLS(certificate="client.pem")
    with pytest.raises(ValueError, match="TLS\\(server_name="):
        Client("127.0.0.1:1,localhost:2", tls=True)
    with pytest.raises(FileNotFoundError, match=r"none\.pem"):
        Client("localhost:1", tls=TLS(ca="none.pem"))
