# SPDX-License-Identifier: MIT
"""What the kohya tests call of lorank, through ctypes: saving and loading files of image tools."""

import ctypes as c

import lorank_gguf as lk

DOTTED, ONE_ALPHA = 1, 2


class KohyaOptions(c.Structure):
    _fields_ = [("struct_size", c.c_uint32), ("flags", c.c_uint32), ("prefix", c.c_char_p), ("dtype", c.c_int32),
                ("reserved", c.c_int32)]


def options(lorank, prefix, flags=0, dtype=lk.F32):
    known = KohyaOptions()
    lorank.call("lrk_kohya_options_init", c.byref(known), c.c_size_t(c.sizeof(known)))
    known.prefix, known.flags, known.dtype = prefix.encode(), flags, dtype
    return known


def save(adapters, path, known):
    adapters.lorank.call("lrk_kohya_save", adapters.handle, path.encode(), c.byref(known))


def load(lorank, path, known, shapes=None):
    """shapes: {name: (n_in, n_out)} of the host's modules, or None for those of the file."""
    specs = (lk.Spec * len(shapes))() if shapes else None
    for spec, (name, (n_in, n_out)) in zip(specs or (), (shapes or {}).items()):
        lorank.call("lrk_module_spec_init", c.byref(spec), c.c_size_t(c.sizeof(spec)))
        spec.name, spec.n_in, spec.n_out = name.encode(), n_in, n_out
    handle = c.c_void_p()
    lorank.call("lrk_kohya_load", lorank.context, path.encode(), c.byref(known), specs,
                c.c_int64(len(shapes or ())), None, c.byref(handle))
    return lk.Adapters(lorank, handle)
