"""Networks in ONNX files as torch modules, read from the very file that onnxruntime runs."""
