# SPDX-License-Identifier: MIT
"""safetensors files and their reference reader: test_safetensors.py LIBLORANK.SO FOLDER.

  - over the crafted files of tests/support/safetensors_rows.def, and over lengths that cannot be, the safetensors package
    and lorank give the verdicts of the list: both accept, both refuse, or (STRICT) lorank alone refuses;
  - what lorank writes, of every dtype that the package has in numpy, with names that need escapes, scalars, empty tensors
    and metadata, the package reads with the same bytes, and its own writer lays out the same file byte for byte;
  - what the package writes, lorank reads with the same values.
"""

import ctypes
import os
import re
import sys
from importlib.metadata import version

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load, save

import lorank_gguf as lk

FAILED = []
LITERAL = r'"(?:[^"\\]|\\.)*"'


def check(holds, what):
    print(("ok   " if holds else "FAIL ") + what)
    if not holds:
        FAILED.append(what)


def text(literals):
    """The bytes of C string literals side by side."""
    return b"".join(eval("b" + literal) for literal in re.findall(LITERAL, literals))


def rows():
    """(strict, header, bytes of data, lorank accepts) of every row."""
    path = os.path.join(os.path.dirname(__file__), "..", "support", "safetensors_rows.def")
    with open(path, "rb") as file:
        source = file.read().decode("latin-1")
    pattern = re.compile(r"^(ROW|STRICT)\(((?:\s*%s)+)\s*,\s*(\d+)\s*,\s*(NULL|%s)\s*\)" % (LITERAL, LITERAL), re.M)
    return [(kind == "STRICT", text(header), int(n), words == "NULL") for kind, header, n, words in pattern.findall(source)]


def reference_accepts(path):
    try:
        with safe_open(path, "np"):
            return True
    except SafetensorError:
        return False


def lorank_accepts(host, path):
    file = ctypes.c_void_p()
    status = host.library.lrk_safetensors_open(host.context, path.encode(), ctypes.byref(file))
    host.library.lrk_safetensors_close(file)
    return status == 0


def check_verdicts(host, folder):
    path, table, strict_seen = os.path.join(folder, "crafted.safetensors"), rows(), 0
    files = [(strict, len(header).to_bytes(8, "little") + header + bytes(i % 256 for i in range(n)), accepts)
             for strict, header, n, accepts in table]
    for n, rest in ((100_000_001, b"{}"), (2 ** 63 + 2, b"{}"), (2 ** 64 - 1, b"{}"), (3, b"{}"), (2, b"")):
        files.append((False, n.to_bytes(8, "little") + rest, False))
    files += [(False, b"\x02" + bytes(k), False) for k in range(7)] + [(False, b"", False)]
    wrong = []
    for strict, content, accepts in files:
        with open(path, "wb") as file:
            file.write(content)
        wanted_of_reference = accepts or strict
        strict_seen += strict
        if reference_accepts(path) != wanted_of_reference or lorank_accepts(host, path) != accepts:
            wrong.append((strict, content[:120], accepts, reference_accepts(path), lorank_accepts(host, path)))
    for row in wrong:
        print("     ", row)
    check(not wrong and len(table) >= 60, f"{len(files)} crafted files: the verdicts of the list, {strict_seen} of them stricter than the reference")


class Item(ctypes.Structure):
    _fields_ = [("struct_size", ctypes.c_uint32), ("n_dims", ctypes.c_int32), ("name", ctypes.c_char_p),
                ("dtype", ctypes.c_char_p), ("shape", ctypes.c_int64 * 8)]


FILL = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_int64, ctypes.c_uint64, ctypes.c_void_p, ctypes.c_size_t)


class Content(ctypes.Structure):
    _fields_ = [("struct_size", ctypes.c_uint32), ("flags", ctypes.c_uint32), ("tensors", ctypes.POINTER(Item)),
                ("n_tensors", ctypes.c_int64), ("metadata", ctypes.POINTER(ctypes.c_char_p)), ("n_metadata", ctypes.c_int64),
                ("user", ctypes.c_void_p), ("fill", FILL)]


DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U64": "<u8",
          "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?"}


def make_tensors():
    rng = np.random.default_rng(7)
    tensors = {}
    for dtype, numpy_dtype in DTYPES.items():
        tensors[f"b.{dtype}"] = rng.integers(0, 2, (3, 5)).astype(numpy_dtype)
    tensors["a \"quoted\"\n\\ \u00e9\U0001f600"] = rng.standard_normal(3).astype("<f4")
    tensors["scalar"] = np.array(1.5, "<f4")
    tensors["none"] = np.zeros((0, 4), "<f4")
    tensors[""] = np.ones(1, "<f4")
    return tensors


def write(host, path, tensors, metadata):
    names = list(tensors)
    kinds = {np.dtype(v): k for k, v in DTYPES.items()}
    items = (Item * len(names))()
    for item, name in zip(items, names):
        tensor = tensors[name]
        item.struct_size, item.n_dims = ctypes.sizeof(Item), tensor.ndim
        item.name, item.dtype = name.encode(), kinds[tensor.dtype].encode()
        item.shape[: tensor.ndim] = tensor.shape
    data = [tensors[name].tobytes() for name in names]

    def fill(_, tensor, offset, to, n):
        ctypes.memmove(to, data[tensor][offset:offset + n], n)
        return 0

    pairs = [text.encode() for pair in metadata.items() for text in pair]
    content = Content(struct_size=ctypes.sizeof(Content), tensors=items, n_tensors=len(names),
                      metadata=(ctypes.c_char_p * max(1, len(pairs)))(*pairs), n_metadata=len(metadata), fill=FILL(fill))
    return host.library.lrk_safetensors_save(host.context, path.encode(), ctypes.byref(content))


def check_written(host, folder):
    path, tensors, metadata = os.path.join(folder, "written.safetensors"), make_tensors(), {"format": "pt"}
    check(write(host, path, tensors, metadata) == 0, "lorank writes every dtype, odd names, a scalar, an empty tensor")
    with open(path, "rb") as file:
        written = file.read()
    back = load(written)
    same = set(back) == set(tensors) and all(
        back[name].dtype == tensors[name].dtype and back[name].shape == tensors[name].shape
        and back[name].tobytes() == tensors[name].tobytes() for name in tensors)
    check(same, "the package reads the same bytes, shapes and dtypes")
    with safe_open(path, "np") as file:
        check(file.metadata() == metadata, "and the metadata")
    check(save(tensors, metadata=metadata) == written, "the package's own writer gives the same file, byte for byte")


def check_read(host, folder):
    path, tensors = os.path.join(folder, "foreign.safetensors"), make_tensors()
    with open(path, "wb") as file:
        file.write(save(tensors, metadata={"k": "v"}))
    handle, good, read = ctypes.c_void_p(), True, 0
    good &= host.library.lrk_safetensors_open(host.context, path.encode(), ctypes.byref(handle)) == 0
    for name, tensor in tensors.items():
        i = ctypes.c_int64()
        good &= host.library.lrk_safetensors_find(handle, name.encode(), ctypes.byref(i)) == 0
        if tensor.dtype.kind != "f":
            continue
        values = np.empty(tensor.size, "<f4")
        good &= host.library.lrk_safetensors_read_f32(handle, i, values.ctypes.data_as(ctypes.c_void_p),
                                                  ctypes.c_int64(tensor.size)) == 0
        good &= np.array_equal(values, tensor.astype("<f4").ravel())
        read += 1
    host.library.lrk_safetensors_close(handle)
    check(good and read >= 6, "lorank finds every tensor that the package wrote and reads the values of f64, f32 and f16")


def main():
    host = lk.Lorank(sys.argv[1])
    host.library.lrk_safetensors_close.restype = None
    print(f"safetensors {version('safetensors')}")
    check_verdicts(host, sys.argv[2])
    check_written(host, sys.argv[2])
    check_read(host, sys.argv[2])
    print(f"{len(FAILED)} failed")
    return 1 if FAILED else 0


if __name__ == "__main__":
    sys.exit(main())
