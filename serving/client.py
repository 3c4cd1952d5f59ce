"""Classify pictures with a served model: `python -m serving.client --server=HOST:PORT --model_name=NAME PICTURE...`.

Prints the five best classes of each picture. A folder stands for the pictures in it and below. Labels come from the
model (its signature for Classify, or an output of strings), or from --labels. `--metadata` prints the model's
signatures and `--list` the state of its versions. The exit status is 1 where a picture or the request failed.
"""

import logging
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TextIO

import tqdm
from absl import app, flags

from keras_mobilenet.client import TLS, Client, ClientError
from serving import classify_pictures

_FLAGS = flags.FLAGS


def define() -> None:
    """Define the flags. Not done on import: the server's program has some of the same names."""
    flags.DEFINE_string(
        "server", None, "HOST:PORT, several of them parted by commas. [localhost:8500, REST: localhost:8501]"
    )
    flags.DEFINE_list("model_name", ["default"], "The model; for --list also several, parted by commas.")
    flags.DEFINE_integer("version", None, "The model's version; by default the newest.")
    flags.DEFINE_string("version_label", None, "A label of the version, in place of its number.")
    flags.DEFINE_bool("rest", False, "Speak REST rather than gRPC.")
    flags.DEFINE_float("timeout", 30.0, "Seconds for a request, with its repetitions.", lower_bound=0.001)
    flags.DEFINE_bool(
        "list", False, "Print the state of the models' versions (TF Serving does not tell models' names)."
    )
    flags.DEFINE_bool("metadata", False, "Print the model's signatures.")
    flags.DEFINE_string("labels", None, "A file with a label in each line, in place of the model's own.")
    flags.DEFINE_integer("top", 5, "How many classes to print of a picture.", lower_bound=1)
    flags.DEFINE_integer("at_once", 4, "How many requests to have under way.", lower_bound=1)
    flags.DEFINE_string("output", None, "A .csv or .json file to write, in place of printing.")
    flags.DEFINE_bool("overwrite", False, "Whether --output may replace a file.")
    flags.DEFINE_bool("tls", False, "Encrypt the connection; set by the flags below.")
    flags.DEFINE_string("tls_ca", None, "PEM file of the authorities to trust; by default the usual ones.")
    flags.DEFINE_string("tls_certificate", None, "PEM file of the client's certificate, for mutual TLS.")
    flags.DEFINE_string("tls_key", None, "PEM file of that certificate's key.")
    flags.DEFINE_string("tls_server_name", None, "The name in the server's certificate, where it is not the host's.")


def main(arguments: list[str]) -> int:
    """Do what the flags say."""
    paths = arguments[1:]
    _check(paths)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # absl would print a line for each request
    try:
        with _client() as client:
            if _FLAGS.list:
                return _list(client)
            if _FLAGS.metadata:
                return _metadata(client)
            return _classify(client, paths)
    except (ClientError, ImportError, OSError, ValueError) as error:
        print(error, file=sys.stderr)
        if _FLAGS.output is not None:
            print(f"Nothing was written to {_FLAGS.output}.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _check(paths: list[str]) -> None:
    """Refuse flags that do not go together before anything is sent."""
    views = _FLAGS.list or _FLAGS.metadata
    if bool(paths) == views:
        raise app.UsageError("Give pictures or folders to classify, or one of --list and --metadata.")
    if len(_FLAGS.model_name) > 1 and not _FLAGS.list:
        raise app.UsageError("Only --list takes several names in --model_name.")
    if _FLAGS.output is None:
        return
    output = Path(_FLAGS.output)
    if output.suffix not in classify_pictures.FORMATS or views:
        raise app.UsageError(f"--output={output} must end in .csv or .json, and goes with pictures.")
    if not output.parent.is_dir():
        raise app.UsageError(f"The folder of --output={output} does not exist.")
    if output.exists() and not _FLAGS.overwrite:
        raise app.UsageError(f"--output={output} exists; name another file, or say --overwrite.")


def _client() -> Client:
    files = (_FLAGS.tls_ca, _FLAGS.tls_certificate, _FLAGS.tls_key, _FLAGS.tls_server_name)
    return Client(
        _FLAGS.server or ("localhost:8501" if _FLAGS.rest else "localhost:8500"),
        model_name=_FLAGS.model_name[0],
        timeout=_FLAGS.timeout,
        rest=_FLAGS.rest,
        tls=TLS(*files) if any(files) else _FLAGS.tls,
    )


def _list(client: Client) -> int:
    failed = False
    for name in _FLAGS.model_name:
        try:
            versions = client.status(model_name=name, version=_FLAGS.version, version_label=_FLAGS.version_label)
        except ClientError as error:
            print(f"{name}: {error}", file=sys.stderr)
            failed = True
            continue
        for entry in versions:
            reason = f"  {entry.error_code}: {entry.error_message}" if entry.error_code != "OK" else ""
            print(f"{name}  {entry.version}  {entry.state}{reason}")
    return int(failed)


def _metadata(client: Client) -> int:
    metadata = client.metadata(version=_FLAGS.version, version_label=_FLAGS.version_label)
    print(f"{metadata.name}, version {metadata.version}")
    for name, signature in metadata.signatures.items():
        print(f"{name} ({signature.method_name})")
        for way, tensors in (("in ", signature.inputs), ("out", signature.outputs)):
            for tensor, spec in tensors.items():
                print(f"  {way}  {tensor}: {spec}")
    return 0


def _classify(client: Client, paths: list[str]) -> int:
    pictures = classify_pictures.find_pictures(paths)
    labels = classify_pictures.read_labels(_FLAGS.labels) if _FLAGS.labels else None
    which = (_FLAGS.version, _FLAGS.version_label)
    metadata = client.metadata(version=which[0], version_label=which[1])
    classify = classify_pictures.classifier(client, metadata, labels, _FLAGS.top, *which)
    results = _with_progress(classify_pictures.run(classify, pictures, _FLAGS.at_once), len(pictures), paths)
    done = []
    for result in results:
        done.append(result)
        if result.error:
            _say(f"{result.picture}: {result.error}", sys.stderr)
        elif _FLAGS.output is None:
            _say(
                "\n".join([str(result.picture), *(f"  {one.score:.4f}  {one.label}" for one in result.classes)]),
                sys.stdout,
            )
    failed = sum(bool(result.error) for result in done)
    if _FLAGS.output is not None:
        output = Path(_FLAGS.output)
        classify_pictures.write(output, classify_pictures.FORMATS[output.suffix](done))
        print(f"{output}: {len(done) - failed} pictures classified, {failed} failed")
    return int(failed > 0)


def _with_progress(
    results: Iterator[classify_pictures.Result], total: int, paths: list[str]
) -> Iterable[classify_pictures.Result]:
    """Show a progress bar where there is a folder among the arguments."""
    if not any(Path(path).is_dir() for path in paths):
        return results
    seconds = 0.1 if sys.stderr.isatty() else 10  # a log gets few lines
    return tqdm.tqdm(results, total=total, unit="picture", file=sys.stderr, mininterval=seconds, dynamic_ncols=True)


def _say(text: str, file: TextIO) -> None:
    """Print without tearing the progress bar."""
    tqdm.tqdm.write(text, file=file)


if __name__ == "__main__":
    define()
    app.run(main)
