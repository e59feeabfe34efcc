"""Every check that needs a GPU: `python -m bench.gpu`."""
