"""Networks in TFLite files as torch modules, read from the very file that LiteRT runs."""
