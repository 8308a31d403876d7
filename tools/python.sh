#!/bin/sh
# Prints which Python to make .venv of: the fastest one that is new enough and can make one, of the arguments or of the usual places.
# The order is that of preference; a later one has to be a tenth faster. PYTHON in the environment decides without being asked for its speed.
set -eu

if [ -n "${PYTHON:-}" ]; then
  echo "$PYTHON"
  exit 0
fi

judge='
import sys, time
if sys.version_info < (3, 11):
    sys.exit("too old")
import ensurepip, venv

def work():
    began = time.process_time()
    found = {}
    for number in range(60_000):
        found[number & 255] = (number, str(number))
    return time.process_time() - began

print(int(min(work() for _ in range(5)) * 1_000_000), sys.executable)
'
best=""
least=0
[ $# -gt 0 ] || set -- python3 /usr/bin/python3 /usr/local/bin/python3
for candidate in "$@"; do
  found=$("$candidate" -c "$judge" 2>/dev/null) || continue
  took=${found%% *}
  if [ -z "$best" ] || [ $((took * 10)) -lt $((least * 9)) ]; then
    best=${found#* }
    least=$took
  fi
done
[ -n "$best" ] || {
  echo "Isthmus needs Python 3.11 or later, with its venv module; python3 here is $(python3 -V 2>&1)." >&2
  exit 1
}
echo "$best"
