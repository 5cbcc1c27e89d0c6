"""IR text to machine code: LLVM's passes, object files, and their loading into the process."""

from __future__ import annotations

import functools
import struct
import threading
from collections.abc import Sequence

import llvmlite.binding as llvm

from layerflow.errors import CompileError
from layerflow.jit.target import Target, host

_lock = threading.Lock()  # LLVM's global context is not for several threads


class Library:
    """Machine code in memory; it stays there as long as this object lives."""

    def __init__(self, engine: llvm.ExecutionEngine, image: bytes):
        self._engine = engine
        self.image = image

    def function(self, name: str) -> int:
        """The address of a function.

        Raises:
            CompileError: there is no such function.
        """
        address = self._engine.get_function_address(name)
        if not address:
            raise CompileError(f"The compiled module has no function {name}.")
        return address


# --- compiling -------------------------------------------------------------------------


@functools.cache
def _initialize() -> None:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()


@functools.cache
def _machine(target: Target, effort: int = 2) -> llvm.TargetMachine:
    _initialize()
    triple = llvm.Target.from_default_triple()
    return triple.create_target_machine(
        cpu=target.name, features=target.features, opt=effort, reloc="pic", codemodel="small", jit=True
    )


def _parse(text: str, context: llvm.ContextRef | None = None) -> llvm.ModuleRef:
    try:
        module = llvm.parse_assembly(text, context)
        module.verify()
    except RuntimeError as error:
        raise CompileError(f"LLVM refuses generated code: {error}") from None
    return module


def _optimized(texts: Sequence[str], target: Target, effort: int = 2) -> llvm.ModuleRef:
    _initialize()
    context = llvm.create_context()  # of its own, so that types and constants are gone with the module
    module = _parse(texts[0], context)
    for text in texts[1:]:
        module.link_in(_parse(text, context))
    machine = _machine(target, effort)
    module.triple = machine.triple
    module.data_layout = str(machine.target_data)
    _run_passes(module, machine)
    return module


def _run_passes(module: llvm.ModuleRef, machine: llvm.TargetMachine) -> None:
    """Cleans up each function.

    Kernels arrive as vectors in SSA form, unrolled, with common values shared: the whole of O2 takes half the time of a
    compilation and the code it leaves runs no faster.  Loops are rotated: the code generator hoists from those only.
    """
    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=2))
    passes = llvm.create_new_function_pass_manager()
    passes.add_sroa_pass()
    passes.add_simplify_cfg_pass()
    passes.add_loop_rotate_pass()
    passes.add_instruction_combine_pass()
    passes.add_simplify_cfg_pass()
    for function in module.functions:
        if not function.is_declaration:
            passes.run(function, builder)


def compile_object(texts: Sequence[str], target: Target | None = None, effort: int = 2) -> bytes:
    """An object file from the IR texts of modules, which are linked into one.

    Args:
        effort: of LLVM's code generator, 0 to 2: with 0 it takes a sixth of the time.

    Raises:
        CompileError: LLVM refuses the text.
    """
    target = target or host()
    with _lock:
        return _machine(target, effort).emit_object(_optimized(texts, target, effort))


def llvm_text(texts: Sequence[str], target: Target | None = None, name: str | None = None) -> str:
    """The optimized IR, of the whole module or of one function."""
    with _lock:
        module = _optimized(texts, target or host())
    return str(module if name is None else module.get_function(name))


def asm_text(texts: Sequence[str], target: Target | None = None, name: str | None = None) -> str:
    """The assembly, of the whole module or of one function."""
    target = target or host()
    with _lock:
        text = _machine(target).emit_assembly(_optimized(texts, target))
    if name is None:
        return text
    _, found, rest = text.partition(f"\n{name}:")
    if not found:
        raise CompileError(f"The compiled module has no function {name}.")
    return f"{name}:{rest.partition('.size')[0]}"


# --- loading ---------------------------------------------------------------------------


_ELF, _MACH_O, _COFF = b"\x7fELF\x02\x01", b"\xcf\xfa\xed\xfe", b"\x64\x86"


def undefined_symbols(image: bytes) -> list[str]:
    """Names an ELF object needs from elsewhere; none are known of other formats."""
    if not image.startswith(_ELF):
        return []
    (headers,) = struct.unpack_from("<Q", image, 0x28)
    size, count = struct.unpack_from("<HH", image, 0x3A)
    sections = [struct.unpack_from("<IIQQQQIIQQ", image, headers + i * size) for i in range(count)]
    found = []
    for _, kind, _, _, offset, length, link, *_ in sections:
        if kind != 2:  # SHT_SYMTAB
            continue
        strings = sections[link][4]
        for at in range(offset + 24, offset + length, 24):
            name, _, _, section = struct.unpack_from("<IBBH", image, at)
            if section == 0:
                start = strings + name
                found.append(image[start : image.index(b"\0", start)].decode())
    return found


def _check(image: bytes) -> None:
    """Refuses what LLVM's loader would end the process over."""
    if not image.startswith((_ELF, _MACH_O, _COFF)):
        raise CompileError("These bytes are no object file.")
    try:
        names = undefined_symbols(image)
    except (struct.error, IndexError, ValueError):
        raise CompileError("The object file is damaged.") from None
    missing = [n for n in names if n != "_GLOBAL_OFFSET_TABLE_" and not llvm.address_of_symbol(n)]
    if missing:
        raise CompileError(f"Compiled code needs unknown symbols: {', '.join(missing)}.")


def load(image: bytes) -> Library:
    """Makes the code of an object file callable.

    Raises:
        CompileError: it is no object file, or needs symbols that nobody defines, which would crash when called.
    """
    _check(image)
    with _lock:
        _initialize()
        machine = llvm.Target.from_default_triple().create_target_machine(jit=True)
        engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
        engine.add_object_file(llvm.ObjectFileRef.from_data(image))
        engine.finalize_object()
        return Library(engine, image)
