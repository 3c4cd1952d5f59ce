import os

import pytest

pytest.importorskip("apache_beam", reason="programs on Apache Beam need apache-beam")

from keras_mobilenet import beam_flags


def test_a_flag_of_nobody_is_refused(capsys):
    with pytest.raises(SystemExit):
        beam_flags.parse(["program", "--runner=DirectRunner", "--ouput=x"])
    assert "--ouput=x: neither a flag of this program" in capsys.readouterr().err
    assert beam_flags.parse(["program", "--verbosity=0", "--runner=FlinkRunner", "--flink_master=local"])[1:] == [
        "--runner=FlinkRunner",
        "--flink_master=local",
    ]


def test_workers_of_the_direct_runner():
    options = beam_flags.options([]).get_all_options()
    assert options["direct_running_mode"] == "multi_processing" and options["direct_num_workers"] == os.cpu_count()
    assert beam_flags.options(["--direct_num_workers=1"]).get_all_options()["direct_running_mode"] == "in_memory"
    assert beam_flags.is_local(beam_flags.options([])) and not beam_flags.is_local(
        beam_flags.options(["--runner=FlinkRunner"])
    )


def test_the_reason_of_an_error_that_beam_carries_as_text():
    text = "Error:\n  File \"x.py\", line 1, in f\nOSError: the disk is full [while running 'Write']\n\n[Op 5]\n"
    assert beam_flags.reason(RuntimeError(text)) == "OSError: the disk is full [while running 'Write']"
    assert beam_flags.reason(RuntimeError()) == "RuntimeError()"
