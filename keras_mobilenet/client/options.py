"""How a client reaches its servers: addresses, TLS, retries."""

import random
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit


@dataclass(frozen=True)
class TLS:
    """Files in PEM form for an encrypted connection.

    Attributes:
        ca: certificates of the authorities to trust; None for the ones that gRPC or Python ship with.
        certificate: the client's own certificate, for mutual TLS.
        key: the key of that certificate.
        server_name: the name that the server's certificate must bear, where it is not the host's.
    """

    ca: str | Path | None = None
    certificate: str | Path | None = None
    key: str | Path | None = None
    server_name: str | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("Mutual TLS takes both a certificate and its key; only one of the two was given.")


@dataclass(frozen=True)
class Retry:
    """When to try again after UNAVAILABLE, the one code that is tried again.

    Attributes:
        attempts: how often a request is sent at most, at least 1.
        first_pause: seconds before the second attempt.
        factor: what each further pause is multiplied by.
        longest_pause: seconds.
    """

    attempts: int = 4
    first_pause: float = 0.1
    factor: float = 2.0
    longest_pause: float = 5.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.first_pause < 0 or self.factor < 1 or self.longest_pause < 0:
            raise ValueError(f"{self} needs attempts >= 1, pauses >= 0 and factor >= 1.")

    def pauses(self) -> Iterator[float]:
        """The seconds between attempts, spread by a fifth so that many clients do not come back at once."""
        pause = self.first_pause
        for _ in range(self.attempts - 1):
            yield min(pause, self.longest_pause) * random.uniform(0.8, 1.2)
            pause *= self.factor


def parse_addresses(target: str | Sequence[str]) -> tuple[str, ...]:
    """Split and check the addresses of a client.

    Args:
        target: `HOST:PORT`, several of them in a list or parted by commas, a gRPC target with its scheme
            (`dns:///HOST:PORT`, `unix:/PATH`), or for REST a URL (`https://HOST:PORT/PREFIX`).

    Returns:
        The addresses.

    Raises:
        ValueError: an address is empty or has no port.

    Example:
        >>> parse_addresses("localhost:8500, [::1]:8501")
        ('localhost:8500', '[::1]:8501')
    """
    parts = target.split(",") if isinstance(target, str) else list(target)
    addresses = tuple(part.strip() for part in parts)
    for address in addresses:
        if not has_scheme(address):
            split_host(address)
    if len(addresses) > 1 and any(has_scheme(address) and "://" not in address for address in addresses):
        raise ValueError(f"{target!r}: several addresses must be HOST:PORT each, without a gRPC scheme.")
    return addresses


def has_scheme(address: str) -> bool:
    """Whether the address is a URL or a gRPC target rather than HOST:PORT."""
    return "://" in address or address.startswith(
        ("unix:", "unix-abstract:", "dns:", "ipv4:", "ipv6:", "xds:", "vsock:")
    )


def split_host(address: str) -> tuple[str, int]:
    """Part HOST:PORT, where an IPv6 host stands in brackets.

    Raises:
        ValueError: there is no host or no port from 1 to 65535.
    """
    try:
        parts = urlsplit(f"//{address}")
        if parts.hostname and parts.port and parts.netloc == address:
            return parts.hostname, parts.port
    except ValueError:
        pass
    raise ValueError(
        f"{address!r} is no server address; give HOST:PORT, for instance localhost:8500 (REST: localhost:8501)."
    )


def grpc_target(addresses: tuple[str, ...]) -> str:
    """One gRPC target for one or several addresses.

    A single name is left to gRPC, which looks it up again when a connection is lost. gRPC has no target for several
    names: those are looked up here, once.

    Args:
        addresses: as `parse_addresses` gives them.

    Returns:
        A target for `grpc.insecure_channel`.

    Raises:
        OSError: a name cannot be looked up.
        ValueError: the addresses are not all IPv4 or all IPv6.
    """
    if len(addresses) == 1:
        return addresses[0]
    hosts = [split_host(address) for address in addresses]
    for family, scheme in ((socket.AF_INET, "ipv4"), (socket.AF_INET6, "ipv6")):
        found = [_look_up(host, port, family) for host, port in hosts]
        if all(found):
            return f"{scheme}:" + ",".join(dict.fromkeys(address for group in found for address in group))
    for host, port in hosts:
        socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    raise ValueError(f"The addresses {', '.join(addresses)} mix IPv4 and IPv6, which one gRPC channel cannot do.")


def _look_up(host: str, port: int, family: socket.AddressFamily) -> list[str]:
    try:
        found = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)
    except OSError:
        return []
    return [f"[{entry[4][0]}]:{port}" if family == socket.AF_INET6 else f"{entry[4][0]}:{port}" for entry in found]


@dataclass(frozen=True)
class Connection:
    """Checked arguments of a client.

    Attributes:
        addresses: of the servers.
        rest: whether to speak REST rather than gRPC.
        tls: the files for an encrypted connection, or None.
        headers: HTTP headers or gRPC metadata of every request.
    """

    addresses: tuple[str, ...]
    rest: bool
    tls: TLS | None
    headers: Mapping[str, str]

    @property
    def target(self) -> str:
        """The addresses in one line."""
        return ", ".join(self.addresses)


def connection(
    target: str | Sequence[str], rest: bool, tls: TLS | bool | None, headers: Mapping[str, str] | None
) -> Connection:
    """Check the arguments of a client. A URL means REST."""
    addresses = parse_addresses(target)
    rest = rest or any(address.startswith(("http://", "https://")) for address in addresses)
    return Connection(addresses, rest, TLS() if tls is True else tls or None, dict(headers or {}))
