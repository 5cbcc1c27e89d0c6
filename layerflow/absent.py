"""Why names of TF.js's Core API are not here; names that are only misspelled get the nearest one."""

from __future__ import annotations

from collections.abc import Iterable

from layerflow.errors import nearest

_REASONS = {
    "there are no complex numbers: values are floats, integers and booleans. np.fft works on the arrays, outside of "
    "graphs.": "complex real imag complex_abs fft ifft rfft irfft spectral stft",
    "there are no tensors of strings; keep text in NumPy or in lists, and make numbers of it first.": (
        "string string_n_grams string_split string_to_hash_bucket_fast encode_string decode_string static_regex_replace"
    ),
    "there are no sparse and no ragged tensors: every tensor is dense. Use padding and masks, or lf.gather_nd and "
    "lf.scatter_nd.": (
        "sparse sparse_fill_empty_rows sparse_reshape sparse_segment_mean sparse_segment_sum ragged_gather "
        "ragged_range ragged_tensor_to_tensor"
    ),
    "how many results it gives, or where it reads, depends on the values; do it with NumPy outside of graphs.": (
        "non_max_suppression non_max_suppression_async non_max_suppression_padded non_max_suppression_padded_async "
        "non_max_suppression_with_score non_max_suppression_with_score_async crop_and_resize rotate_with_offset "
        "transform threshold"
    ),
    "pictures are not decoded and not drawn here; Pillow or imageio give arrays, which go wherever tensors do.": (
        "browser from_pixels to_pixels decode_image decode_png decode_jpeg"
    ),
    "nothing here needs it: a function runs at once, and arrays need no promises. The name without `async` does it "
    "(where_async is lf.where_true).": (
        "where_async boolean_mask_async setdiff1d_async in_top_k_async ready next_frame"
    ),
    "tensors are NumPy arrays: write into one, and give it to lf.tensor.": "buffer",
    "there is one backend, the compiler; LAYERFLOW_JIT=0 (lf.config.set_jit) runs everything uncompiled.": (
        "set_backend get_backend register_backend remove_backend env engine enable_prod_mode enable_debug_mode"
    ),
    "use Python's time, or lf.inspect for what the compiler made.": "profile time",
    "the place of a maximum within its window is not given back; lf.max_pool gives the values.": "max_pool_with_argmax",
    "variables belong to whoever holds them, there is no list of all; lf.dispose(them).": "dispose_variables",
}
REASONS: dict[str, str] = {name: reason for reason, names in _REASONS.items() for name in names.split()}


def message(name: str, known: Iterable[str]) -> str:
    """Why `layerflow.<name>` does not exist, or the nearest name."""
    snake = "".join("_" + c.lower() if c.isupper() else c for c in name)
    reason = REASONS.get(name) or REASONS.get(snake)
    if reason is not None:
        return f"layerflow has no {name!r}: {reason}"
    public = [k for k in known if not k.startswith("_")]
    hint = nearest(name, public)
    return f"layerflow has no {name!r}.{hint if 'Did you mean' in hint else ''}"
