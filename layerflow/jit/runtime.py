"""Native side of the thread pool and the barrier, as LLVM IR text.

Words are int64; every word that one thread polls and another writes has a cache line of its own.
Pool:    line 0 epoch, address of the system's yield | lines 1, 2 job of odd and even epochs: function, table, threads |
         then three lines a thread: last epoch done, parked, last epoch seen.
Barrier: line 0 epoch released, address of yield | then one line a thread: epoch it arrived at.
"""

from __future__ import annotations

LINE = 8  # words
BARRIER_SLOT = 13  # of the context table: address of the barrier
SPINS = 400  # pauses before the processor is offered to others
IDLE_ROUNDS = 1200  # offers (about a microsecond each) before a worker goes to sleep


def barrier_words(threads: int) -> int:
    return LINE * (1 + threads)


def pool_words(threads: int) -> int:
    return LINE * (3 + 3 * threads)


def done_word(tid: int) -> int:
    return LINE * (3 + 3 * tid)


def parked_word(tid: int) -> int:
    return LINE * (4 + 3 * tid)


def _waiting(pause: str) -> str:
    return f"""
define internal i64 @lf_relax(i64 %n, ptr %state) nounwind {{
  {pause}
  %next = add i64 %n, 1
  %tired = icmp sgt i64 %n, {SPINS}
  br i1 %tired, label %offer, label %exit
offer:
  %at = getelementptr i64, ptr %state, i64 1
  %address = load i64, ptr %at
  %yield = inttoptr i64 %address to ptr
  %ignored = call i32 %yield()
  br label %exit
exit:
  ret i64 %next
}}
define internal void @lf_await(ptr %word, i64 %epoch, ptr %state) nounwind {{
entry:
  br label %poll
poll:
  %n = phi i64 [ 0, %entry ], [ %next, %patient ]
  %seen = load atomic i64, ptr %word acquire, align 8
  %came = icmp sge i64 %seen, %epoch
  br i1 %came, label %done, label %patient
patient:
  %next = call i64 @lf_relax(i64 %n, ptr %state)
  br label %poll
done:
  ret void
}}
"""


def pause_of(architecture: str) -> tuple[str, str]:
    """(instruction, declaration) that tells the processor it is waiting."""
    if architecture.startswith(("x86", "i386", "i686", "amd64")):
        return "call void @llvm.x86.sse2.pause()", "declare void @llvm.x86.sse2.pause()\n"
    if architecture.startswith(("aarch64", "arm64")):
        return "call void @llvm.aarch64.hint(i32 1)", "declare void @llvm.aarch64.hint(i32)\n"
    return "", ""


def barrier_text(architecture: str) -> str:
    """`void lf_barrier(i64 ctx, i64 tid, i64 threads)`: returns when all threads have called it.

    The next epoch is the released one plus one for every thread, so no state is left over when the number of threads
    changes.
    """
    pause, declaration = pause_of(architecture)
    return declaration + _waiting(pause) + _BARRIER


_BARRIER = f"""
define void @lf_barrier(i64 %ctx, i64 %tid, i64 %threads) nounwind noinline {{
entry:
  %alone = icmp sle i64 %threads, 1
  br i1 %alone, label %exit, label %several
several:
  %table = inttoptr i64 %ctx to ptr
  %slot = getelementptr i64, ptr %table, i64 {BARRIER_SLOT}
  %address = load i64, ptr %slot
  %state = inttoptr i64 %address to ptr
  %released = load atomic i64, ptr %state acquire, align 8
  %epoch = add i64 %released, 1
  %first = icmp eq i64 %tid, 0
  br i1 %first, label %collect, label %arrive
arrive:
  %mine = add i64 %tid, 1
  %at = mul i64 %mine, {LINE}
  %word = getelementptr i64, ptr %state, i64 %at
  store atomic i64 %epoch, ptr %word release, align 8
  call void @lf_await(ptr %state, i64 %epoch, ptr %state)
  br label %exit
collect:
  %t = phi i64 [ 1, %several ], [ %t2, %here ]
  %all = icmp sge i64 %t, %threads
  br i1 %all, label %release, label %look
look:
  %line = add i64 %t, 1
  %there = mul i64 %line, {LINE}
  %other = getelementptr i64, ptr %state, i64 %there
  call void @lf_await(ptr %other, i64 %epoch, ptr %state)
  br label %here
here:
  %t2 = add i64 %t, 1
  br label %collect
release:
  store atomic i64 %epoch, ptr %state release, align 8
  br label %exit
exit:
  ret void
}}
"""


def pool_text(architecture: str) -> str:
    """The pool: `lf_worker`, `lf_dispatch`, `lf_join`."""
    pause, declaration = pause_of(architecture)
    return declaration + _waiting(pause) + _JOB + _WORKER + _DISPATCH


_JOB = f"""
define internal ptr @lf_job(ptr %pool, i64 %epoch) nounwind {{
  %odd = and i64 %epoch, 1
  %line = add i64 %odd, 1
  %at = mul i64 %line, {LINE}
  %job = getelementptr i64, ptr %pool, i64 %at
  ret ptr %job
}}
define internal ptr @lf_word(ptr %pool, i64 %tid, i64 %which) nounwind {{
  %three = mul i64 %tid, 3
  %a = add i64 %three, %which
  %line = add i64 %a, 3
  %at = mul i64 %line, {LINE}
  %word = getelementptr i64, ptr %pool, i64 %at
  ret ptr %word
}}
"""

_WORKER = f"""
define i64 @lf_worker(i64 %address, i64 %tid) nounwind {{
entry:
  %pool = inttoptr i64 %address to ptr
  %done = call ptr @lf_word(ptr %pool, i64 %tid, i64 0)
  %parked = call ptr @lf_word(ptr %pool, i64 %tid, i64 1)
  %memory = call ptr @lf_word(ptr %pool, i64 %tid, i64 2)
  br label %loop
loop:
  %n = phi i64 [ 0, %entry ], [ %n2, %idle ], [ 0, %finished ], [ 0, %changed ]
  %seen = load i64, ptr %memory
  %epoch = load atomic i64, ptr %pool acquire, align 8
  %fresh = icmp ne i64 %epoch, %seen
  br i1 %fresh, label %read, label %waiting
waiting:
  %bored = icmp sgt i64 %n, {SPINS + IDLE_ROUNDS}
  br i1 %bored, label %park, label %idle
idle:
  %n2 = call i64 @lf_relax(i64 %n, ptr %pool)
  br label %loop
read:
  %job = call ptr @lf_job(ptr %pool, i64 %epoch)
  %function = load i64, ptr %job
  %b = getelementptr i64, ptr %job, i64 1
  %table = load i64, ptr %b
  %c = getelementptr i64, ptr %job, i64 2
  %threads = load i64, ptr %c
  fence seq_cst
  %still = load atomic i64, ptr %pool acquire, align 8
  %same = icmp eq i64 %still, %epoch
  br i1 %same, label %take, label %changed
changed:
  br label %loop
take:
  store i64 %epoch, ptr %memory
  %stop = icmp slt i64 %threads, 0
  br i1 %stop, label %quit, label %mine
mine:
  %wanted = icmp slt i64 %tid, %threads
  br i1 %wanted, label %work, label %finished
work:
  %call = inttoptr i64 %function to ptr
  call void %call(i64 %table, i64 %tid, i64 %threads)
  store atomic i64 %epoch, ptr %done release, align 8
  br label %finished
finished:
  br label %loop
park:
  store atomic i64 1, ptr %parked seq_cst, align 8
  %late = load atomic i64, ptr %pool seq_cst, align 8
  %missed = icmp ne i64 %late, %seen
  br i1 %missed, label %wake, label %sleep
wake:
  store atomic i64 0, ptr %parked seq_cst, align 8
  br label %read2
read2:
  %again = call i64 @lf_worker(i64 %address, i64 %tid)
  ret i64 %again
sleep:
  ret i64 0
quit:
  ret i64 2
}}
"""

_DISPATCH = """
define i64 @lf_dispatch(i64 %address, i64 %function, i64 %table, i64 %threads) nounwind {
entry:
  %pool = inttoptr i64 %address to ptr
  %old = load atomic i64, ptr %pool acquire, align 8
  %epoch = add i64 %old, 1
  %job = call ptr @lf_job(ptr %pool, i64 %epoch)
  store i64 %function, ptr %job
  %b = getelementptr i64, ptr %job, i64 1
  store i64 %table, ptr %b
  %c = getelementptr i64, ptr %job, i64 2
  store i64 %threads, ptr %c
  store atomic i64 %epoch, ptr %pool seq_cst, align 8
  br label %loop
loop:
  %t = phi i64 [ 1, %entry ], [ %t2, %awake ]
  %end = icmp sge i64 %t, %threads
  br i1 %end, label %run, label %check
check:
  %word = call ptr @lf_word(ptr %pool, i64 %t, i64 1)
  %asleep = load atomic i64, ptr %word seq_cst, align 8
  %t2 = add i64 %t, 1
  %bad = icmp ne i64 %asleep, 0
  br i1 %bad, label %needed, label %awake
awake:
  br label %loop
needed:
  ret i64 1
run:
  call void @lf_join(i64 %address)
  ret i64 0
}
define void @lf_join(i64 %address) nounwind {
entry:
  %pool = inttoptr i64 %address to ptr
  %epoch = load atomic i64, ptr %pool acquire, align 8
  %job = call ptr @lf_job(ptr %pool, i64 %epoch)
  %function = load i64, ptr %job
  %b = getelementptr i64, ptr %job, i64 1
  %table = load i64, ptr %b
  %c = getelementptr i64, ptr %job, i64 2
  %threads = load i64, ptr %c
  %call = inttoptr i64 %function to ptr
  call void %call(i64 %table, i64 0, i64 %threads)
  br label %loop
loop:
  %t = phi i64 [ 1, %entry ], [ %t2, %ready ]
  %end = icmp sge i64 %t, %threads
  br i1 %end, label %exit, label %look
look:
  %word = call ptr @lf_word(ptr %pool, i64 %t, i64 0)
  call void @lf_await(ptr %word, i64 %epoch, ptr %pool)
  br label %ready
ready:
  %t2 = add i64 %t, 1
  br label %loop
exit:
  ret void
}
"""
