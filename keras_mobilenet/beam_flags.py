"""For programs on Apache Beam: its flags beside absl's, and this machine's cores where nothing else is said.

Only `serving.batch` and `training.prepare_data` import it; it needs apache-beam (extra `batch`) and absl-py.
"""

import logging
import os
import sys
from collections.abc import Sequence

from absl import flags
from apache_beam.options import pipeline_options

_LOCAL = ("directrunner", "fnapirunner", "bundlebaseddirectrunner", "switchingdirectrunner")


def parse(argv: Sequence[str]) -> list[str]:
    """Parses absl's flags; what absl does not know has to be Beam's.

    Args:
        argv: The command line, program first.

    Returns:
        The program and Beam's flags, for `options`.

    Raises:
        SystemExit: A value does not fit, or a flag is neither the program's nor Beam's, which is said as absl says it.

    Example: `app.run(main, flags_parser=beam_flags.parse)`
    """
    try:
        rest = flags.FLAGS(list(argv), known_only=True)
        if not _runner(pipeline_options.PipelineOptions(rest[1:])).startswith("portable"):  # its job server has its own
            _refuse_unknown(rest[1:])
    except flags.Error as error:
        print(f"FATAL Flags parsing error:\n  {error}\nPass --helpshort to see help on flags.", file=sys.stderr)
        sys.exit(1)
    return rest


def options(arguments: Sequence[str]) -> pipeline_options.PipelineOptions:
    """Beam's options; on the DirectRunner, where nothing else is said, a process for each CPU that logs errors.

    Args:
        arguments: Beam's flags.

    Example:
        >>> options(["--direct_num_workers=1"]).get_all_options()["direct_running_mode"]
        'in_memory'
    """
    made = pipeline_options.PipelineOptions(list(arguments))
    said = {argument.partition("=")[0] for argument in arguments}
    if is_local(made) and not said & {"--direct_num_workers", "--direct_running_mode"}:
        direct = made.view_as(pipeline_options.DirectOptions)
        direct.direct_num_workers = os.cpu_count() or 1
        direct.direct_running_mode = "multi_processing"
    if is_local(made) and "--default_sdk_harness_log_level" not in said:
        made.view_as(pipeline_options.WorkerOptions).default_sdk_harness_log_level = "ERROR"
    return made


def is_local(made: pipeline_options.PipelineOptions) -> bool:
    """Whether the job runs on this machine, by Beam's DirectRunner."""
    return _runner(made) in _LOCAL


def only_warnings() -> None:
    """Holds back Beam's notes on each step that it builds, and its copies of what workers log."""
    logging.getLogger().setLevel(logging.WARNING)
    logging.getLogger("apache_beam").setLevel(logging.ERROR)


def reason(error: Exception) -> str:
    """Of a traceback that Beam carries as text, the error itself."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line for line in reversed(lines) if not line.startswith(("[", "File"))), repr(error))


def _runner(made: pipeline_options.PipelineOptions) -> str:
    name = made.view_as(pipeline_options.StandardOptions).runner or "DirectRunner"
    return str(name).rpartition(".")[2].lower()


def _refuse_unknown(arguments: Sequence[str]) -> None:
    parser = pipeline_options._BeamArgumentParser(allow_abbrev=False, add_help=False)
    for group in pipeline_options.PipelineOptions.__subclasses__():
        group._add_argparse_args(parser)
    unknown = parser.parse_known_args(list(arguments))[1]
    if unknown:
        raise flags.Error(f"{' '.join(unknown)}: neither a flag of this program (--helpshort) nor one of Beam")
