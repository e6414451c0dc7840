# SPDX-License-Identifier: MIT
"""llama.cpp's logits, through llama-cpp-python's low-level calls: f32 throughout, one thread, no flash attention."""

import ctypes as c

import llama_cpp as lc
import numpy as np

LOG = []


@lc.llama_log_callback
def _collect(level, text, user):
    LOG.append(text.decode(errors="replace"))


lc.llama_log_set(_collect, c.c_void_p())
lc.llama_backend_init()


def system():
    return lc.llama_print_system_info().decode()


class Llama:
    def __init__(self, path):
        params = lc.llama_model_default_params()
        params.n_gpu_layers, params.use_mmap = 0, False
        self.model = lc.llama_model_load_from_file(path.encode(), params)
        if not self.model:
            raise RuntimeError("llama.cpp refused the model: " + "".join(LOG[-8:]))

    def logits(self, tokens, vocab, adapter=None):
        """[token x vocab]; `adapter` is the path of a GGUF adapter. RuntimeError with llama.cpp's words if it is refused."""
        lora = None
        if adapter is not None:
            lora = lc.llama_adapter_lora_init(self.model, adapter.encode())
            if not lora:
                raise RuntimeError("llama.cpp refused the adapter: " + "".join(LOG[-4:]))
        params = lc.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch, params.n_threads, params.n_threads_batch = 64, 64, 64, 1, 1
        params.type_k = params.type_v = lc.GGML_TYPE_F32
        params.flash_attn_type = lc.LLAMA_FLASH_ATTN_TYPE_DISABLED
        context = lc.llama_init_from_model(self.model, params)
        if lora is not None:
            loras, scales = (lc.llama_adapter_lora_p_ctypes * 1)(lora), (c.c_float * 1)(1.0)
            if lc.llama_set_adapters_lora(context, loras, 1, scales) != 0:
                raise RuntimeError("llama.cpp did not set the adapter")
        batch = lc.llama_batch_init(len(tokens), 0, 1)
        batch.n_tokens = len(tokens)
        for i, token in enumerate(tokens):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = int(token), i, 1, 1
            batch.seq_id[i][0] = 0
        if lc.llama_decode(context, batch) != 0:
            raise RuntimeError("llama.cpp did not decode: " + "".join(LOG[-4:]))
        rows = [np.ctypeslib.as_array(lc.llama_get_logits_ith(context, i), (vocab,)).copy() for i in range(len(tokens))]
        lc.llama_batch_free(batch)
        lc.llama_free(context)
        return np.array(rows)
