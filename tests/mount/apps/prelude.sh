# Sourced by every script beside it. Usage of each: bash NAME.sh DIR
# DIR is any writable directory: a mount, or a local one to check the script itself.
# WORK is a fresh directory in DIR and the current one, LOCAL a fresh directory outside of it.
# Prints "ok NAME" as its last line, or "FAIL NAME: why" and exits with 1.
set -u
[ $# -eq 1 ] || { echo "usage: $0 DIR" >&2; exit 2; }
NAME=$(basename "$0" .sh)
export LC_ALL=C.UTF-8 TZ=UTC
LOCAL=$(mktemp -d "${TMPDIR:-/tmp}/pailfs-$NAME.XXXXXX") || exit 2
WORK=$(cd "$1" && pwd)/$NAME.$$
export HOME=$LOCAL/home
mkdir "$HOME"

finish() { trap - EXIT; cd /; rm -rf "$LOCAL"; exit "$1"; }
fail() { echo "FAIL $NAME: $*"; finish 1; }
pass() { cd /; rm -rf "$WORK" || fail "rm -rf of the working directory"; [ ! -e "$WORK" ] || fail "the working directory is still there"; echo "ok $NAME"; finish 0; }
need() { for tool in "$@"; do command -v "$tool" >/dev/null || fail "needs $tool, which is not installed"; done; }
# Runs a command that has to succeed; its output is shown only when it does not.
run() { "$@" >"$LOCAL/output" 2>&1 || fail "'$*' ended with $?: $(tail -c 600 "$LOCAL/output")"; }
same() { cmp "$1" "$2" >"$LOCAL/output" 2>&1 || fail "$1 and $2 differ: $(cat "$LOCAL/output")"; }
# equal EXPECTED GOT WHAT
equal() { [ "$1" = "$2" ] || fail "$3: expected '$1', got '$2'"; }
# Everything stat tells of a tree that two copies of it have in common.
manifest() { (cd "$1" && find . -mindepth 1 -printf '%P|%y|%m|%l|' \( -type f -printf '%s|%T@' -o -type l -o -printf '%T@' \) -printf '\n' | sort); }
# same_trees A B: names, kinds, modes, times, link targets, sizes, bytes.
same_trees() {
  manifest "$1" >"$LOCAL/manifest.a"; manifest "$2" >"$LOCAL/manifest.b"
  diff "$LOCAL/manifest.a" "$LOCAL/manifest.b" >"$LOCAL/output" || fail "$1 and $2 differ: $(head -6 "$LOCAL/output")"
  diff -r --no-dereference "$1" "$2" >"$LOCAL/output" 2>&1 || fail "bytes of $1 and $2 differ: $(head -6 "$LOCAL/output")"
}
trap 'fail "ended early"' EXIT
mkdir "$WORK" && cd "$WORK" || fail "cannot make $WORK"
