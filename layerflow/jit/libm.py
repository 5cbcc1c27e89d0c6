"""Mathematical functions in the kernel language: straight-line code, no calls of a C library."""
SOURCE=""
