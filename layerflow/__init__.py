"""layerflow: the TensorFlow.js Layers API for Python, on an engine that compiles the whole model."""
