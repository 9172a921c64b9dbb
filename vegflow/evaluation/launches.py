"""How a CUDA candidate says what to launch: comments in its source, read as arithmetic on sizes and never executed.

    // let n = x.numel()
    // scratch partial = float32[cdiv(n, 1024)]
    // launch reduce<<<cdiv(n, 1024), 256, 256 * 4>>>(x, partial, n)
    // launch finish<<<1, 256>>>(partial, out, cdiv(n, 1024))

Names are the task's arguments (also `in0`, `in1`, …), the reference model's parameters and buffers with `_` for `.`, and
the outputs (`out`, or `out0`, `out1`, …). Of a tensor there are `x.numel()`, `x.shape[i]`, `x.size(i)` and `x.ndim`.
Integers divide as in C; `cdiv(a, b)` and `ceil(a / b)` round up. Knows text and integers; the launching is
`cuda_driver`'s.
"""

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vegflow.evaluation.languages import launch_comments

MOST_LINES = 64
LONGEST_LINE = 1000
SCALARS = {"int", "float", "double"}
DTYPES = ("float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool")
_LIMIT = 1 << 62

Sizes = Mapping[str, tuple[int, ...]]
"""Name of a tensor -> its shape."""


class PlanError(ValueError):
    """A plan that cannot be read, or that does not fit the sizes at hand; begins with the line."""


@dataclass(frozen=True)
class Let:
    """A name for a size."""

    line: int
    name: str
    value: ast.expr


@dataclass(frozen=True)
class Scratch:
    """Memory that lives for one call of the model; its content is undefined at first."""

    line: int
    name: str
    dtype: str
    shape: tuple[ast.expr, ...]


@dataclass(frozen=True)
class Launch:
    """One kernel's launch."""

    line: int
    kernel: str
    grid: tuple[ast.expr, ...]
    block: tuple[ast.expr, ...]
    shared: ast.expr | None
    arguments: tuple[ast.expr, ...]


@dataclass(frozen=True)
class Argument:
    """One argument of a kernel: a tensor's name, or a number."""

    tensor: str = ""
    kind: str = "int"
    """Of a number: `int` (passed in eight bytes, right for every integer type), `float` or `double`."""
    value: int | float = 0


@dataclass(frozen=True)
class Bound:
    """One launch with its sizes known."""

    kernel: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    shared: int
    arguments: tuple[Argument, ...]


@dataclass(frozen=True)
class Plan:
    """All that a program's launch comments say, in order."""

    steps: tuple[Let | Scratch | Launch, ...]

    @property
    def kernels(self) -> tuple[str, ...]:
        """Names of the kernels launched, each once."""
        return tuple(dict.fromkeys(step.kernel for step in self.steps if isinstance(step, Launch)))

    def bind(self, tensors: Sizes) -> tuple[dict[str, tuple[str, tuple[int, ...]]], list[Bound]]:
        """Scratch buffers (name -> dtype, shape) and launches, for tensors of these shapes.

        Raises PlanError for names that are not there and sizes that make no sense.
        """
        known = _Known(dict(tensors))
        scratch: dict[str, tuple[str, tuple[int, ...]]] = {}
        bound: list[Bound] = []
        for step in self.steps:
            try:
                if isinstance(step, Let):
                    known.numbers[step.name] = known.value(step.value)
                elif isinstance(step, Scratch):
                    shape = tuple(_at_least(known.value(extent), 0) for extent in step.shape)
                    scratch[step.name] = (step.dtype, shape)
                    known.tensors[step.name] = shape
                else:
                    bound.append(_bind(step, known))
            except (ValueError, ZeroDivisionError, IndexError) as error:
                raise PlanError(f"line {step.line}: {error}") from None
        return scratch, bound


def parse(program: str) -> Plan:
    """The launch plan in a CUDA program. Raises PlanError if there is none or it cannot be read."""
    steps: list[Let | Scratch | Launch] = []
    for line, word, text in launch_comments(program):
        if len(steps) >= MOST_LINES:
            raise PlanError(f"line {line}: more than {MOST_LINES} launch comments")
        try:
            if len(text) > LONGEST_LINE:
                raise ValueError(f"more than {LONGEST_LINE} characters")
            steps.append(_READERS[word](line, text.rstrip("; \t")))
        except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
            problem = error.msg if isinstance(error, SyntaxError) else str(error)
            raise PlanError(f"line {line}: // {word}: {problem}") from None
    if not any(isinstance(step, Launch) for step in steps):
        raise PlanError("no '// launch kernel<<<grid, block>>>(arguments)' comment says what to launch")
    return Plan(tuple(steps))


def tensor_names(arguments: Sequence[str], weights: Sequence[str], inputs: int, outputs: int) -> list[list[str]]:
    """For each tensor of the destination-passing call, inputs then weights then outputs, the names a plan may use.

    `arguments` are the names of `forward`'s arguments, `weights` the dotted names of parameters and buffers, and
    `inputs` and `outputs` how many there are.
    """
    names: list[list[str]] = []
    for index in range(inputs):
        names.append([f"in{index}"] + ([arguments[index]] if index < len(arguments) else []))
    names += [[name.replace(".", "_")] for name in weights]
    names += [[f"out{index}"] + (["out"] if outputs == 1 else []) for index in range(outputs)]
    return names


def _read_let(line: int, text: str) -> Let:
    name, value = _assignment(text)
    return Let(line, name, _checked(value))


def _read_scratch(line: int, text: str) -> Scratch:
    name, value = _assignment(text)
    if not isinstance(value, ast.Subscript) or not isinstance(value.value, ast.Name):
        raise ValueError("expected name = dtype[extents]")
    if value.value.id not in DTYPES:
        raise ValueError(f"dtype {value.value.id}: one of {', '.join(DTYPES)}")
    return Scratch(line, name, value.value.id, tuple(map(_checked, _items(value.slice))))


def _read_launch(line: int, text: str) -> Launch:
    if text.count("<<<") != 1 or text.count(">>>") != 1 or "[[" in text:
        raise ValueError("expected kernel<<<grid, block, shared>>>(arguments)")
    call = ast.parse(text.replace("<<<", "[").replace(">>>", "]"), mode="eval").body
    if not isinstance(call, ast.Call) or call.keywords or not isinstance(call.func, ast.Subscript):
        raise ValueError("expected kernel<<<grid, block, shared>>>(arguments)")
    if not isinstance(call.func.value, ast.Name):
        raise ValueError("a kernel has a plain name")
    shape = _items(call.func.slice)
    if not 2 <= len(shape) <= 3:
        raise ValueError("expected a grid, a block and perhaps bytes of shared memory between <<< and >>>")
    arguments = []
    for argument in call.args:
        typed = isinstance(argument, ast.Call) and isinstance(argument.func, ast.Name) and argument.func.id in SCALARS
        if typed and (len(argument.args) != 1 or argument.keywords):
            raise ValueError("a number's type takes one value")
        constant = argument.args[0] if typed else argument
        if not _is_float(constant):
            _checked(constant)
        elif typed and argument.func.id == "int":
            raise ValueError("an int is given a fraction")
        arguments.append(argument)
    shared = _checked(shape[2]) if len(shape) == 3 else None
    return Launch(line, call.func.value.id, _extents(shape[0]), _extents(shape[1]), shared, tuple(arguments))


_READERS = {"let": _read_let, "scratch": _read_scratch, "launch": _read_launch}


def _assignment(text: str) -> tuple[str, ast.expr]:
    body = ast.parse(text).body
    if len(body) != 1 or not isinstance(body[0], ast.Assign) or len(body[0].targets) != 1:
        raise ValueError("expected name = value")
    target = body[0].targets[0]
    if not isinstance(target, ast.Name):
        raise ValueError("expected a plain name left of =")
    return target.id, body[0].value


def _items(node: ast.expr) -> list[ast.expr]:
    return list(node.elts) if isinstance(node, ast.Tuple) else [node]


def _extents(node: ast.expr) -> tuple[ast.expr, ...]:
    """A grid's or a block's extents: one expression, a tuple, or `dim3(x, y, z)`."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dim3" and not node.keywords:
        extents = node.args
    else:
        extents = _items(node)
    if not 1 <= len(extents) <= 3:
        raise ValueError("a grid or a block has one to three extents")
    return tuple(map(_checked, extents))


def _is_float(node: ast.expr) -> bool:
    inner = node.operand if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) else node
    return isinstance(inner, ast.Constant) and type(inner.value) is float


def _checked(node: ast.expr) -> ast.expr:
    """The node, if every part of it is one that `_Known.value` gives a meaning. Raises ValueError if not."""
    allowed = (ast.Name, ast.BinOp, ast.UnaryOp, ast.Call, ast.Attribute, ast.Subscript, ast.Constant)
    rest = (ast.operator, ast.unaryop, ast.expr_context)
    for part in ast.walk(node):
        if not isinstance(part, (*allowed, *rest)):
            raise ValueError(f"{type(part).__name__} is not arithmetic on sizes")
        if isinstance(part, ast.Constant) and type(part.value) is not int:
            raise ValueError(f"{part.value!r} is not an integer")
        if isinstance(part, ast.Call) and part.keywords:
            raise ValueError("no keywords")
    return node


class _Known:
    """Names that have a meaning so far, and the meaning of expressions of them."""

    def __init__(self, tensors: dict[str, tuple[int, ...]]) -> None:
        self.tensors = tensors
        self.numbers: dict[str, int] = {}

    def value(self, node: ast.expr) -> int:
        """An integer below 2^62. Raises ValueError, ZeroDivisionError or IndexError."""
        found = self._value(node)
        if abs(found) >= _LIMIT:
            raise ValueError("a size beyond 2^62")
        return found

    def _value(self, node: ast.expr) -> int:
        match node:
            case ast.Constant(value=int(value)):
                return value
            case ast.Name(id=name) if name in self.numbers:
                return self.numbers[name]
            case ast.Name(id=name):
                raise ValueError(f"{name} is a tensor, no size" if name in self.tensors else f"no size named {name}")
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -self.value(operand)
            case ast.BinOp(left=left, op=operator, right=right):
                return _operate(operator, self.value(left), self.value(right))
            case ast.Attribute(value=ast.Name(id=name), attr="ndim"):
                return len(self._shape(name))
            case ast.Subscript(value=ast.Attribute(value=ast.Name(id=name), attr="shape"), slice=index):
                return self._shape(name)[self.value(index)]
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr="numel"), args=[]):
                return self._numel(name)
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr="size"), args=[index]):
                return self._shape(name)[self.value(index)]
            case ast.Call(func=ast.Name(id="numel"), args=[ast.Name(id=name)]):
                return self._numel(name)
            case ast.Call(func=ast.Name(id="cdiv"), args=[left, right]):
                return -(-self.value(left) // self.value(right))
            case ast.Call(func=ast.Name(id="ceil"), args=[ast.BinOp(left=left, op=ast.Div(), right=right)]):
                return -(-self.value(left) // self.value(right))
            case ast.Call(func=ast.Name(id="min" | "max" as name), args=[_, *_] as parts):
                return (min if name == "min" else max)(map(self.value, parts))
        raise ValueError(f"'{ast.unparse(node)}' is not arithmetic on sizes")

    def _shape(self, name: str) -> tuple[int, ...]:
        if name not in self.tensors:
            raise ValueError(f"no tensor named {name}")
        return self.tensors[name]

    def _numel(self, name: str) -> int:
        count = 1
        for extent in self._shape(name):
            count *= extent
        return count


def _operate(operator: ast.operator, left: int, right: int) -> int:
    match operator:
        case ast.Add():
            return left + right
        case ast.Sub():
            return left - right
        case ast.Mult():
            return left * right
        case ast.Div() | ast.FloorDiv():
            quotient = abs(left) // abs(right)
            return quotient if (left < 0) == (right < 0) else -quotient
        case ast.Mod():
            return left - right * _operate(ast.Div(), left, right)
    raise ValueError(f"no operator {type(operator).__name__}")


def _bind(launch: Launch, known: _Known) -> Bound:
    grid, block = _triple(launch.grid, known), _triple(launch.block, known)
    shared = _at_least(known.value(launch.shared), 0) if launch.shared is not None else 0
    if grid[0] > 2**31 - 1 or max(grid[1:]) > 65535:
        raise ValueError(f"a grid of {grid}")
    if block[0] * block[1] * block[2] > 1024 or block[2] > 64:
        raise ValueError(f"a block of {block}")
    if shared > 1 << 20:
        raise ValueError(f"{shared} bytes of shared memory")
    return Bound(launch.kernel, grid, block, shared, tuple(_argument(node, known) for node in launch.arguments))


def _triple(extents: tuple[ast.expr, ...], known: _Known) -> tuple[int, int, int]:
    values = [_at_least(known.value(extent), 1) for extent in extents]
    x, y, z = values + [1] * (3 - len(values))
    return x, y, z


def _argument(node: ast.expr, known: _Known) -> Argument:
    if isinstance(node, ast.Name) and node.id in known.tensors:
        return Argument(tensor=node.id)
    kind = ""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in SCALARS:
        kind, node = node.func.id, node.args[0]
    if _is_float(node):
        return Argument(kind=kind or "float", value=float(ast.literal_eval(node)))
    value = known.value(node)
    return Argument(kind=kind or "int", value=value if kind in ("", "int") else float(value))


def _at_least(value: int, least: int) -> int:
    if value < least:
        raise ValueError(f"{value} where at least {least} is needed")
    return value
