"""TF Serving's command line, with its names and defaults, as absl flags."""

import dataclasses

from absl import flags

from serving.server import config

_DEFAULTS = config.Options()

# Flags whose name differs from the option's.
_RENAMED = {"grpc_port": "port"}

_INTEGERS = {
    "port": "gRPC port; 0 takes a free one and prints it.",
    "grpc_max_threads": "Threads that answer Predict over gRPC; at most as many answer the other methods.",
    "rest_api_port": "HTTP/REST port; 0 is no REST API, -1 takes a free port and prints it.",
    "rest_api_num_threads": "Threads that answer HTTP/REST requests.",
    "rest_api_timeout_in_ms": "Timeout of HTTP/REST requests; 0 is none.",
    "rest_api_max_body_bytes": "Longest HTTP/REST request body, decompressed. (Not in TF Serving.)",
    "num_load_threads": "Threads that load versions.",
    "max_num_load_retries": "How often loading a version is tried again after it failed.",
    "load_retry_interval_micros": "Microseconds between those attempts.",
    "num_request_iterations_for_warmup": "How often each warm-up record is run, if more than 0.",
    "num_tflite_pools": "LiteRT interpreters for each model.tflite; 0 is one for each CPU.",
    "tensorflow_session_parallelism": "Threads for a session, within and between ops; 0 leaves it to TensorFlow.",
    "tensorflow_intra_op_parallelism": "Threads within an op; 0 leaves it to TensorFlow.",
    "tensorflow_inter_op_parallelism": "Ops at the same time; 0 leaves it to TensorFlow.",
}
_FLOATS = {
    "model_config_file_poll_wait_seconds": "Seconds between looks at --model_config_file; 0 reads it once.",
    "file_system_poll_wait_seconds": "Seconds between looks for new versions; 0 looks once, below 0 never.",
    "per_process_gpu_memory_fraction": "Share of a GPU's memory to take; 0 leaves it to TensorFlow.",
    "drain_seconds": "Seconds that requests get to finish on SIGTERM. (Not in TF Serving.)",
}
_STRINGS = {
    "grpc_socket_path": "Unix socket to listen on for gRPC as well.",
    "grpc_channel_arguments": "Comma-separated key=value arguments for the gRPC server.",
    "model_name": "Name of the model; not used with --model_config_file.",
    "model_base_path": "Directory that holds the model's numbered versions; not used with --model_config_file.",
    "model_config_file": "Text proto ModelServerConfig with the models to serve.",
    "saved_model_tags": "Comma-separated tags of the meta graph to load.",
    "tensorflow_session_config_file": "Text proto ConfigProto for TensorFlow sessions.",
    "mixed_precision": "bfloat16 computes in bfloat16 where an op can and the CPU has it; scores change a little.",
    "batching_parameters_file": "Text proto BatchingParameters; needs --enable_batching.",
    "monitoring_config_file": "Text proto MonitoringConfig; turns Prometheus metrics on.",
    "ssl_config_file": "Text proto SSLConfig; makes gRPC use TLS, with client_verify mutual TLS.",
    "device": "cpu, or the Edge TPU that runs model_edgetpu.tflite or model.tflite: edgetpu, usb:0, pci:0. (Not in TF "
    "Serving.)",
    "request_log": "File to append one JSON object a request to; - is standard error. (Not in TF Serving.)",
}
_BOOLEANS = {
    "pin_grpc_threads": "Keep each thread that answers Predict over gRPC on a core of its own; --grpc_max_threads is "
    "then at most their number. (Not in TF Serving.)",
    "rest_api_enable_cors_support": "Send CORS headers.",
    "allow_version_labels_for_unavailable_models": "Let unused labels point at versions that are not available yet.",
    "force_allow_any_version_labels_for_unavailable_models": "Let any label do so.",
    "enable_batching": "Run concurrent requests together.",
    "enable_per_model_batching_parameters": "Read batching_params.pbtxt in a version's directory.",
    "enable_model_warmup": "Replay assets.extra/tf_serving_warmup_requests before a version becomes available.",
    "prefer_tflite_model": "Run model.tflite where a version has one.",
    "enable_signature_method_name_check": "Have Classify and Regress insist on the signature's method_name.",
    "enable_serialization_as_tensor_content": "Send tensors as raw bytes in tensor_content.",
    "enable_grpc_healthcheck_service": "Offer grpc.health.v1.Health.",
    "demo_page": "Answer `/` of the REST port with a page that tries the models in a browser. (Not in TF Serving.)",
}

# TF Serving's flags that this server knows and cannot honour: default, help, and what to say at start.
_NOT_HONOURED = {
    "enable_profiler": (True, "the profiler service is not offered"),
    "flush_filesystem_caches": (True, "the kernel's file cache is left alone"),
    "num_unload_threads": (0, "one thread unloads"),
    "num_tflite_interpreters_per_pool": (0, "each request runs on one of the --num_tflite_pools interpreters"),
    "platform_config_file": ("", "TensorFlow is the one platform; use the other flags to configure it"),
    "remove_unused_fields_from_bundle_metagraph": (True, "of the meta graph only the signatures stay either way"),
    "thread_pool_factory_config_file": ("", "sessions use TensorFlow's own thread pools"),
    "use_alts_credentials": (False, "use --ssl_config_file"),
    "xla_cpu_compilation_enabled": (False, "jit-compiled functions run either way"),
    "xla_gpu_compilation_enabled": (False, "jit-compiled functions run either way"),
    "skip_initialize_tpu": (False, "TPUs are not supported"),
}


def define() -> None:
    """Defines all flags; called once, before `app.run`."""
    for name, text in _INTEGERS.items():
        flags.DEFINE_integer(name, _default(name), text)
    for name, text in _FLOATS.items():
        flags.DEFINE_float(name, _default(name), text)
    for name, text in _STRINGS.items():
        flags.DEFINE_string(name, _default(name), text)
    for name, text in _BOOLEANS.items():
        flags.DEFINE_boolean(name, _default(name), text)
    flags.DEFINE_boolean("version", False, "Print the version and exit.")
    for name, (default, reason) in _NOT_HONOURED.items():
        kind = {bool: flags.DEFINE_boolean, int: flags.DEFINE_integer, str: flags.DEFINE_string}[type(default)]
        kind(name, default, f"TF Serving's flag; not honoured here: {reason}.")


def read() -> config.Options:
    """Returns the options that the parsed flags stand for."""
    values = {
        field.name: flags.FLAGS[_RENAMED.get(field.name, field.name)].value for field in dataclasses.fields(_DEFAULTS)
    }
    return config.Options(**values)


def complaints() -> list[str]:
    """Returns one sentence for each flag that asks for something which cannot be honoured."""
    reasons = {name: reason for name, (_, reason) in _NOT_HONOURED.items()}
    return [
        f"--{name} is known but not honoured: {reason}"
        for name, reason in reasons.items()
        if flags.FLAGS[name].present and flags.FLAGS[name].value
    ]


def _default(flag_name: str) -> object:
    option = next((option for option, flag in _RENAMED.items() if flag == flag_name), flag_name)
    return getattr(_DEFAULTS, option)
