"""Speed of training next to the peers: keras.applications, and tf_keras with tensorflow-model-optimization."""
