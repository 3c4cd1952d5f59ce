"""What the server is told to do: its options, and the list of models as TF Serving's ModelServerConfig."""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path

from google.protobuf import message
from tensorflow_serving.config import model_server_config_pb2

from serving.server import status, text_protos, versions

TENSORFLOW_PLATFORM = "tensorflow"
CPUS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclasses.dataclass(frozen=True)
class Options:
    """Everything that the flags set, with TF Serving's names and defaults; `flags.py` explains each.

    `grpc_port=0` and `rest_api_port=-1` ask for a free port; `rest_api_port=0` is no REST face, as in TF Serving.
    """

    grpc_port: int = 8500
    grpc_socket_path: str = ""
    grpc_channel_arguments: str = ""
    grpc_max_threads: int = 4 * CPUS
    pin_grpc_threads: bool = False
    rest_api_port: int = 0
    rest_api_num_threads: int = 4 * CPUS
    rest_api_timeout_in_ms: int = 30000
    rest_api_enable_cors_support: bool = False
    rest_api_max_body_bytes: int = 256 * 1024 * 1024
    model_name: str = "default"
    model_base_path: str = ""
    model_config_file: str = ""
    model_config_file_poll_wait_seconds: float = 0
    file_system_poll_wait_seconds: float = 1
    allow_version_labels_for_unavailable_models: bool = False
    force_allow_any_version_labels_for_unavailable_models: bool = False
    num_load_threads: int = 0
    max_num_load_retries: int = 5
    load_retry_interval_micros: int = 60_000_000
    enable_model_warmup: bool = True
    num_request_iterations_for_warmup: int = 0
    saved_model_tags: str = "serve"
    tensorflow_session_parallelism: int = 0
    tensorflow_intra_op_parallelism: int = 0
    tensorflow_inter_op_parallelism: int = 0
    tensorflow_session_config_file: str = ""
    per_process_gpu_memory_fraction: float = 0
    mixed_precision: str = ""
    enable_batching: bool = False
    batching_parameters_file: str = ""
    enable_per_model_batching_parameters: bool = False
    prefer_tflite_model: bool = False
    num_tflite_pools: int = 0
    device: str = "cpu"
    enable_signature_method_name_check: bool = False
    enable_serialization_as_tensor_content: bool = False
    enable_grpc_healthcheck_service: bool = False
    monitoring_config_file: str = ""
    ssl_config_file: str = ""
    request_log: str = ""
    demo_page: bool = True
    drain_seconds: float = 30


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """One model of the configuration.

    Args:
        name: The name in requests.
        base_path: The directory with the versions.
        policy: Which versions to serve.
        labels: Version by label.
    """

    name: str
    base_path: Path
    policy: versions.VersionPolicy
    labels: Mapping[str, int]


def single_model(name: str, base_path: str) -> model_server_config_pb2.ModelServerConfig:
    """Builds the configuration that --model_name and --model_base_path stand for.

    A relative path counts from the working directory here; in configuration files and reload requests it is refused,
    as TF Serving does.
    """
    config = model_server_config_pb2.ModelServerConfig()
    config.model_config_list.config.add(
        name=name, base_path=os.path.abspath(base_path), model_platform=TENSORFLOW_PLATFORM
    )
    return config


def initial(options: Options) -> model_server_config_pb2.ModelServerConfig:
    """Returns the configuration to start with.

    Raises:
        ServingError: Where neither a model nor a file is given, or the file does not parse.
    """
    if options.model_config_file:
        return text_protos.read(options.model_config_file, model_server_config_pb2.ModelServerConfig)
    if not options.model_base_path:
        raise status.invalid_argument(
            "Both server_options.model_base_path and server_options.model_config_file are empty! "
            "Pass --model_base_path=DIRECTORY (the one that holds the numbered versions) or --model_config_file=FILE"
        )
    return single_model(options.model_name, options.model_base_path)


def parse_models(config: model_server_config_pb2.ModelServerConfig) -> list[ModelConfig]:
    """Checks a configuration and reads its models; nothing is changed when it is refused.

    Args:
        config: From a file or from HandleReloadConfigRequest.

    Returns:
        The models in their order.

    Raises:
        ServingError: INVALID_ARGUMENT for a duplicate or empty name, a relative path or an unknown platform.
    """
    if config.WhichOneof("config") == "custom_model_config":
        raise status.invalid_argument("custom_model_config is not supported; use model_config_list")
    models: dict[str, ModelConfig] = {}
    for entry in config.model_config_list.config:
        if entry.name in models:
            raise status.invalid_argument(f"Illegal to list model {entry.name} multiple times in config list")
        models[entry.name] = _parse_model(entry)
    return list(models.values())


def _parse_model(entry: message.Message) -> ModelConfig:
    if not entry.name:
        raise status.invalid_argument("A model in the config list has no name; every model needs one")
    if not entry.base_path.startswith("/"):
        raise status.invalid_argument(
            f"Expected model {entry.name} to have an absolute path or URI; got base_path()={entry.base_path}"
        )
    legacy_tensorflow = entry.model_type == model_server_config_pb2.TENSORFLOW
    if entry.model_type and entry.model_platform:
        raise status.invalid_argument(
            "Illegal setting both ModelServerConfig::model_type (deprecated) and ModelServerConfig::model_platform."
        )
    if not entry.model_platform and not legacy_tensorflow:
        raise status.invalid_argument(
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor ModelServerConfig::model_platform."
            f" Set model_platform: '{TENSORFLOW_PLATFORM}' for model {entry.name}"
        )
    if not legacy_tensorflow and entry.model_platform != TENSORFLOW_PLATFORM:
        raise status.invalid_argument(
            f"Model {entry.name} requests unsupported platform {entry.model_platform}; "
            f"'{TENSORFLOW_PLATFORM}' is the one supported"
        )
    return ModelConfig(
        entry.name, Path(entry.base_path), entry.model_version_policy, dict(entry.version_labels.items())
    )
