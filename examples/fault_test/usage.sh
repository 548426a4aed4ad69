#!/bin/sh
# Words that are no seed or count: exit 2 at once, with the usage on standard error and nothing on standard output.
while read -r words; do
  told=$("$1" $words 2>&1 >/dev/null)
  code=$?
  case "$code $told" in
    "2 usage: "*) ;;
    *) echo "fault_replay $words: exit $code, \"$told\""; exit 1 ;;
  esac
done <<end
-1
+1
x
1x
1 0
1 -5
1 2 3
99999999999999999999999
18446744073709551615 2
end
