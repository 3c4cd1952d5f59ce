"""A client of TF Serving: gRPC and REST, NumPy in and out, without TensorFlow or Keras."""

from keras_mobilenet.client.asynchronous import AsyncClient as AsyncClient
from keras_mobilenet.client.blocking import Client as Client
from keras_mobilenet.client.errors import ClientError as ClientError
from keras_mobilenet.client.errors import InputError as InputError
from keras_mobilenet.client.model_info import Classification as Classification
from keras_mobilenet.client.model_info import ModelMetadata as ModelMetadata
from keras_mobilenet.client.model_info import Outputs as Outputs
from keras_mobilenet.client.model_info import Signature as Signature
from keras_mobilenet.client.model_info import TensorSpec as TensorSpec
from keras_mobilenet.client.model_info import VersionStatus as VersionStatus
from keras_mobilenet.client.options import TLS as TLS
from keras_mobilenet.client.options import Retry as Retry
