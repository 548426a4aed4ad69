# Turns a benchmark's lines (a machine line, then flat JSON objects) into a Markdown table.
function field(line, key,    rest) {
  if (!match(line, "\"" key "\"[ ]*:[ ]*")) return ""
  rest = substr(line, RSTART + RLENGTH)
  if (substr(rest, 1, 1) == "\"") {
    rest = substr(rest, 2)
    sub(/".*/, "", rest)
  } else sub(/[,}].*/, "", rest)
  return rest == "null" ? "" : rest
}
function number(text) { return text == "" ? "" : sprintf("%.4g", text) }
function with_value(what, value) { return what == "" ? "" : value == "" ? what : what ": " value }
/"name"[ ]*:/ {
  if (!rows++) {
    print "\n| figure | value | unit | peer | ratio | limit | share | runs | spread |"
    print "|---|---|---|---|---|---|---|---|---|"
  }
  printf "| %s | %s | %s | %s | %s | %s | %s | %s | %s |\n", field($0, "name"), number(field($0, "value")), field($0, "unit"),
         with_value(field($0, "peer"), number(field($0, "peer_value"))), number(field($0, "ratio")), field($0, "limit"),
         number(field($0, "share")), field($0, "runs"), number(field($0, "spread"))
  next
}
/"note"[ ]*:/ {
  print "\n" field($0, "note")
  next
}
/./ { print "\nMachine: `" $0 "`" }
