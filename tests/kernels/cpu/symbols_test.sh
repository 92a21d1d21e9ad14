#!/bin/sh
# The objects of the instruction sets' tables define their table and nothing else that the linker
# can see: an inline function compiled there for AVX-512 could be the copy that everybody gets.
#   symbols_test.sh NM ARCHIVE NAMESPACE      the namespace mangled, such as 7kernels3cpu
set -eu
nm=$1
archive=$2
"$nm" --defined-only "$archive" | awk -v table="^_ZN$3[0-9]+k[A-Za-z0-9]*TableE\$" '
  /^table_[a-z0-9_]*\.cpp\.o:$/ { member = $1; tables++; next }
  /:$/ { member = ""; next }
  member != "" && NF == 3 {
    # Lower case is local; "D" and "R" are data of ours, "W", "V" and "u" are weak.
    if ($2 ~ /^[a-tv-z]$/) next
    if ($2 ~ /^[DR]$/ && $3 ~ table) { exported++; next }
    print member " exports " $2 " " $3
    bad = 1
  }
  END {
    if (tables == 0) { print "no table objects in the archive"; exit 1 }
    if (exported != tables) { print tables " objects, " exported + 0 " tables"; exit 1 }
    exit bad
  }'
