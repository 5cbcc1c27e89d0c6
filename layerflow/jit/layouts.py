"""Layouts: how values lie in memory between those who make and those who read them."""

from __future__ import annotations

from layerflow.graph.shapes import BATCH, Dim, multiply, static
from layerflow.graph.symbolic import Kind, Op
from layerflow.jit.access import Layout
from layerflow.jit.copies import is_transpose
from layerflow.jit.packing import PACK_DEPTH, PACK_STRIDE, panel_vectors
from layerflow.jit.schedule import Kernel, Schedule

Users = dict[Op, list[Op]]


def choose(plan: Schedule, vector_bytes: int, registers: int) -> None:
    """Gives what products read as right operand, and what loops hand out at every step, the layout that suits them."""
    users = plan.graph.users()
    for kernel in plan.kernels:
        if kernel.group.kind == "loop":
            for op in kernel.group.stored:
                _lay_out_stack(plan, op, users, vector_bytes, registers)
        elif is_transpose(plan, kernel):
            _lay_out_transpose(plan, kernel, users, vector_bytes * panel_vectors(registers))


def _panel(op: Op, panel_bytes: int) -> int:
    """Columns of a panel: as many as the widest tile has; 0 if the rows are short or would not fill panels."""
    columns, size = op.shape[-1], op.dtype.itemsize
    panel = panel_bytes // size
    fits = isinstance(columns, int) and columns % panel == 0 and columns > panel and columns * size >= PACK_STRIDE
    return panel if fits and op.dtype.kind == "f" else 0


def _lay_out_transpose(plan: Schedule, kernel: Kernel, users: Users, panel_bytes: int) -> None:
    op = kernel.group.anchor
    buffer, rows, panel = plan.buffers[op], op.shape[0], _panel(op, panel_bytes)
    deep = isinstance(rows, int) and rows >= PACK_DEPTH
    if panel and deep and buffer.role == "temporary" and all(_is_right_operand(user, op) for user in users[op]):
        buffer.layout = Layout(op.shape, (panel, 1), (panel, multiply(rows, panel)))


def _is_right_operand(user: Op, op: Op) -> bool:
    """Whether a user is a product that reads `op` as its right operand only, or a loop with such products."""
    if user.name == "loop":
        body = user.attrs["body"].graph
        first = user.attrs["sequences"] + user.attrs["states"]
        inside = [x for x, y in zip(body.inputs[first:], user.inputs[first:], strict=True) if y is op]
        readers = [(reader, x) for x in inside for reader in body.users()[x]]
        return op not in user.inputs[:first] and all(_is_right_operand(reader, x) for reader, x in readers)
    if user.name != "matmul" or user.attrs["transpose_a"] or user.attrs["transpose_b"]:
        return False
    return op is user.inputs[1] and op is not user.inputs[0] and len(user.shape) == 2


def _lay_out_stack(plan: Schedule, op: Op, users: Users, vector_bytes: int, registers: int) -> None:
    """Values of all steps: step by step for loops, in panels for products that sum over steps."""
    buffer, m = plan.buffers[op], op.inputs[0].attrs["states"]
    if op.attrs["at"] < m or buffer.role != "temporary" or op.shape[:1] != (Dim(BATCH),):
        return
    buffer.by_step = all(_only_steps(user, op) for user in users[op])
    panel = _panel(op, vector_bytes * panel_vectors(registers))
    if panel and len(op.shape) == 3 and _suits_panels(op, users, vector_bytes // op.dtype.itemsize, panel):
        batch, steps, _ = op.shape
        each = multiply(steps, panel)
        buffer.layout = Layout(op.shape, (each, panel, 1), (panel, multiply(batch, each)))


def _only_steps(user: Op, op: Op) -> bool:
    """Whether a user is a loop that reads `op` step by step, which walks through memory without gaps if steps do."""
    return user.name == "loop" and op not in user.inputs[user.attrs["sequences"] :]


def _suits_panels(stack: Op, users: Users, lanes: int, panel: int) -> bool:
    """Whether the rows of all steps are the right operand of a product, which would have to copy them into panels, and
    whoever else reads or writes them does so along the columns."""
    loop = stack.inputs[0]
    body = loop.attrs["body"].graph
    made = body.outputs[stack.attrs["at"]]
    if not _made_along_columns(made, lanes) or not all(_reads_along_columns(u, made) for u in body.users()[made]):
        return False
    readers = _readers(stack, users, panel)
    if readers is None:
        return False
    return all(_reads_along_columns(u, x) or _folds_rows(u, x) for u, x in readers) and any(
        _folds_rows(u, x) and u.name == "matmul" for u, x in readers
    )


def _readers(stack: Op, users: Users, panel: int) -> list[tuple[Op, Op]] | None:
    """Who reads a stack or some of its panels, with the steps among the rows or not, and as what; None if any other
    part of it is read."""
    found: list[tuple[Op, Op]] = []
    seen = [stack]
    for x in seen:
        for user in users[x]:
            if user.name == "reshape":
                if user.shape[-1] != x.shape[-1]:
                    return None
                seen.append(user)
            elif user.name == "slice":
                if not _takes_panels(user, panel):
                    return None
                seen.append(user)
            else:
                found.append((user, x))
    return found


def _takes_panels(op: Op, panel: int) -> bool:
    """Whether a slice consists of whole panels."""
    begin, size, step = op.attrs["begin"], op.attrs["size"], op.attrs["step"]
    whole = size[:-1] == op.inputs[0].shape[:-1] and set(step) == {1}
    return whole and begin[-1] % panel == 0 and size[-1] % panel == 0


def _made_along_columns(op: Op, lanes: int) -> bool:
    """Whether whole vectors of columns are made: none of them crosses the end of a panel."""
    if op.name == "concatenate":
        return op.attrs["axis"] == len(op.shape) - 1 and all(static(x.shape[-1]) % lanes == 0 for x in op.inputs)
    return op.primitive.kind is Kind.MAP


def _reads_along_columns(user: Op, op: Op) -> bool:
    left = user.name == "matmul" and op is user.inputs[0] and op is not user.inputs[1]
    return left and not user.attrs["transpose_a"]


def _folds_rows(user: Op, op: Op) -> bool:
    """Whether a sum over rows leaves columns: a product with the transpose of another one's rows, or a plain sum."""
    if user.name == "matmul":
        right = op is user.inputs[1] and op is not user.inputs[0]
        return right and user.attrs["transpose_a"] and not user.attrs["transpose_b"] and len(user.shape) == 2
    return user.name == "sum" and len(op.shape) - 1 not in user.attrs["axes"]
