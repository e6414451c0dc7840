# SPDX-License-Identifier: MIT
# Reads `objdump -d --no-show-raw-insn`; prints the innermost loops that multiply and add, one line each, for counts.sh.
function hex(text,    i, value) {
  value = 0
  for (i = 1; i <= length(text); i++) value = value * 16 + index("0123456789abcdef", substr(text, i, 1)) - 1
  return value
}
# Kind of an instruction: what it does besides, if its operand is in memory, is counted by the caller.
function kind(op) {
  if (op ~ /^vfn?m(add|sub)/) return "fma"
  if (op ~ /^prefetch/) return "prefetch"
  if (op ~ /^v(cvt|cmp|test|ptest|pcmp|padd|psub|psrl|psll|pmov[zsu]|pand|por)/) return "convert"
  if (op ~ /^v(perm|shuf|unpck|pshuf|pack|insert|extract|blend)/) return "shuffle"
  return "other"
}
function flush_function(    i, j, k, from, inner, c, memory, loads, stores) {
  for (i = 0; i < n; i++) {
    if (target[i] == "" || target[i] > address[i] || !(target[i] in place)) continue
    from = place[target[i]]
    inner = 1
    for (j = from; j < i; j++) if (target[j] != "" && target[j] in place && place[target[j]] >= from && place[target[j]] <= j) inner = 0
    if (!inner) continue
    split("", c); loads = stores = 0
    for (j = from; j <= i; j++) {
      k = kind(op[j])
      memory = args[j] ~ /\(/ && op[j] !~ /^(prefetch|lea|nop)/
      if (memory && op[j] ~ /^v?mov/ && args[j] ~ /\)(\{[^}]*\})?$/) stores++
      else if (memory) loads++
      if (!(memory && k == "other")) c[k]++
    }
    if (c["fma"] > 0)
      printf "%-14s %4d %6d %7d %9d %8d %7d %6d %6d\n", name, c["fma"], loads, stores, c["prefetch"], c["convert"], c["shuffle"], c["other"], i - from + 1
  }
}
/^[0-9a-f]+ <.*>:$/ {
  flush_function()
  n = 0; split("", target); split("", place)
  name = substr($2, 2, length($2) - 3)
  next
}
/^ *[0-9a-f]+:/ {
  a = hex(substr($1, 1, length($1) - 1))
  address[n] = a; place[a] = n; op[n] = $2; target[n] = ""
  args[n] = $0; sub(/^ *[0-9a-f]+:[ \t]*[a-z0-9]+[ \t]*/, "", args[n]); sub(/[ \t]*[#<].*$/, "", args[n])
  if ($2 ~ /^j/) target[n] = hex($3)
  n++
}
END { flush_function() }
