"""How often the compiler has run in this process."""

compiled = 0
loaded = 0


def compile_count() -> int:
    """Modules compiled, or loaded from the disk cache, so far."""
    return compiled + loaded
