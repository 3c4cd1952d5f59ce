"""The embedded server: TF-Serving-compatible over gRPC and REST, `python -m serving.server`.

Layers point downwards only: faces (`grpc_face`, `rest_face`) -> `inference` -> `engine` -> `servable`.
"""
