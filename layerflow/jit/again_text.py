"""Native side of `again`, as LLVM IR text.

The words: 0 step, 1 context table, 2 address of the number that counts steps or 0, 3 None, 4 Py_IncRef,
5 PyFloat_FromDouble, 6 PyList_New, 7 PyList_SetItem, 8 to 11 how many guards, scalars, arrays and results follow.
Then for each guard an address and the number that must be there; for each scalar from where, to where and how; for each
array its word of the table, and type, element type, rank and address of the extents that it must have; for each result
its address.
"""

from __future__ import annotations

from layerflow.jit.array_objects import (
    CONTIGUOUS,
    DATA_FIELD,
    DTYPE_FIELD,
    EXTENTS_FIELD,
    FLAGS_FIELD,
    RANK_FIELD,
    TYPE_FIELD,
)

FIRST = 12  # word behind the counts
COPY, NEXT, NARROW = 0, 1, 2  # how a scalar is set: 8 bytes as they are; an integer plus 1; float64 as float32


_FIELDS = """
define internal i64 @lf_field(ptr %object, i64 %at) nounwind {
  %field = getelementptr i8, ptr %object, i64 %at
  %value = load i64, ptr %field
  ret i64 %value
}
define internal i64 @lf_word(ptr %words, i64 %n) nounwind {
  %at = getelementptr i64, ptr %words, i64 %n
  %value = load i64, ptr %at
  ret i64 %value
}
"""


def _for_all(name: str, parameters: str, body: str) -> str:
    """`i1 name(parameters, i64 count)`: runs the body for n = 0, 1, ... until it goes to %fail instead of %pass.

    True if it never does.
    """
    return f"""
define internal i1 @{name}({parameters}, i64 %count) nounwind {{
entry:
  br label %loop
loop:
  %n = phi i64 [ 0, %entry ], [ %next, %pass ]
  %end = icmp sge i64 %n, %count
  br i1 %end, label %done, label %one
one:
{body.strip(chr(10))}
pass:
  %next = add i64 %n, 1
  br label %loop
fail:
  br label %done
done:
  %all = phi i1 [ true, %loop ], [ false, %fail ]
  ret i1 %all
}}
"""


_UNCHANGED = _for_all(
    "lf_unchanged",
    "ptr %guards",
    """
  %twice = mul i64 %n, 2
  %guard = getelementptr i64, ptr %guards, i64 %twice
  %address = load i64, ptr %guard
  %expected = call i64 @lf_word(ptr %guard, i64 1)
  %place = inttoptr i64 %address to ptr
  %number = load i64, ptr %place
  %equal = icmp eq i64 %number, %expected
  br i1 %equal, label %pass, label %fail
""",
)

# `i1 lf_alike(ptr object, ptr like)`: whether an object is such an array.  Its type comes first: of other objects
# nothing else is read.
_ALIKE = f"""
define internal i1 @lf_alike(ptr %object, ptr %like) nounwind {{
entry:
  %type = call i64 @lf_field(ptr %object, i64 {TYPE_FIELD})
  %type.like = call i64 @lf_word(ptr %like, i64 1)
  %same.type = icmp eq i64 %type, %type.like
  br i1 %same.type, label %array, label %no
array:
  %dtype = call i64 @lf_field(ptr %object, i64 {DTYPE_FIELD})
  %dtype.like = call i64 @lf_word(ptr %like, i64 2)
  %same.dtype = icmp eq i64 %dtype, %dtype.like
  %rank.at = getelementptr i8, ptr %object, i64 {RANK_FIELD}
  %rank.int = load i32, ptr %rank.at
  %rank = sext i32 %rank.int to i64
  %rank.like = call i64 @lf_word(ptr %like, i64 3)
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
  %like.word = call i64 @lf_word(ptr %like, i64 4)
  %extents.like = inttoptr i64 %like.word to ptr
  br label %axis
axis:
  %k = phi i64 [ 0, %shape ], [ %next, %compare ]
  %more = icmp slt i64 %k, %rank
  br i1 %more, label %compare, label %yes
compare:
  %mine = call i64 @lf_word(ptr %extents, i64 %k)
  %theirs = call i64 @lf_word(ptr %extents.like, i64 %k)
  %same = icmp eq i64 %mine, %theirs
  %next = add i64 %k, 1
  br i1 %same, label %axis, label %no
yes:
  ret i1 true
no:
  ret i1 false
}}
"""

_ALL_ALIKE = _for_all(
    "lf_all_alike",
    "ptr %arguments, ptr %likes",
    """
  %word = call i64 @lf_word(ptr %arguments, i64 %n)
  %object = inttoptr i64 %word to ptr
  %at = mul i64 %n, 5
  %like = getelementptr i64, ptr %likes, i64 %at
  %alike = call i1 @lf_alike(ptr %object, ptr %like)
  br i1 %alike, label %pass, label %fail
""",
)

# Puts the addresses of data into the table.
_HAND_OVER = _for_all(
    "lf_hand_over",
    "ptr %arguments, ptr %likes, ptr %table",
    f"""
  %word = call i64 @lf_word(ptr %arguments, i64 %n)
  %object = inttoptr i64 %word to ptr
  %data = call i64 @lf_field(ptr %object, i64 {DATA_FIELD})
  %at = mul i64 %n, 5
  %slot = call i64 @lf_word(ptr %likes, i64 %at)
  %place = getelementptr i64, ptr %table, i64 %slot
  store i64 %data, ptr %place
  br label %pass
""",
)

_SCALARS = _for_all(
    "lf_scalars",
    "ptr %scalars",
    f"""
  %at = mul i64 %n, 3
  %scalar = getelementptr i64, ptr %scalars, i64 %at
  %from.word = load i64, ptr %scalar
  %from = inttoptr i64 %from.word to ptr
  %to.word = call i64 @lf_word(ptr %scalar, i64 1)
  %to = inttoptr i64 %to.word to ptr
  %how = call i64 @lf_word(ptr %scalar, i64 2)
  %is.narrow = icmp eq i64 %how, {NARROW}
  br i1 %is.narrow, label %narrow, label %whole
narrow:
  %wide = load double, ptr %from
  %short = fptrunc double %wide to float
  store float %short, ptr %to
  br label %pass
whole:
  %value = load i64, ptr %from
  %is.next = icmp eq i64 %how, {NEXT}
  %more = zext i1 %is.next to i64
  %sum = add i64 %value, %more
  store i64 %sum, ptr %to
  br label %pass
""",
)

# The floats at some addresses as objects of a list.
_ITEMS = _for_all(
    "lf_items",
    "ptr %list, ptr %words, ptr %addresses",
    """
  %set.word = call i64 @lf_word(ptr %words, i64 7)
  %set = inttoptr i64 %set.word to ptr
  %address = getelementptr i64, ptr %addresses, i64 %n
  %object = call ptr @lf_number(ptr %words, ptr %address)
  %ignored = call i32 %set(ptr %list, i64 %n, ptr %object)
  br label %pass
""",
)

# `ptr lf_number(ptr words, ptr address)`: the float there as an object.  `ptr lf_numbers(...)`: a list of several.
_RESULTS = """
define internal ptr @lf_number(ptr %words, ptr %address) {
  %place.word = load i64, ptr %address
  %place = inttoptr i64 %place.word to ptr
  %short = load float, ptr %place
  %wide = fpext float %short to double
  %make.word = call i64 @lf_word(ptr %words, i64 5)
  %make = inttoptr i64 %make.word to ptr
  %object = call ptr %make(double %wide)
  ret ptr %object
}
define internal ptr @lf_numbers(ptr %words, ptr %addresses, i64 %count) {
  %new.word = call i64 @lf_word(ptr %words, i64 6)
  %new = inttoptr i64 %new.word to ptr
  %list = call ptr %new(i64 %count)
  %none = icmp eq ptr %list, null
  br i1 %none, label %done, label %fill
fill:
  %filled = call i1 @lf_items(ptr %list, ptr %words, ptr %addresses, i64 %count)
  br label %done
done:
  ret ptr %list
}
"""

_AGAIN = f"""
define internal ptr @lf_returned(ptr %words, ptr %object) {{
  %count.word = call i64 @lf_word(ptr %words, i64 4)
  %count = inttoptr i64 %count.word to ptr
  call void %count(ptr %object)
  ret ptr %object
}}
define ptr @lf_again(ptr %self, ptr %arguments, i64 %given) {{
entry:
  %words.word = call i64 @lf_field(ptr %self, i64 {DATA_FIELD})
  %words = inttoptr i64 %words.word to ptr
  %guard.count = call i64 @lf_word(ptr %words, i64 8)
  %scalar.count = call i64 @lf_word(ptr %words, i64 9)
  %array.count = call i64 @lf_word(ptr %words, i64 10)
  %result.count = call i64 @lf_word(ptr %words, i64 11)
  %guards = getelementptr i64, ptr %words, i64 {FIRST}
  %guard.words = mul i64 %guard.count, 2
  %scalars = getelementptr i64, ptr %guards, i64 %guard.words
  %scalar.words = mul i64 %scalar.count, 3
  %likes = getelementptr i64, ptr %scalars, i64 %scalar.words
  %like.words = mul i64 %array.count, 5
  %results = getelementptr i64, ptr %likes, i64 %like.words
  %as.many = icmp eq i64 %given, %array.count
  br i1 %as.many, label %look, label %refuse
look:
  %unchanged = call i1 @lf_unchanged(ptr %guards, i64 %guard.count)
  br i1 %unchanged, label %compare, label %refuse
compare:
  %alike = call i1 @lf_all_alike(ptr %arguments, ptr %likes, i64 %array.count)
  br i1 %alike, label %run, label %refuse
run:
  %step.word = load i64, ptr %words
  %step = inttoptr i64 %step.word to ptr
  %ctx = call i64 @lf_word(ptr %words, i64 1)
  %table = inttoptr i64 %ctx to ptr
  %set = call i1 @lf_scalars(ptr %scalars, i64 %scalar.count)
  %handed = call i1 @lf_hand_over(ptr %arguments, ptr %likes, ptr %table, i64 %array.count)
  call void %step(i64 %ctx, i64 0, i64 1)
  %counter.word = call i64 @lf_word(ptr %words, i64 2)
  %counts = icmp ne i64 %counter.word, 0
  br i1 %counts, label %count, label %found
count:
  %counter = inttoptr i64 %counter.word to ptr
  %before = load i64, ptr %counter
  %after = add i64 %before, 1
  store i64 %after, ptr %counter
  br label %found
found:
  switch i64 %result.count, label %several [ i64 0, label %argument i64 1, label %number ]
argument:
  %last = sub i64 %given, 1
  %last.word = call i64 @lf_word(ptr %arguments, i64 %last)
  %object = inttoptr i64 %last.word to ptr
  %same = call ptr @lf_returned(ptr %words, ptr %object)
  ret ptr %same
number:
  %float = call ptr @lf_number(ptr %words, ptr %results)
  ret ptr %float
several:
  %list = call ptr @lf_numbers(ptr %words, ptr %results, i64 %result.count)
  ret ptr %list
refuse:
  %none.word = call i64 @lf_word(ptr %words, i64 3)
  %none = inttoptr i64 %none.word to ptr
  %nothing = call ptr @lf_returned(ptr %words, ptr %none)
  ret ptr %nothing
}}
"""


def again_text() -> str:
    """`ptr lf_again(ptr self, ptr arguments, i64 count)`: see `again.function`."""
    return "".join(
        (_FIELDS, _UNCHANGED, _ALIKE, _ALL_ALIKE, _SCALARS, _HAND_OVER, _RESULTS, _ITEMS, _AGAIN),
    )
