# SPDX-License-Identifier: MIT
"""What the GGUF tests call of lorank, through ctypes: sets from numpy arrays, saving, loading, deltas."""

import ctypes as c

import numpy as np

FILE_ORDER = 2
F32, BF16, F16 = 0, 1, 2
A, B, GATES = 0, 1, 2


class Spec(c.Structure):
    _fields_ = [("struct_size", c.c_uint32), ("flags", c.c_uint32), ("name", c.c_char_p), ("kind", c.c_int32),
                ("stage", c.c_int32), ("n_in", c.c_int64), ("n_out", c.c_int64), ("rank", c.c_int64),
                ("input_group", c.c_int32), ("scale_rule", c.c_int32), ("scale", c.c_double),
                ("scale_rank", c.c_int64)]


class Tensor(c.Structure):
    _fields_ = [("struct_size", c.c_uint32), ("flags", c.c_uint32), ("data", c.POINTER(c.c_float)),
                ("rows", c.c_int64), ("cols", c.c_int64), ("ld", c.c_int64), ("generation", c.c_uint64)]


class Info(c.Structure):
    _fields_ = [("struct_size", c.c_uint32), ("flags", c.c_uint32), ("name", c.c_char_p), ("kind", c.c_int32),
                ("stage", c.c_int32), ("n_in", c.c_int64), ("n_out", c.c_int64), ("rank", c.c_int64),
                ("initial_rank", c.c_int64), ("capacity", c.c_int64), ("input_group", c.c_int32),
                ("reserved", c.c_int32), ("scale", c.c_double)]


class SetInfo(c.Structure):
    _fields_ = [("struct_size", c.c_uint32), ("flags", c.c_uint32), ("modules", c.c_int64), ("ranks", c.c_int64),
                ("parameters", c.c_int64), ("generation", c.c_uint64), ("values_version", c.c_uint64),
                ("next_identity", c.c_uint64), ("memory", c.c_size_t)]


class Options(c.Structure):
    _fields_ = [("struct_size", c.c_uint32), ("flags", c.c_uint32), ("architecture", c.c_char_p),
                ("name", c.c_char_p), ("alpha", c.c_double), ("n_head", c.c_int64), ("n_kv_head", c.c_int64),
                ("rules", c.c_void_p), ("n_rules", c.c_int64), ("dtype", c.c_int32), ("reserved", c.c_int32)]


class Lorank:
    """The library and one context."""

    def __init__(self, path):
        self.library = c.CDLL(path)
        self.library.lrk_context_error.restype = c.c_size_t
        self.library.lrk_version_text.restype = c.c_char_p
        self.context = c.c_void_p()
        self.call("lrk_context_create", None, c.byref(self.context), None, c.c_size_t(0))

    def version(self):
        return self.library.lrk_version_text().decode()

    def call(self, name, *arguments):
        status = getattr(self.library, name)(*arguments)
        if status != 0:
            text = c.create_string_buffer(512)
            self.library.lrk_context_error(self.context, text, c.c_size_t(512))
            raise RuntimeError(f"{name}: {status}: {text.value.decode()}")

    def options(self, architecture, **fields):
        options = Options()
        self.call("lrk_gguf_options_init", c.byref(options), c.c_size_t(c.sizeof(options)))
        options.architecture = architecture.encode()
        for field, value in fields.items():
            setattr(options, field, value)
        return options

    def adapters(self, modules):
        """A set from {name: (a [r x in], b [r x out], gates [r], scale)}; rank 0 too."""
        specs = (Spec * len(modules))()
        for spec, (name, (a, b, _, scale)) in zip(specs, modules.items()):
            self.call("lrk_module_spec_init", c.byref(spec), c.c_size_t(c.sizeof(spec)))
            spec.name, spec.rank, spec.n_in, spec.n_out = name.encode(), a.shape[0], a.shape[1], b.shape[1]
            spec.scale = scale
        handle = c.c_void_p()
        self.call("lrk_adapters_create", self.context, specs, c.c_int64(len(specs)), None, c.byref(handle))
        adapters = Adapters(self, handle)
        for i, (a, b, gates, _) in enumerate(modules.values()):
            for which, values in ((A, a), (B, b), (GATES, gates.reshape(-1, 1))):
                adapters.tensor(i, which)[...] = values
        return adapters

    def load(self, path, options):
        handle = c.c_void_p()
        self.call("lrk_gguf_load", self.context, path.encode(), c.byref(options), None, c.c_int64(0), None,
                  c.byref(handle))
        return Adapters(self, handle)


class Adapters:
    def __init__(self, lorank, handle):
        self.lorank, self.handle = lorank, handle

    def __del__(self):
        self.lorank.library.lrk_adapters_destroy(self.handle)

    def tensor(self, module, which):
        tensor = Tensor(struct_size=c.sizeof(Tensor))
        self.lorank.call("lrk_adapters_tensor", self.handle, c.c_int32(module), c.c_int32(which), c.byref(tensor))
        if tensor.rows == 0:
            return np.zeros((0, tensor.cols), np.float32)
        return np.ctypeslib.as_array(tensor.data, (tensor.rows, tensor.cols))

    def save(self, path, options):
        self.lorank.call("lrk_gguf_save", self.handle, path.encode(), c.byref(options))

    def deltas(self):
        """{name: delta [out x in]} of the modules that have ranks, by lorank's own arithmetic."""
        total = SetInfo(struct_size=c.sizeof(SetInfo))
        self.lorank.call("lrk_adapters_info_get", self.handle, c.byref(total))
        deltas = {}
        for i in range(total.modules):
            info = Info(struct_size=c.sizeof(Info))
            self.lorank.call("lrk_adapters_module", self.handle, c.c_int32(i), c.byref(info))
            if info.rank == 0:
                continue
            delta = np.zeros((info.n_out, info.n_in), np.float32)
            self.lorank.call("lrk_adapters_delta", self.handle, c.c_int32(i), c.c_int32(0),
                             delta.ctypes.data_as(c.POINTER(c.c_float)), c.c_int64(info.n_in))
            deltas[info.name.decode()] = delta
        return deltas
