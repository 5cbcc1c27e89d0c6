"""Measurements of layerflow beside other libraries, and of its kernels beside the machine: see README.md."""
