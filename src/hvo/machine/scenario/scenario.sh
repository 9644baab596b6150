# The words of a scenario. Each asks the machine: arguments out on descriptor 8, status and message back on descriptor 9.
# What the scenario itself prints goes to standard error.
exec 8>&1 9<&0 1>&2 0</dev/null
hvo_ask() {
  printf '%s\000' "$#" "$@" >&8
  IFS=' ' read -r hvo_status hvo_message <&9 || exit 2
  [ -z "$hvo_message" ] || printf '%s\n' "$hvo_message" >&2
  return "$hvo_status"
}
hvo() { hvo_ask hvo "$@"; }
pool() { hvo_ask pool "$@"; }
pool_of() { hvo_ask pool_of "$@"; }
snap() { hvo_ask snap "$@"; }
hvo_bb() { hvo_ask bb "$@"; }
bb=hvo_bb
. "$1"
exit 0
