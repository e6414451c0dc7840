# SPDX-License-Identifier: MIT
# One line of counts.sh out of callgrind's file. Variables: who, op, tokens, d, rank, dtype, calls.
/^fn=/ { fn = substr($0, 4); next }
/^calls=/ { getline; next } # the callee's cost, which has lines of its own
/^[0-9]+ [0-9]/ {
  group = "rest"
  if (fn ~ /^dot(_|$)/) group = "dot"
  if (fn ~ /^update(_|$)/) group = "update"
  if (fn ~ /^(pack_|lrki_pack|add_row|__mem)/) group = "pack"
  ir[group] += $2; all += $2; loads += $3; stores += $4; l1 += $6 + $7; l2 += $9 + $10
}
END {
  macs = 2 * tokens * d * rank * (op == "forward" ? 1 : 2)
  n = macs / 8 * calls
  size = dtype == "f32" ? 4 : 2
  bytes = tokens * d * size * (op == "forward" ? 2 : 3) + 4 * 2 * d * rank * (op == "forward" ? 1 : 2)
  printf "%-8s %6d %5d %4d %-4s %-6s %11d | ", op, tokens, d, rank, dtype, who, all / calls
  if (who == "lorank")
    printf "%6.2f %6.2f %6.2f %6.2f ", ir["dot"] / n, ir["update"] / n, ir["pack"] / n, ir["rest"] / n
  else
    printf "%6s %6s %6s %6s ", "-", "-", "-", "-"
  printf "%6.2f | %6.2f %6.2f | %6.2f %6.2f\n", all / n, loads / n, stores / n, l1 * 64 / calls / bytes, l2 * 64 / calls / bytes
}
