"""gRPC credentials from TF Serving's ssl config file."""

import grpc

from serving.server import status, text_protos

_PEM_MARK = "-----BEGIN"


def credentials(ssl_config_file: str) -> grpc.ServerCredentials | None:
    """Reads an SSLConfig text proto: server_key, server_cert, custom_ca and client_verify, all PEM text.

    Args:
        ssl_config_file: The file, '' for plain text.

    Returns:
        The credentials; mutual TLS where client_verify is set. None for plain text.

    Raises:
        ServingError: INVALID_ARGUMENT where a part is missing or not PEM.
    """
    if not ssl_config_file:
        return None
    parsed = text_protos.read(ssl_config_file, text_protos.SSLConfig)
    for field in ("server_key", "server_cert"):
        if _PEM_MARK not in getattr(parsed, field):
            raise status.invalid_argument(
                f"{ssl_config_file}: {field} holds no PEM text; put the file's content there, not its path"
            )
    if parsed.client_verify and _PEM_MARK not in parsed.custom_ca:
        raise status.invalid_argument(
            f"{ssl_config_file}: client_verify is set, so custom_ca must hold the PEM text of the clients' authority"
        )
    return grpc.ssl_server_credentials(
        [(parsed.server_key.encode(), parsed.server_cert.encode())],
        root_certificates=parsed.custom_ca.encode() or None,
        require_client_auth=parsed.client_verify,
    )
