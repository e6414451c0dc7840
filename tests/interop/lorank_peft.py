# SPDX-License-Identifier: MIT
"""What the PEFT tests call of lorank, through ctypes, beyond lorank_gguf: directories, and the forward of one module."""

import ctypes as c

import numpy as np

import lorank_gguf as lk

UNIFORM, FAN_IN_FAN_OUT = 1, 2
SCALE_EXPLICIT = 0


class Options(c.Structure):
    _fields_ = [("struct_size", c.c_uint32), ("flags", c.c_uint32), ("base_model", c.c_char_p),
                ("task_type", c.c_char_p), ("alpha", c.c_double), ("dtype", c.c_int32), ("reserved", c.c_int32)]


class PassOptions(c.Structure):
    _fields_ = [("struct_size", c.c_uint32), ("flags", c.c_uint32), ("mode", c.c_int32), ("gradients", c.c_uint32),
                ("nonce", c.c_uint64), ("first_row", c.c_int64), ("max_rows", c.c_int64), ("mask", c.c_void_p),
                ("sink", c.c_void_p), ("workspace", c.c_void_p), ("workspace_bytes", c.c_size_t)]


class Matrix(c.Structure):
    _fields_ = [("struct_size", c.c_uint32), ("dtype", c.c_int32), ("data", c.c_void_p), ("rows", c.c_int64),
                ("cols", c.c_int64), ("ld", c.c_int64)]


def matrix(array):
    return Matrix(c.sizeof(Matrix), lk.F32, array.ctypes.data, array.shape[0], array.shape[1], array.shape[1])


class Lorank(lk.Lorank):
    def save(self, adapters, folder, **fields):
        options = Options()
        self.call("lrk_peft_options_init", c.byref(options), c.c_size_t(c.sizeof(options)))
        for field, value in fields.items():
            setattr(options, field, value)
        self.call("lrk_peft_save", adapters.handle, folder.encode(), c.byref(options))

    def load(self, folder, modules=None):
        """modules: {name: (n_in, n_out)}, or None for the file's own."""
        specs = None
        if modules is not None:
            specs = (lk.Spec * len(modules))()
            for spec, (name, (n_in, n_out)) in zip(specs, modules.items()):
                self.call("lrk_module_spec_init", c.byref(spec), c.c_size_t(c.sizeof(spec)))
                spec.name, spec.n_in, spec.n_out = name.encode(), n_in, n_out
        handle = c.c_void_p()
        self.call("lrk_peft_load", self.context, folder.encode(), specs, c.c_int64(len(modules or ())), None,
                  c.byref(handle))
        return lk.Adapters(self, handle)


def module_infos(adapters):
    """Facts of every module, in order; their names are the set's."""
    total = lk.SetInfo(struct_size=c.sizeof(lk.SetInfo))
    adapters.lorank.call("lrk_adapters_info_get", adapters.handle, c.byref(total))
    infos = []
    for i in range(total.modules):
        info = lk.Info(struct_size=c.sizeof(lk.Info))
        adapters.lorank.call("lrk_adapters_module", adapters.handle, c.c_int32(i), c.byref(info))
        infos.append(info)
    return infos


class Pass:
    """An evaluating pass: forward() adds a module's update to y."""

    def __init__(self, adapters, max_rows):
        self.adapters, self.handle = adapters, c.c_void_p()
        call = adapters.lorank.call
        options = PassOptions()
        call("lrk_pass_options_init", c.byref(options), c.c_size_t(c.sizeof(options)))
        options.max_rows = max_rows
        call("lrk_pass_begin", adapters.handle, c.byref(options), c.byref(self.handle))

    def forward(self, module, x, y):
        x, y = np.ascontiguousarray(x, np.float32), np.array(y, np.float32, order="C")
        self.adapters.lorank.call("lrk_forward", self.handle, c.byref(c.c_int32(module)), c.c_int32(1),
                                  c.byref(matrix(x)), c.byref(matrix(y)), None, c.c_size_t(0))
        return y

    def end(self):
        self.adapters.lorank.library.lrk_pass_end(self.handle)
