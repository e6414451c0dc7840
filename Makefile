# SPDX-License-Identifier: MIT
# `make help` lists the targets. Yours to set: CC CFLAGS LDFLAGS LDLIBS PREFIX LIBDIR DESTDIR BUILD; V=1 shows the compiler's calls.

num  = $(shell awk '$$2=="LRK_$(1)"{print $$3}' include/lorank/version.h)
ABI := $(call num,ABI)
VER := $(call num,VERSION_MAJOR).$(call num,VERSION_MINOR).$(call num,VERSION_PATCH)

CC      ?= cc
CXX     ?= c++
CFLAGS  ?= -O3 -g
NATIVE  ?= -march=native
OPENMP  ?= -fopenmp
PREFIX  ?= /usr/local
LIBDIR  ?= $(PREFIX)/lib
BUILD   ?= build/release
LIB     := $(if $(filter build/release,$(BUILD)),lib,$(BUILD)/lib)
DATADIR := $(PREFIX)/share

# Narrowing a build while working on one part: LAYERS="core kernels", SUITES="core pass".
LAYERS ?= core kernels adapters importance allocation training config formats
SUITES ?= $(sort $(patsubst tests/unit/test_%.c,%,$(wildcard tests/unit/test_*.c)))

# All cores, unless -j is given; the sanitizer runs one after another, each on all cores.
JOBS := -j$(shell nproc 2>/dev/null || echo 2)
SUBJOBS = $(if $(findstring --jobserver,$(MAKEFLAGS)),,$(JOBS))
WHOLE_RUNS := asan ubsan tsan valgrind coverage mutation check-neon
ifeq ($(MAKELEVEL)$(filter $(WHOLE_RUNS),$(MAKECMDGOALS)),0)
MAKEFLAGS += $(JOBS)
endif

PACKAGES     := build-essential pkg-config libopenblas-openmp-dev libyaml-dev libjansson-dev libdeflate-dev libpcre2-dev check
DEV_PACKAGES := clang clang-format clang-tidy gcovr valgrind libclang-rt-14-dev
ARM_PACKAGES := libopenblas0-openmp libopenblas-openmp-dev libgfortran5 libyaml-0-2 libyaml-dev libjansson4 libjansson-dev libdeflate0 libdeflate-dev \
  libpcre2-8-0 libpcre2-dev check libsubunit0 libsubunit-dev

# A build rule says what it makes; V=1 shows how.
Q       := $(if $(V),,@)
say      = @echo "  $(1)  $@"
pkg      = $(shell pkg-config $(1) $(2) 2>/dev/null)
WARN    := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla $(if $(OPENMP),,-Wno-unknown-pragmas) $(WERROR)
INCLUDE := -Iinclude -Isrc
ALL_C    = -std=c11 -D_POSIX_C_SOURCE=200809L -D_DEFAULT_SOURCE $(WARN) $(INCLUDE) -MMD -MP $(CPPFLAGS) $(CFLAGS)
LIB_DEPS = $(call pkg,--libs,yaml-0.1 jansson libdeflate openblas) -lm -lpthread $(OPENMP)

# Asked when a recipe runs: `make deps check` may have no compiler before.
on_x86   = $(if $(filter x86_64%,$(shell $(CC) -dumpmachine)),$(1))
obj      = $(patsubst %.c,$(BUILD)/%.o,$(1))
LIB_OBJ := $(call obj,$(wildcard $(LAYERS:%=src/%/*.c)))
TOOL_OBJ := $(call obj,$(wildcard src/tool/*.c))
FT_OBJ  := $(call obj,$(wildcard examples/finetune/*.c))
FT_LORANK := adapt bench checkpoint demo dryrun glue judge list loop nested score start summary train workers
PLAIN_OBJ := $(patsubst %.c,$(BUILD)/plain/%.o,$(filter-out $(FT_LORANK:%=examples/finetune/%.c),$(wildcard examples/finetune/*.c)))
TEST_OBJ := $(call obj,$(SUITES:%=tests/unit/test_%.c) $(wildcard tests/support/*.c) tests/run.c)
BENCH_OBJ := $(call obj,$(wildcard tests/bench/*.c))
EXAMPLES := $(patsubst examples/%.c,$(BUILD)/examples/%,$(wildcard examples/*.c))

STATIC := $(LIB)/liblorank.a
SHARED := $(LIB)/liblorank.so.$(VER)

all: $(STATIC) $(SHARED) $(BUILD)/lorank ## both libraries and the lorank command (default)

$(STATIC): $(LIB_OBJ)
	@mkdir -p $(@D)
	$(call say,AR)
	$(Q)rm -f $@ && $(AR) rcs $@ $^

$(SHARED): $(LIB_OBJ) src/lorank.map
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(CC) $(LDFLAGS) -shared -Wl,-soname,liblorank.so.$(ABI) -Wl,--version-script=src/lorank.map -Wl,-z,defs \
	  -o $@ $(LIB_OBJ) $(LIB_DEPS) $(LDLIBS)
	$(Q)ln -sf $(@F) $(LIB)/liblorank.so.$(ABI) && ln -sf liblorank.so.$(ABI) $(LIB)/liblorank.so

$(BUILD)/lorank: $(TOOL_OBJ) $(STATIC)
	$(call say,LD)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LIB_DEPS) $(LDLIBS)

$(BUILD)/src/kernels/%.o: OMP = $(OPENMP)
$(BUILD)/src/kernels/skinny_%.o: ISA += -ffp-contract=fast
$(BUILD)/src/kernels/skinny_avx2.o: ISA += $(call on_x86,-mavx2 -mfma -mf16c)
$(BUILD)/src/kernels/skinny_avx512.o: ISA += $(call on_x86,-mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512vl -mavx512dq)
$(BUILD)/src/%.o: src/%.c
	@mkdir -p $(@D)
	$(call say,CC)
	$(Q)$(CC) $(ALL_C) $(OMP) $(ISA) -fPIC -fvisibility=hidden -c -o $@ $<

# `make deps check`: packages first.
$(LIB_OBJ) $(TOOL_OBJ) $(FT_OBJ) $(PLAIN_OBJ) $(TEST_OBJ) $(BENCH_OBJ) $(EXAMPLES): | $(filter deps,$(MAKECMDGOALS))

# ---- examples ----------------------------------------------------------------------------------------------------

$(BUILD)/examples/finetune/%.o: examples/finetune/%.c
	@mkdir -p $(@D)
	$(call say,CC)
	$(Q)$(CC) $(ALL_C) $(NATIVE) $(OPENMP) -DLORANK $(call pkg,--cflags,openblas) -c -o $@ $<
$(BUILD)/plain/examples/finetune/%.o: examples/finetune/%.c
	@mkdir -p $(@D)
	$(call say,CC)
	$(Q)$(CC) $(ALL_C) $(NATIVE) $(OPENMP) $(call pkg,--cflags,openblas) -c -o $@ $<
$(BUILD)/finetune: $(FT_OBJ) $(STATIC)
	$(call say,LD)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(call pkg,--libs,libpcre2-8) $(LIB_DEPS) $(LDLIBS)
$(BUILD)/finetune-static: $(FT_OBJ) $(STATIC)
	$(call say,LD)
	$(Q)$(CC) $(LDFLAGS) -static -o $@ $^ -lpcre2-8 -lyaml -ljansson -ldeflate $(call pkg,--libs --static,openblas) -lquadmath -lm -lpthread $(OPENMP) $(LDLIBS)
$(BUILD)/finetune-plain: $(PLAIN_OBJ) $(STATIC)
	$(call say,LD)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(call pkg,--libs,libpcre2-8) $(LIB_DEPS) $(LDLIBS)

# The trainer over MPI: an own set of objects, so that nothing else needs MPI.
MPICC ?= mpicc
MPIRUN ?= mpirun --oversubscribe $(if $(filter 0,$(shell id -u)),--allow-run-as-root)
MPI_OBJ := $(patsubst %.c,$(BUILD)/mpi/%.o,$(wildcard examples/finetune/*.c))
$(BUILD)/mpi/examples/finetune/%.o: examples/finetune/%.c
	@mkdir -p $(@D)
	$(call say,CC)
	$(Q)$(MPICC) $(ALL_C) $(NATIVE) $(OPENMP) -DLORANK -DFT_MPI $(call pkg,--cflags,openblas) -c -o $@ $<
$(BUILD)/finetune-mpi: $(MPI_OBJ) $(STATIC)
	$(call say,LD)
	$(Q)$(MPICC) $(LDFLAGS) -o $@ $^ $(call pkg,--libs,libpcre2-8) $(LIB_DEPS) $(LDLIBS)
finetune-mpi: $(BUILD)/finetune-mpi ## the trainer, data-parallel over MPI: mpirun -n 2 build/release/finetune-mpi ...
MPI_PARTS ?= starts resume rounds
check-mpi: ## 1, 2, 3 and 4 workers: starts, resume, rounds, counts, digests (openmpi-bin libopenmpi-dev; MPI_PARTS)
	@tests/deps.sh openmpi-bin libopenmpi-dev
	$(MAKE) $(SUBJOBS) $(BUILD)/finetune-mpi $(BUILD)/finetune
	for part in $(MPI_PARTS); do \
	  tests/mpi/$$part.sh "$(MPIRUN)" $(BUILD)/finetune-mpi $(BUILD)/finetune $(BUILD)/mpi-test || exit 1; done

$(BUILD)/examples/%: examples/%.c $(STATIC)
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(CC) $(ALL_C) -o $@ $< $(STATIC) $(LIB_DEPS) $(LDLIBS)

examples: $(EXAMPLES) $(BUILD)/finetune $(BUILD)/finetune-plain ## the numbered examples and the trainer
check-examples: examples ## run the numbered examples against their expected output
	@for e in $(EXAMPLES); do $$e >$$e.out && diff -u tests/golden/examples/$${e##*/}.txt $$e.out || exit 1; \
	  echo "ok $${e##*/}"; done

TASK ?= austen
demo: $(BUILD)/finetune $(BUILD)/lorank ## the main job: LoRA against ALoRA on the bundled model (TASK=austen or gloss)
	$(BUILD)/finetune --demo $(TASK) --report-command $(BUILD)/lorank --out build/demo
COMPARE = python3 examples/finetune/compare/compare.py --trainer $(BUILD)/finetune
compare: $(BUILD)/finetune ## every rank allocation method on both tasks, 5 seeds; goes on where it stopped (hours; COMPARE_ARGS)
	$(COMPARE) $(COMPARE_ARGS)
compare-quick: $(BUILD)/finetune ## 4 methods, 2 seeds, shortened training (under 10 minutes; COMPARE_ARGS)
	$(COMPARE) --quick --out build/compare-quick $(COMPARE_ARGS)
check-compare: ## the comparison's statistics and table of methods
	python3 examples/finetune/compare/test_compare.py

# ---- tests ---------------------------------------------------------------------------------------------------------

$(BUILD)/suites.def: always
	@mkdir -p $(@D)
	@for s in $(SUITES); do echo "SUITE($$s)"; done >$@.new; cmp -s $@.new $@ || cp $@.new $@
$(BUILD)/tests/%.o: tests/%.c $(BUILD)/suites.def
	@mkdir -p $(@D)
	$(call say,CC)
	$(Q)$(CC) $(ALL_C) $(OPENMP) -I$(BUILD) -I. -Itests/support -DLORANK -Wno-missing-prototypes $(call pkg,--cflags,check) -c -o $@ $<
TEST_LINK = $(TEST_OBJ) $(filter-out %/main.o,$(FT_OBJ)) $(filter-out %/main.o,$(TOOL_OBJ)) $(STATIC)
$(BUILD)/run-tests: $(TEST_LINK)
	$(call say,LD)
	$(Q)$(CC) $(LDFLAGS) -o $@ $(TEST_LINK) $(call pkg,--libs,check libpcre2-8) $(LIB_DEPS) $(LDLIBS)

check: $(BUILD)/run-tests $(BUILD)/lorank $(BUILD)/finetune ## build and run the test suite
	@LRK_BUILD=$(BUILD) CK_DEFAULT_TIMEOUT=60 $(TEST_ENV) $(TEST_WRAP) $(BUILD)/run-tests

check-interop: $(SHARED) ## the files' real readers: llama.cpp, gguf and peft, in a virtual environment (long)
	tests/interop/run.sh $(SHARED) $(BUILD)/interop
KILLS ?= 30
check-kill: $(BUILD)/finetune ## kill the trainer at random moments and resume it: KILLS times, SEED says when (long)
	tests/kill_test.sh $(BUILD)/finetune $(BUILD)/kill $(KILLS) $(SEED)

# ---- benchmark -----------------------------------------------------------------------------------------------------

TORCH_PYTHON ?= $(if $(wildcard /usr/lib/python3/dist-packages/torch),/usr/bin/python3,python3)
BENCH = $(BUILD)/bench-kernels --torch tests/bench/torch_lora.py --python $(TORCH_PYTHON)
$(BUILD)/tests/bench/%.o: tests/bench/%.c
	@mkdir -p $(@D)
	$(call say,CC)
	$(Q)$(CC) $(ALL_C) $(NATIVE) $(OPENMP) -ffp-contract=fast $(call pkg,--cflags,openblas jansson) -c -o $@ $<
$(BUILD)/bench-kernels: $(BENCH_OBJ) $(BUILD)/examples/finetune/restart.o $(STATIC)
	$(call say,LD)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LIB_DEPS) $(LDLIBS)

bench: $(BUILD)/bench-kernels ## the kernels against BLAS, PyTorch and the floor, full grid (BENCH_ARGS, TORCH_PYTHON)
	$(BENCH) $(BENCH_ARGS)
bench-quick: $(BUILD)/bench-kernels ## the same on eight shapes, under 50 seconds
	$(BENCH) --quick $(BENCH_ARGS)
$(BUILD)/bench-files: $(BUILD)/tests/bench/io/files.o $(STATIC)
	$(call say,LD)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LIB_DEPS) $(LDLIBS)
$(BUILD)/bench-inspect: $(BUILD)/tests/bench/io/inspect.o $(STATIC)
	$(call say,LD)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LIB_DEPS) $(LDLIBS)
bench-io: $(BUILD)/bench-files $(BUILD)/bench-inspect $(BUILD)/lorank ## files of 1 GB against dd on the same file system, all synced; inspect of 1,000 modules
	$(BUILD)/bench-inspect $(BUILD)/lorank $(BUILD)
	$(BUILD)/bench-files $(BUILD) $(BENCH_ARGS)

FOLDER ?= $(BUILD)
GIB ?= 4
$(BUILD)/bench-merge: tests/bench/io/merge.c $(STATIC)
	$(call say,LD)
	$(Q)$(CC) $(filter-out -MMD -MP,$(ALL_C)) $(LDFLAGS) -o $@ $^ $(LIB_DEPS) $(LDLIBS)
bench-merge: $(BUILD)/bench-merge ## time and memory of merging a model of GIB gibibytes in FOLDER, which holds it twice
	$(BUILD)/bench-merge $(FOLDER) $(GIB)

$(BUILD)/bench-sketch: $(wildcard tests/bench/sketch/*.c) $(filter-out %/main.o,$(FT_OBJ)) $(STATIC)
	$(call say,LD)
	$(Q)$(CC) $(filter-out -MMD -MP,$(ALL_C)) $(OPENMP) -I. -DLORANK -Wno-missing-prototypes $(call pkg,--cflags,openblas) $(LDFLAGS) \
	  -o $@ $^ $(call pkg,--libs,libpcre2-8) $(LIB_DEPS) $(LDLIBS)
bench-sketch: $(BUILD)/bench-sketch ## gradient sketches of the bundled model against the dense gradient, and GoRA's ranks by them
	$(BUILD)/bench-sketch $(BENCH_ARGS)

# For valgrind, which has no AVX-512: the benchmark's own sources for AVX2; the library's kernels are all there anyway.
bench-counts: ## the kernels' instructions, loads, stores and cache traffic, counted under callgrind (x86-64; needs deps-dev; 2 min)
	$(MAKE) $(SUBJOBS) build/counts/bench-kernels BUILD=build/counts NATIVE=-march=x86-64-v3
	tests/bench/counts.sh build/counts/bench-kernels build/counts/src/kernels/skinny_avx512.o build/counts/out

FUZZERS := $(patsubst tests/fuzz/fuzz_%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
FUZZ ?= $(firstword $(FUZZERS))
TIME ?= 600
FUZZ_SAN = -fsanitize=address,undefined
$(BUILD)/replay-%: tests/fuzz/fuzz_%.c tests/fuzz/replay_main.c $(STATIC)
	$(call say,LD)
	$(Q)$(CC) $(filter-out -MMD -MP,$(ALL_C)) -Wno-missing-prototypes $(LDFLAGS) -o $@ $^ $(LIB_DEPS) $(LDLIBS)
fuzz-replay: $(FUZZERS:%=$(BUILD)/replay-%) ## every fuzz target over its committed corpus
	@for f in $(FUZZERS); do echo "$$f: $$($(BUILD)/replay-$$f tests/fuzz/corpus/$$f/*)" || exit 1; done
fuzz: ## libFuzzer with ASan and UBSan: FUZZ=one of tests/fuzz, TIME=seconds
	$(MAKE) $(SUBJOBS) build/fuzz/lib/liblorank.a BUILD=build/fuzz NATIVE= OPENMP= CC=clang CFLAGS="-O1 -g -fsanitize=fuzzer-no-link $(FUZZ_SAN)"
	clang -O1 -g -fsanitize=fuzzer $(FUZZ_SAN) $(INCLUDE) -o build/fuzz/$(FUZZ) tests/fuzz/fuzz_$(FUZZ).c build/fuzz/lib/liblorank.a $(LIB_DEPS)
	mkdir -p build/fuzz/corpus-$(FUZZ) && build/fuzz/$(FUZZ) -max_total_time=$(TIME) build/fuzz/corpus-$(FUZZ) tests/fuzz/corpus/$(FUZZ)

SAN = -O1 -g -fno-omit-frame-pointer
asan: ## the suite under AddressSanitizer and LeakSanitizer
	$(MAKE) $(SUBJOBS) check BUILD=build/asan NATIVE= CFLAGS="$(SAN) -fsanitize=address" LDFLAGS=-fsanitize=address TEST_ENV="CK_FORK=no OMP_NUM_THREADS=2"
ubsan: ## the suite under UndefinedBehaviorSanitizer
	$(MAKE) $(SUBJOBS) check BUILD=build/ubsan NATIVE= CFLAGS="$(SAN) -fsanitize=undefined,float-cast-overflow -fno-sanitize-recover=all" LDFLAGS=-fsanitize=undefined
tsan: ## the suite under ThreadSanitizer (without OpenMP, whose runtime it cannot see into)
	$(MAKE) $(SUBJOBS) check BUILD=build/tsan NATIVE= OPENMP= CFLAGS="$(SAN) -fsanitize=thread" LDFLAGS=-fsanitize=thread TEST_ENV="CK_FORK=no OMP_NUM_THREADS=1"
valgrind: ## the suite under valgrind memcheck (long)
	$(MAKE) $(SUBJOBS) check BUILD=build/valgrind NATIVE= CFLAGS="-O1 -g" TEST_ENV="CK_FORK=no CK_DEFAULT_TIMEOUT=600 OMP_NUM_THREADS=1 OPENBLAS_CORETYPE=Haswell" \
	  TEST_WRAP="valgrind -q --leak-check=full --show-leak-kinds=definite --errors-for-leak-kinds=definite --error-exitcode=1"
coverage: ## line coverage of src/, printed
	rm -rf build/coverage
	$(MAKE) $(SUBJOBS) check BUILD=build/coverage NATIVE= CFLAGS="-O0 -g --coverage" LDFLAGS=--coverage
	gcovr -r . --object-directory build/coverage -f 'src/' --exclude-throw-branches -s
mutation: ## break src/ in many ways, one at a time; the suite must catch them (long)
	tests/mutation.sh

# At -O2: gcc 12.2 for AArch64 breaks on tests/unit/test_lora_relations.c at -O3.
ARM_SUITES ?= core kernels skinny fetching lora lora_kernels lora_relations lora_determinism pass pass_calls merge unfold residual
ARM      := build/arm64
ARM_ROOT := $(CURDIR)/$(ARM)/root
ARM_LIB  := $(ARM_ROOT)/usr/lib/aarch64-linux-gnu
ARM_INC  := $(ARM_ROOT)/usr/include
check-neon: ## the suites of the kernels for AArch64, under qemu (needs root on Debian, as deps does)
	@tests/deps.sh gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static
	@tests/arm64_root.sh $(ARM_ROOT) $(ARM_PACKAGES)
	PKG_CONFIG_SYSROOT_DIR=$(ARM_ROOT) PKG_CONFIG_LIBDIR=$(ARM_LIB)/pkgconfig:$(ARM_LIB)/openblas-openmp/pkgconfig \
	  $(MAKE) $(SUBJOBS) check BUILD=$(ARM) CC=aarch64-linux-gnu-gcc AR=aarch64-linux-gnu-ar CFLAGS="-O2 -g" NATIVE= SUITES="$(ARM_SUITES)" \
	  CPPFLAGS="-I$(ARM_INC) -I$(ARM_INC)/aarch64-linux-gnu/openblas-openmp" LDFLAGS="-L$(ARM_LIB) -Wl,-rpath-link,$(ARM_LIB)" \
	  TEST_ENV="CK_DEFAULT_TIMEOUT=600" TEST_WRAP="qemu-aarch64-static -L /usr/aarch64-linux-gnu -E LD_LIBRARY_PATH=$(ARM_LIB):$(ARM_LIB)/openblas-openmp"

# ---- gates -----------------------------------------------------------------------------------------------------------

abi: $(SHARED) $(STATIC) ## symbols, layouts, constants against the committed lists; headers as C99 and C++98; no globals
	tests/abi/check.sh $(SHARED) $(STATIC) $(BUILD)/abi $(UPDATE)
docs-links: ## links between the documents, and the names that they mention
	tests/docs_links.sh
FORMATTED = $(shell git ls-files '*.c' '*.h' 2>/dev/null || find include src tests examples -name '*.[ch]')
format: ## format the sources in place
	@clang-format -i $(FORMATTED)
format-check: ## fail if a source is not formatted
	@clang-format --dry-run -Werror $(FORMATTED)
tidy: $(patsubst %,%.tidy,$(wildcard src/*/*.c)) ## clang-tidy over src/, one file at a time
%.c.tidy: %.c
	clang-tidy --quiet $< -- -std=c11 -D_POSIX_C_SOURCE=200809L -D_DEFAULT_SOURCE $(INCLUDE) \
	  $(if $(filter src/core/%,$<),,-include tests/tidy.h)
install-check: all ## stage an install and build an example with nothing but pkg-config
	+tests/install_check.sh "$(CC)"

# ---- the rest --------------------------------------------------------------------------------------------------------

deps: ## install what is missing to build and test (apt-get; elsewhere prints the list)
	@tests/deps.sh $(PACKAGES)
deps-dev: ## the same for the gates, sanitizers and coverage
	@tests/deps.sh $(DEV_PACKAGES)

install: all ## install library, headers, pkg-config file, command (PREFIX, LIBDIR, DESTDIR)
	install -d $(DESTDIR)$(LIBDIR)/pkgconfig $(DESTDIR)$(PREFIX)/include/lorank $(DESTDIR)$(PREFIX)/bin
	install -m 644 include/lorank/*.h $(DESTDIR)$(PREFIX)/include/lorank
	install -m 644 $(STATIC) $(DESTDIR)$(LIBDIR)
	install -m 755 $(SHARED) $(DESTDIR)$(LIBDIR)
	ln -sf liblorank.so.$(VER) $(DESTDIR)$(LIBDIR)/liblorank.so.$(ABI)
	ln -sf liblorank.so.$(ABI) $(DESTDIR)$(LIBDIR)/liblorank.so
	install -m 755 $(BUILD)/lorank $(DESTDIR)$(PREFIX)/bin
	install -d $(DESTDIR)$(PREFIX)/share/man/man1 && install -m 644 docs/lorank.1 $(DESTDIR)$(PREFIX)/share/man/man1
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@LIBDIR@|$(LIBDIR)|' -e 's|@VERSION@|$(VER)|' -e 's|@BLAS@|$(strip $(call pkg,--libs,openblas))|' pkgconfig/lorank.pc.in \
	  >$(DESTDIR)$(LIBDIR)/pkgconfig/lorank.pc
uninstall: ## remove what install put there
	rm -f $(DESTDIR)$(LIBDIR)/liblorank.a $(DESTDIR)$(LIBDIR)/liblorank.so* $(DESTDIR)$(LIBDIR)/pkgconfig/lorank.pc
	rm -f $(DESTDIR)$(PREFIX)/bin/lorank $(DESTDIR)$(PREFIX)/share/man/man1/lorank.1 && rm -rf $(DESTDIR)$(PREFIX)/include/lorank
clean: ## remove build output
	rm -rf build lib/liblorank.*
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-16s %s\n", $$1, $$2}' Makefile

-include $(LIB_OBJ:.o=.d) $(TOOL_OBJ:.o=.d) $(FT_OBJ:.o=.d) $(MPI_OBJ:.o=.d) $(TEST_OBJ:.o=.d) $(BENCH_OBJ:.o=.d)
.PHONY: all always examples check-examples demo compare compare-quick check-compare finetune-mpi check-mpi check check-interop check-kill check-neon fuzz fuzz-replay bench bench-quick bench-counts bench-io bench-merge bench-sketch \
  asan ubsan tsan valgrind coverage mutation abi docs-links format \
  format-check tidy install-check deps deps-dev install uninstall clean help
.SECONDARY:
