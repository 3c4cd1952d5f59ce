"""Foretells from a .tflite file alone what the Edge TPU compiler will map, and the memory its parameters take."""

import dataclasses
import os

from keras_mobilenet import tflite_file
from keras_mobilenet.export.edge_tpu import compiled, parameters, rules
from keras_mobilenet.export.edge_tpu.rules import Case, Reason


@dataclasses.dataclass(frozen=True)
class CheckedOperator:
    """One operator of the model.

    Attributes:
        name: the schema's name (`CONV_2D`), or the custom operator's own.
        version: the operator's version.
        mapped: whether it is expected to run on the Edge TPU.
        reason: the words of the compiler's log for it.
        detail: what in the file the reason comes from, empty where there is nothing to add.
    """

    name: str
    version: int
    mapped: bool
    reason: str
    detail: str = ""


@dataclasses.dataclass(frozen=True)
class CheckReport:
    """What is expected of a compilation.

    Attributes:
        operators: every operator, in the file's order.
        cached_bytes: parameters expected in the on-chip cache.
        streamed_bytes: parameters expected to be sent in every call.
    """

    operators: tuple[CheckedOperator, ...]
    cached_bytes: int
    streamed_bytes: int

    @property
    def fully_mapped(self) -> bool:
        """Whether nothing is expected to stay on the CPU."""
        return bool(self.operators) and all(operator.mapped for operator in self.operators)

    @property
    def cpu_operators(self) -> tuple[str, ...]:
        """Names of the operators expected on the CPU, one per operator."""
        return tuple(operator.name for operator in self.operators if not operator.mapped)


def check(file: str | os.PathLike[str] | bytes, runtime: int = rules.NEWEST_RUNTIME) -> CheckReport:
    """Foretells what the Edge TPU compiler 16.0 will make of a .tflite file.

    The rules are a table made from published documentation, compiled files and logs; the compiler has the last word.
    Float, dynamic and partly quantized files are reported operator by operator, not refused.

    Args:
        file: The path or the bytes of a .tflite file that isn't compiled for the Edge TPU yet.
        runtime: The oldest Edge TPU runtime that the compiled file has to run on, 10 to 14.

    Returns:
        Each operator with whether it maps and why not, and the parameter bytes expected on and off the chip.

    Raises:
        FileNotFoundError: If there is no file at the path.
        ValueError: If the file is foreign, truncated, damaged or already compiled, or the runtime unknown.

    Example:
        >>> import keras_mobilenet as km
        >>> km.edge_tpu.check("mobilenet_v1.tflite").fully_mapped  # doctest: +SKIP
        True

    Source: Coral's documentation "TensorFlow models on the Edge TPU".
    """
    if not 10 <= runtime <= rules.NEWEST_RUNTIME:
        raise ValueError(f"runtime is {runtime}; known are 10 to {rules.NEWEST_RUNTIME}")
    model = tflite_file.read(file)
    if compiled.is_compiled(model):
        raise ValueError(
            "the file is already compiled for the Edge TPU: check the original .tflite file, or inspect() this one"
        )
    try:
        return foretell(model, runtime)
    except (ArithmeticError, LookupError, TypeError) as error:
        raise ValueError(f"the file is damaged: an operator lacks what its kind has ({error!r})") from error


def foretell(model: tflite_file.TFLiteFile, runtime: int = rules.NEWEST_RUNTIME) -> CheckReport:
    """Does the work of `check` on a file that is already read."""
    graph = model.main
    cases = [Case(op, graph.input_tensors(op), graph.output_tensors(op)) for op in graph.operators]
    verdicts = _verdicts(model, cases, runtime)
    first = _first_partition(graph, [reason is Reason.MAPPED for reason, _ in verdicts])
    operators = tuple(
        _row(case.operator, reason, detail, case.operator.index in first)
        for case, (reason, detail) in zip(cases, verdicts, strict=True)
    )
    memory = parameters.predict(case for case in cases if case.operator.index in first)
    return CheckReport(operators, memory.cached, memory.streamed)


def _verdicts(model: tflite_file.TFLiteFile, cases: list[Case], runtime: int) -> list[tuple[Reason, str]]:
    """Judges every operator by itself; the compiler refuses a whole model with dynamic sizes or several graphs."""
    if len(model.subgraphs) > 1:
        detail = f"the file has {len(model.subgraphs)} graphs (control flow); one is supported"
        return [(Reason.SECOND_SUBGRAPH, detail)] * len(cases)
    dynamic = next((tensor for tensor in model.main.tensors if tensor.is_dynamic), None)
    if dynamic is not None:
        detail = f"{dynamic.name!r} has the shape {dynamic.shape_signature}; convert with batch 1 and constant shapes"
        return [(Reason.DYNAMIC, detail)] * len(cases)
    return [rules.judge(case, runtime) for case in cases]


def _row(operator: tflite_file.Operator, reason: Reason, detail: str, in_first: bool) -> CheckedOperator:
    if reason is Reason.MAPPED and not in_first:
        reason, detail = Reason.SECOND_SUBGRAPH, "an operator before it stays on the CPU"
    return CheckedOperator(operator.name, operator.version, in_first, str(reason), detail)


def _first_partition(graph: tflite_file.Subgraph, supported: list[bool]) -> set[int]:
    """The operators of the first supported part, cut as TFLite cuts a graph for a delegate.

    Parts follow the flow of data: each takes every operator of its kind whose inputs are there, then the other kind
    has its turn. The compiler keeps the first supported part for the Edge TPU: what waits for the CPU stays behind.
    """
    ready = set(range(-1, len(graph.tensors))) - {output for operator in graph.operators for output in operator.outputs}
    waiting = list(graph.operators)
    while waiting:
        kind = next((supported[operator.index] for operator in waiting if ready.issuperset(operator.inputs)), None)
        part = set()
        for operator in waiting:
            if supported[operator.index] is kind and ready.issuperset(operator.inputs):
                part.add(operator.index)
                ready.update(operator.outputs)
        if kind or not part:
            return part
        waiting = [operator for operator in waiting if operator.index not in part]
    return set()
