"""The compiler: op graph in, native code out."""
