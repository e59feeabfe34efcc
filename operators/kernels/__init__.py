"""Pixel work of a GPU in one pass each: CUDA kernels, each with a twin in NumPy and OpenCV."""
