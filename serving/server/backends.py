"""Which backends the options ask for; a further one is added here."""

import tensorflow as tf
from tensorflow.core.protobuf import config_pb2, rewriter_config_pb2

from serving.server import config, saved_model, servable, status, text_protos


def choose(options: config.Options) -> list[servable.Backend]:
    """Returns the backends in order of preference; the last takes every directory.

    Raises:
        ServingError: INVALID_ARGUMENT for contradicting options.
    """
    tags = [tag for tag in options.saved_model_tags.split(",") if tag]
    chosen: list[servable.Backend] = [saved_model.SavedModelBackend(tags, session_config(options))]
    if options.prefer_tflite_model or options.device != "cpu":
        # Imported here: only who runs model.tflite needs ai-edge-litert.
        from serving.server import lite_model

        chosen.insert(0, lite_model.LiteRTBackend(options.device, options.num_tflite_pools))
    return chosen


def session_config(options: config.Options) -> tf.compat.v1.ConfigProto:
    """Builds TensorFlow's session configuration; 0 leaves a figure to TensorFlow.

    Raises:
        ServingError: INVALID_ARGUMENT where --tensorflow_session_parallelism and its parts are both set, or where
            --mixed_precision is unknown.
    """
    session = options.tensorflow_session_parallelism
    intra, inter = options.tensorflow_intra_op_parallelism, options.tensorflow_inter_op_parallelism
    if session > 0 and (intra > 0 or inter > 0):
        raise status.invalid_argument(
            "Either configure --tensorflow_session_parallelism or (--tensorflow_intra_op_parallelism, "
            "--tensorflow_inter_op_parallelism) separately. You cannot configure all."
        )
    file = options.tensorflow_session_config_file
    # The C++ descriptor pool and ours share the message class, so TensorFlow takes what is parsed here.
    proto = text_protos.read(file, config_pb2.ConfigProto) if file else tf.compat.v1.ConfigProto()
    if session or intra or inter:
        proto.intra_op_parallelism_threads = intra or session
        proto.inter_op_parallelism_threads = inter or session
    if options.per_process_gpu_memory_fraction:
        proto.gpu_options.per_process_gpu_memory_fraction = options.per_process_gpu_memory_fraction
    if options.mixed_precision == "bfloat16":
        proto.graph_options.rewrite_options.auto_mixed_precision_onednn_bfloat16 = rewriter_config_pb2.RewriterConfig.ON
    elif options.mixed_precision:
        raise status.invalid_argument(f"--mixed_precision={options.mixed_precision} is not supported; bfloat16 is")
    return proto
