"""What a signal handler may do to a waiting server."""

import sys
import threading

import pytest

from serving.server import config, server


@pytest.mark.parametrize("point", range(1, 8))
def test_a_signal_at_any_line_of_the_wait_ends_it(tmp_path, point):
    waiting = server.ModelServer(config.Options(model_base_path=str(tmp_path)))

    def wait():
        lines = 0

        def interrupt(frame, event, argument):
            nonlocal lines
            lines += event == "line"
            if lines == point:
                sys.settrace(None)
                waiting.request_stop()  # As a handler does: in the waiting thread itself, between two lines.
                return None
            return interrupt

        sys.settrace(interrupt)
        waiting.wait()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    waiting.stop()
