"""Entries of a compiled module, as LLVM IR text: what Python calls, around the driver `step` of its source."""

from __future__ import annotations

from layerflow.jit.repeated import (
    CONTIGUOUS,
    DATA_FIELD,
    DTYPE_FIELD,
    EXTENTS_FIELD,
    FLAGS_FIELD,
    RANK_FIELD,
    TYPE_FIELD,
)


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


LIKE_WORDS = 5  # of an array in the words of `lf_again`: slot, and what `Likeness.words` has

# `i1 lf_alike(ptr object, ptr like)`: whether an object is an array like the one of the words.  Its type comes first:
# of other objects nothing else is read.
_ALIKE = f"""
define internal i64 @lf_field(ptr %object, i64 %at) {{
  %field = getelementptr i8, ptr %object, i64 %at
  %value = load i64, ptr %field
  ret i64 %value
}}
define internal i1 @lf_alike(ptr %object, ptr %like) {{
entry:
  %type = call i64 @lf_field(ptr %object, i64 {TYPE_FIELD})
  %type.like = call i64 @lf_field(ptr %like, i64 8)
  %same.type = icmp eq i64 %type, %type.like
  br i1 %same.type, label %array, label %no
array:
  %dtype = call i64 @lf_field(ptr %object, i64 {DTYPE_FIELD})
  %dtype.like = call i64 @lf_field(ptr %like, i64 16)
  %same.dtype = icmp eq i64 %dtype, %dtype.like
  %rank.at = getelementptr i8, ptr %object, i64 {RANK_FIELD}
  %rank.int = load i32, ptr %rank.at
  %rank = sext i32 %rank.int to i64
  %rank.like = call i64 @lf_field(ptr %like, i64 24)
  %same.rank = icmp eq i64 %rank, %rank.like
  %flags.at = getelementptr i8, ptr %object, i64 {FLAGS_FIELD}
  %flags = load i32, ptr %flags.at
  %flag = and i32 %flags, {CONTIGUOUS}
  %in.order = icmp ne i32 %flag, 0
  %two = and i1 %same.dtype, %same.rank
  %three = and i1 %two, %in.order
  br i1 %three, label %shape, label %no
shape:
  %extents.word = call i64 @lf_field(ptr %object, i64 {EXTENTS_FIELD})
  %extents = inttoptr i64 %extents.word to ptr
  %like.word = call i64 @lf_field(ptr %like, i64 32)
  %extents.like = inttoptr i64 %like.word to ptr
  br label %axis
axis:
  %k = phi i64 [ 0, %shape ], [ %next, %compare ]
  %more = icmp slt i64 %k, %rank
  br i1 %more, label %compare, label %yes
compare:
  %mine.at = getelementptr i64, ptr %extents, i64 %k
  %mine = load i64, ptr %mine.at
  %theirs.at = getelementptr i64, ptr %extents.like, i64 %k
  %theirs = load i64, ptr %theirs.at
  %same = icmp eq i64 %mine, %theirs
  %next = add i64 %k, 1
  br i1 %same, label %axis, label %no
yes:
  ret i1 true
no:
  ret i1 false
}}
"""


def _again() -> str:
    """`i64 lf_again(ptr words, ptr a, ptr b)`: a step on one thread with the data of two array objects.

    The words are the context table, and for each array the slot there for the address of its data and what it must be
    like; the rest is read from the objects (`layerflow.jit.repeated.FIELDS` says where that is possible).  1 if they
    are like that and the step has run, else 0.
    """
    alike = "".join(
        f"  %{n}.like = getelementptr i64, ptr %words, i64 {1 + at * LIKE_WORDS}\n"
        f"  %{n}.alike = call i1 @lf_alike(ptr %{n}, ptr %{n}.like)\n"
        for at, n in enumerate("ab")
    )
    put = "".join(
        f"  %{n}.slot = load i64, ptr %{n}.like\n  %{n}.data = call i64 @lf_field(ptr %{n}, i64 {DATA_FIELD})\n"
        f"  %{n}.place = getelementptr i64, ptr %table, i64 %{n}.slot\n  store i64 %{n}.data, ptr %{n}.place\n"
        for n in "ab"
    )
    return (
        f"{_ALIKE}define i64 @lf_again(ptr %words, ptr %a, ptr %b) {{\n"
        f"{alike}  %both = and i1 %a.alike, %b.alike\n  br i1 %both, label %run, label %others\n"
        f"run:\n  %ctx = load i64, ptr %words\n  %table = inttoptr i64 %ctx to ptr\n{put}"
        "  call void @lf_step(i64 %ctx, i64 0, i64 1)\n  ret i64 1\nothers:\n  ret i64 0\n}\n"
    )
