import asyncio
import time

import grpc
import numpy as np
import pytest

from keras_mobilenet.client import AsyncClient, Client, ClientError, InputError, Retry
from tests.keras_mobilenet.client_peer import Peer, write_model

IMAGE = np.full((1, 6, 5, 3), [250, 0, 0], np.uint8)
QUICK = Retry(first_pause=0.01)


@pytest.fixture(scope="module")
def peer(tmp_path_factory):
    peer = Peer(write_model(tmp_path_factory.mktemp("models") / "colours"))
    yield peer
    peer.stop()


def run(peer, course, **options):
    async def whole():
        async with AsyncClient(peer.target, model_name="colours", retry=QUICK, **options) as client:
            return await course(client)

    peer.calls.clear()
    peer.failures.clear()
    return asyncio.run(whole())


def test_gives_what_the_blocking_client_gives(peer):
    async def course(client):
        return await client.predict(IMAGE), await client.classify({"image/encoded": b"GIF"}, signature_name="none")

    async def good(client):
        return await client.predict(IMAGE), await client.metadata(), await client.status()

    outputs, metadata, status = run(peer, good)
    with Client(peer.target, model_name="colours") as client:
        same = client.predict(IMAGE)
        assert {name: array.tolist() for name, array in outputs.items()} == {k: v.tolist() for k, v in same.items()}
        assert (metadata, status) == (client.metadata(), client.status())
    with pytest.raises(ClientError):
        run(peer, course)


def test_unavailable_is_tried_again_and_nothing_else(peer):
    async def course(client):
        await client.predict(IMAGE)
        peer.calls.clear()
        peer.fail(grpc.StatusCode.UNAVAILABLE, "the queue is full", times=2)
        await client.predict(IMAGE)
        assert peer.calls == ["Predict"] * 3
        peer.fail(grpc.StatusCode.INTERNAL, "broken")
        with pytest.raises(ClientError, match="INTERNAL.*: broken"):  # noqa: RUF043
            await client.predict(IMAGE)
        assert peer.calls == ["Predict"] * 4

    run(peer, course)


def test_pauses_do_not_hold_up_the_loop(peer):
    async def course(client):
        await client.predict(IMAGE)
        peer.fail(grpc.StatusCode.UNAVAILABLE, "busy", times=2)
        waiting = [asyncio.create_task(client.status()) for _ in range(2)]
        start = time.monotonic()
        await asyncio.sleep(0.05)
        assert time.monotonic() - start < 0.25
        return await asyncio.gather(*waiting)

    async def whole():
        async with AsyncClient(peer.target, model_name="colours", retry=Retry(first_pause=0.5)) as client:
            return await course(client)

    assert len(asyncio.run(whole())) == 2


def test_wrong_inputs_are_not_sent(peer):
    async def course(client):
        with pytest.raises(InputError, match="takes uint8"):
            await client.predict(IMAGE / 2)
        with pytest.raises(InputError, match="cannot be read"):
            await client.predict("no/such.jpg")

    run(peer, course)
    assert "Predict" not in peer.calls


def test_nobody_listens():
    async def course():
        async with AsyncClient("localhost:1", retry=QUICK) as client:
            await client.status()

    with pytest.raises(ClientError, match="no gRPC server answers there") as caught:
        asyncio.run(course())
    assert caught.value.code is grpc.StatusCode.UNAVAILABLE


def test_a_client_that_was_never_used_can_be_closed():
    asyncio.run(AsyncClient("localhost:1").close())
    asyncio.run(AsyncClient("localhost:1", rest=True).close())
