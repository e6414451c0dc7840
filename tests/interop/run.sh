#!/bin/sh
# SPDX-License-Identifier: MIT
# The real readers of lorank's files: run.sh LIBLORANK.SO FOLDER. Makes a virtual environment of its own in FOLDER (unless
# INTEROP_PYTHON names an interpreter that has the packages) and runs every check. llama-cpp-python builds llama.cpp: minutes.
set -eu
library=$1 folder=$2
here=$(dirname "$0")
mkdir -p "$folder"
if [ -z "${INTEROP_PYTHON:-}" ]; then
  [ -x "$folder/venv/bin/python" ] || python3 -m venv "$folder/venv"
  "$folder/venv/bin/pip" install --quiet numpy gguf llama-cpp-python torch peft
  INTEROP_PYTHON=$folder/venv/bin/python
fi
for check in "$here"/test_*.py; do
  "$INTEROP_PYTHON" "$check" "$library" "$folder"
done
