import pytest

from keras_mobilenet.client import Retry
from keras_mobilenet.client.options import grpc_target, parse_addresses


@pytest.mark.parametrize(
    ("target", "addresses"),
    [
        ("localhost:8500", ("localhost:8500",)),
        ("a:1, b:2", ("a:1", "b:2")),
        (["a:1", "[::1]:2"], ("a:1", "[::1]:2")),
        ("unix:/tmp/server.sock", ("unix:/tmp/server.sock",)),
        ("dns:///models.svc:8500", ("dns:///models.svc:8500",)),
        ("https://models.example:443/tf", ("https://models.example:443/tf",)),
    ],
)
def test_addresses(target, addresses):
    assert parse_addresses(target) == addresses


@pytest.mark.parametrize(
    ("addresses", "target"),
    [
        (("models.svc:8500",), "models.svc:8500"),
        (("127.0.0.1:1", "127.0.0.2:2"), "ipv4:127.0.0.1:1,127.0.0.2:2"),
        (("[::1]:1", "[::2]:2"), "ipv6:[::1]:1,[::2]:2"),
        (("127.0.0.1:1", "127.0.0.1:1"), "ipv4:127.0.0.1:1"),
    ],
)
def test_one_target_for_grpc(addresses, target):
    assert grpc_target(addresses) == target


def test_ipv4_and_ipv6_do_not_mix():
    with pytest.raises(ValueError, match="mix IPv4 and IPv6"):
        grpc_target(("127.0.0.1:1", "[::1]:2"))


def test_a_name_that_is_not_found():
    with pytest.raises(OSError, match=r"(?i)name|host"):
        grpc_target(("127.0.0.1:1", "no-such-host.invalid:2"))


def test_pauses():
    pauses = list(Retry(attempts=6, first_pause=1, factor=3, longest_pause=10).pauses())
    assert len(pauses) == 5
    for pause, nominal in zip(pauses, [1, 3, 9, 10, 10], strict=True):
        assert 0.8 * nominal <= pause <= 1.2 * nominal


@pytest.mark.parametrize("arguments", [{"attempts": 0}, {"first_pause": -1}, {"factor": 0.5}, {"longest_pause": -1}])
def test_retries_that_make_no_sense(arguments):
    with pytest.raises(ValueError, match=r"attempts >= 1"):
        Retry(**arguments)
