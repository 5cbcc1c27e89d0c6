"""Entries of a compiled module, as LLVM IR text: what Python calls, around the driver `step` of its source."""

from __future__ import annotations

from layerflow.jit.repeated import DATA_FIELD


def entries_text(architecture: str) -> str:
    """`void lf_step(i64 ctx, i64 tid, i64 threads)`, each thread's entry, and `lf_again`.

    Denormal numbers are zero during a step, and the thread's mode is put back: an optimizer's averages of vanished
    gradients decay into denormals, on which arithmetic is a hundred times slower.
    """
    declared, before, after = _FLUSH if architecture in ("x86_64", "amd64") else ("", "", "")
    return (
        f"{declared}declare void @step(i64, i64, i64)\n"
        f"define void @lf_step(i64 %ctx, i64 %tid, i64 %threads) {{\n"
        f"{before}  call void @step(i64 %ctx, i64 %tid, i64 %threads)\n{after}  ret void\n}}\n{_again()}"
    )


_FLUSH = (
    "declare void @llvm.x86.sse.stmxcsr(ptr)\ndeclare void @llvm.x86.sse.ldmxcsr(ptr)\n",
    "  %old = alloca i32\n  %new = alloca i32\n"
    "  call void @llvm.x86.sse.stmxcsr(ptr %old)\n  %mode = load i32, ptr %old\n"
    "  %flush = or i32 %mode, 32832\n  store i32 %flush, ptr %new\n"
    "  call void @llvm.x86.sse.ldmxcsr(ptr %new)\n",
    "  call void @llvm.x86.sse.ldmxcsr(ptr %old)\n",
)


def _again() -> str:
    """`void lf_again(ptr words, ptr a, ptr b)`: a step on one thread with the data of two array objects.

    The words are the context table and the slots there for the addresses of their data, which are read from the objects
    (`layerflow.jit.repeated.FIELDS` says where that is possible).
    """
    put = "".join(
        f"  %{n}.at = getelementptr i64, ptr %words, i64 {at}\n  %{n}.slot = load i64, ptr %{n}.at\n"
        f"  %{n}.field = getelementptr i8, ptr %{n}, i64 {DATA_FIELD}\n  %{n}.data = load i64, ptr %{n}.field\n"
        f"  %{n}.place = getelementptr i64, ptr %table, i64 %{n}.slot\n  store i64 %{n}.data, ptr %{n}.place\n"
        for at, n in enumerate("ab", 1)
    )
    return (
        "define void @lf_again(ptr %words, ptr %a, ptr %b) {\n"
        f"  %ctx = load i64, ptr %words\n  %table = inttoptr i64 %ctx to ptr\n{put}"
        "  call void @lf_step(i64 %ctx, i64 0, i64 1)\n  ret void\n}\n"
    )
