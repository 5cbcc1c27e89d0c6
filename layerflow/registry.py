"""Names: spelling (camelCase, snake_case), classes by name, and classes that remember how they were made."""

from __future__ import annotations

import contextlib
import functools
import inspect
import numbers
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, ClassVar, ParamSpec, TypeVar

from layerflow.errors import ArgumentError, UnknownArgumentError, UnknownNameError, nearest

F = TypeVar("F", bound=Callable)
T = TypeVar("T")
P = ParamSpec("P")


def fold(name: str) -> str:
    """The name without case and underscores, under which spellings are compared."""
    return name.replace("_", "").lower()


def snake_case(name: str) -> str:
    """`returnSequences` -> `return_sequences`; what is snake_case stays."""
    return re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", name).lower()


def camel_case(name: str) -> str:
    """`return_sequences` -> `returnSequences`."""
    first, *rest = name.split("_")
    return first + "".join(word[:1].upper() + word[1:] for word in rest)


def class_snake_case(name: str) -> str:
    """The prefix TF.js makes of a class name: Conv2D -> conv2d, PReLU -> p_re_lu, LSTM -> lstm (INVENTORY 1.2)."""
    name = re.sub(r"(.)([A-Z][a-z0-9]+)", r"\1_\2", name)
    name = re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()
    return f"private{name}" if name.startswith("_") else name


class Names:
    """Things by name, found under any spelling.

    Args:
        kind: the word for error messages, e.g. "activation".
    """

    def __init__(self, kind: str):
        self.kind = kind
        self._things: dict[str, Any] = {}
        self._names: dict[str, str] = {}

    def add(self, thing: Any, name: str, *aliases: str) -> Any:
        for spelling in (name, *aliases):
            self._things[fold(spelling)] = thing
        self._names[fold(name)] = name
        return thing

    def register(self, *aliases: str) -> Callable[[F], F]:
        """Decorator: under the thing's own `__name__` and the aliases."""

        def add(thing: F) -> F:
            return self.add(thing, thing.__name__, *aliases)

        return add

    def get(self, name: str) -> Any:
        thing = self._things.get(fold(name)) if isinstance(name, str) else None
        if thing is None:
            raise UnknownNameError.of(self.kind, name, self.names())
        return thing

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and fold(name) in self._things

    def names(self) -> list[str]:
        return sorted(self._names.values())


# Classes of users, by class name; those of `custom_objects` win over these, and these over the library's own.
_registered: dict[str, Any] = {}
_custom: ContextVar[Mapping[str, Any]] = ContextVar("layerflow_custom_objects")


def register_class(cls: Any = None, name: str | None = None) -> Any:
    """Makes a class known by name, so that files that mention it can be loaded.  Usable as a decorator.

    Args:
        cls: a Layer, Initializer, Regularizer, Constraint or Optimizer class.
        name: the name in files; by default the class's `class_name()`.

    >>> @lf.register_class
    ... class Swish(lf.layers.Layer):
    ...     def call(self, x):
    ...         return x / (1 + np.exp(-x))
    """
    if cls is None:
        return functools.partial(register_class, name=name)
    _registered[name or class_name(cls)] = cls
    return cls


@contextlib.contextmanager
def custom_objects(objects: Mapping[str, Any] | None) -> Iterator[None]:
    """Classes and functions known by name inside the `with` block only."""
    token = _custom.set({**_custom.get({}), **(objects or {})})
    try:
        yield
    finally:
        _custom.reset(token)


def custom(name: object) -> Any:
    """The user's class or function of this name, or None.  `Custom>Name` is what TF.js and Keras write for `Name`."""
    if not isinstance(name, str):
        return None
    short = name.rsplit(">", 1)[-1]
    for table in (_custom.get({}), _registered):
        if name in table or short in table:
            return table[name] if name in table else table[short]
    return None


def class_name(cls: type) -> str:
    """The name of a class in files."""
    return getattr(cls, "CLASS_NAME", None) or cls.__name__


class _Recorded(type):
    """Metaclass: a call accepts both spellings of keywords, refuses unknown ones, and is kept for `get_config`."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        own, base = _sort_arguments(cls, kwargs)
        instance: Any = object.__new__(cls)
        instance._base_arguments = base
        instance._arguments = _bind(cls, instance, args, own)
        instance.__init__(*args, **own)
        instance._made()
        return instance


def _no_arguments(self: Any) -> None:
    """The signature of a class without __init__."""


@functools.cache
def _parameters(cls: type) -> tuple[dict[str, str], bool]:
    """Folded spelling -> parameter name over the __init__s that keywords reach; whether the base is among them."""
    names: dict[str, str] = {}
    passes_on = True
    for base in cls.__mro__:
        init = base.__dict__.get("__init__")
        if init is None or base is object:
            continue
        parameters = list(inspect.signature(init).parameters.values())[1:]
        for p in parameters:
            if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY):
                names.setdefault(fold(p.name), p.name)
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            passes_on = False
            break
    return names, passes_on


def _sort_arguments(cls: Any, kwargs: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Keywords in the spelling of `cls.__init__`, and those for the base class that `__init__` does not pass on."""
    names, passes_on = _parameters(cls)
    aliases = {fold(k): v for k, v in cls.ALIASES.items()}
    own: dict[str, Any] = {}
    base: dict[str, Any] = {}
    for given, value in kwargs.items():
        folded = fold(aliases.get(fold(given), given))
        if folded in names:
            target, name = own, names[folded]
        elif folded in cls.BASE_ARGUMENTS:
            target, name = own if passes_on else base, cls.BASE_ARGUMENTS[folded]
        else:
            known = [*names.values(), *cls.BASE_ARGUMENTS.values()]
            raise UnknownArgumentError(f"{class_name(cls)}: unknown argument {given!r}.{nearest(given, known)}")
        if name in target:
            raise UnknownArgumentError(f"{class_name(cls)}: argument {name!r} is given twice, as {given!r} too.")
        target[name] = value
    return own, base


def _bind(cls: Any, instance: Any, args: tuple, kwargs: dict[str, Any]) -> dict[str, Any]:
    signature = inspect.signature(cls.__init__ if cls.__init__ is not object.__init__ else _no_arguments)
    try:
        bound = signature.bind(instance, *args, **kwargs)
    except TypeError as error:
        known = [p for p in list(signature.parameters.values())[1:] if p.kind is not p.VAR_KEYWORD]
        wanted = [str(p.replace(annotation=p.empty)) for p in known]
        raise UnknownArgumentError(f"{class_name(cls)}: {error}; its arguments are ({', '.join(wanted)}).") from None
    bound.apply_defaults()
    arguments = dict(list(bound.arguments.items())[1:])
    for p in signature.parameters.values():
        if p.kind is p.VAR_KEYWORD:
            arguments.update(arguments.pop(p.name, {}))
    return arguments


class Configurable(metaclass=_Recorded):
    """Base of layers, initializers, regularizers, constraints and optimizers.

    Keyword arguments are accepted in snake_case and camelCase.  `get_config` gives the arguments of the constructor,
    `from_config` makes an equal object.
    """

    CLASS_NAME: str | None = None
    ALIASES: ClassVar[Mapping[str, str]] = {}  # other words for an argument
    BASE_ARGUMENTS: Mapping[
        str, str
    ] = {}  # folded -> name; accepted even by an __init__ that does not pass keywords on
    _arguments: dict[str, Any]
    _base_arguments: dict[str, Any]

    def _made(self) -> None:
        """Called after __init__."""

    def get_class_name(self) -> str:
        """The name of the class in files."""
        return class_name(type(self))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, as JSON-able values in snake_case."""
        return {name: serialize_value(value) for name, value in self._arguments.items()}

    @classmethod
    def accepted_arguments(cls) -> set[str]:
        """Folded names of the keywords the constructor takes."""
        return {*_parameters(cls)[0], *(fold(alias) for alias in cls.ALIASES), *cls.BASE_ARGUMENTS}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Any:
        return cls(**config)

    def __repr__(self) -> str:
        given = ", ".join(f"{k}={v!r}" for k, v in self._arguments.items())
        return f"{type(self).__name__}({given})"


# Types that know how to write a function (an activation) as a name: filled by the modules that own such functions.
FUNCTION_NAMES: list[Callable[[Any], str | None]] = []


def serialize_value(value: Any) -> Any:
    """A value of a configuration as JSON-able data; objects as {class_name, config}, known functions as their names."""
    if isinstance(value, Configurable):
        return {"class_name": value.get_class_name(), "config": value.get_config()}
    if isinstance(value, (list, tuple)):
        return [serialize_value(v) for v in value]
    if isinstance(value, Mapping):
        return {str(k): serialize_value(v) for k, v in value.items()}
    if hasattr(value, "item") and hasattr(value, "dtype"):
        return value.tolist() if getattr(value, "ndim", 0) else value.item()
    if isinstance(value, type) and hasattr(value, "itemsize"):
        return value.__name__
    if callable(value):
        for name_of in FUNCTION_NAMES:
            name = name_of(value)
            if name is not None:
                return name
    return value


def construct(kind: Names, config: Any) -> Any:
    """The object of a {class_name, config} mapping: a user's class, or one of `kind`.  Nothing is imported.

    Raises:
        UnknownNameError: neither known to the library nor registered.
    """
    name = config.get("class_name", config.get("className"))
    settings = config.get("config") or {}
    if not isinstance(name, str) or not isinstance(settings, Mapping):
        raise ArgumentError(f"{kind.kind}: a configuration needs a class_name and a config, got {dict(config)!r}.")
    cls = custom(name) or kind.get(name)
    if isinstance(cls, type) and issubclass(cls, Configurable):
        return cls.from_config(settings)
    return cls(**{snake_case(k): v for k, v in settings.items()}) if settings or isinstance(cls, type) else cls


def option(argument: str, value: Any, choices: Sequence[str]) -> str:
    """One of `choices`, given in any spelling.

    Raises:
        ArgumentError: none of them.
    """
    for choice in choices:
        if isinstance(value, str) and fold(value) == fold(choice):
            return choice
    raise ArgumentError(f"{argument} must be one of {', '.join(choices)}, got {value!r}.{nearest(str(value), choices)}")


def factory(cls: Callable[P, T]) -> Callable[P, T]:
    """The function that makes objects of a class, as TF.js spells it (`lf.layers.dense` for `lf.layers.Dense`)."""

    def make(*args: P.args, **kwargs: P.kwargs) -> T:
        return cls(*args, **kwargs)

    make.__name__ = make.__qualname__ = class_snake_case(cls.__name__)
    make.__doc__ = cls.__doc__
    make.__signature__ = inspect.signature(cls.__init__)  # type: ignore[attr-defined]
    return make


def whole(name: str, value: Any, least: int = 0) -> int:
    """The value of the argument `name`, if it is a whole number of at least `least`.

    Raises:
        ArgumentError: it is not.
    """
    # Integral, so that NumPy's integers count too.
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        raise ArgumentError(f"{name} must be a whole number of at least {least}, but is {value!r}.")
    return int(value)


def positive(name: str, value: Any) -> int:
    """As `whole`, at least 1."""
    return whole(name, value, 1)


def accepts_camel_case(function: F) -> F:
    """Decorator: keyword arguments may be in camelCase; an unknown one is refused with the nearest name."""
    parameters = inspect.signature(function).parameters.values()
    names = {fold(p.name): p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters)

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        spelled = {}
        for given, value in kwargs.items():
            name = names.get(fold(given), given if open_ended else None)
            if name is None:
                known = [n for n in names.values() if n != "self"]
                raise UnknownArgumentError(f"{function.__name__}() has no argument {given!r}.{nearest(given, known)}")
            spelled[name] = value
        return function(*args, **spelled)

    return wrapper  # type: ignore[return-value]
