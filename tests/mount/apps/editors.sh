# The ways editors save: vim in all three of its ways, nano at a terminal, sed -i, perl -i, and the temporary file
# with fsync and rename of the large desktop editors. Content and mode have to be right and nothing left over.
. "$(dirname "$0")/prelude.sh"
need vim nano sed perl python3
fresh() { printf 'one\ntwo\nthree\n' >text && chmod 640 text; }
saved() {
  equal "$(printf 'one\nTWO\nthree')" "$(cat text)" "content after $1"
  equal 640 "$(stat -c %a text)" "mode after $1"
  equal "text" "$(ls -A | tr '\n' ' ' | sed 's/ $//')" "directory after $1"
}

for copy in yes no auto; do
  fresh
  run timeout 60 vim -Nu NONE -i NONE -es -c "set backupskip= writebackup backupcopy=$copy fsync" -c '%s/two/TWO/' -c wq text
  saved "vim with backupcopy=$copy"
  fresh
  run timeout 60 vim -Nu NONE -i NONE -es -c "set backupskip= backup backupcopy=$copy" -c '%s/two/TWO/' -c wq text
  equal "$(printf 'one\ntwo\nthree')" "$(cat text~)" "backup of vim with backupcopy=$copy"
  rm text~
  saved "vim with a backup file and backupcopy=$copy"
done
fresh
run timeout 60 vim -Nu NONE -i NONE -es -c 'set swapfile updatecount=1' -c '%s/two/TWO/' -c preserve -c wq text
saved "vim with a swap file"

fresh
python3 - text >"$LOCAL/output" 2>&1 <<'PY' || fail "nano: $(tail -c 600 "$LOCAL/output")"
import os, pty, select, sys, time
pid, terminal = pty.fork()
if pid == 0:
    os.environ.update(TERM="xterm", LINES="24", COLUMNS="80")
    os.execvp("nano", ["nano", "--ignorercfiles", "+2,1", sys.argv[1]])
screen = b""
def until(*words):
    global screen
    end = time.monotonic() + 30
    while not any(word in screen for word in words):
        if not select.select([terminal], [], [], max(0, end - time.monotonic()))[0]:
            sys.exit(f"nano never showed {words}: {screen[-400:]}")
        try:
            screen += os.read(terminal, 65536)
        except OSError:
            sys.exit(f"nano ended before it showed {words}: {screen[-400:]}")
def send(keys):
    global screen
    screen = b""
    os.write(terminal, keys)
until(b"three")
send(b"\x0bTWO\r")              # cut the line, type its replacement
until(b"TWO")
send(b"\x0f")                   # write out
until(b"Write", b"File Name")
send(b"\r")
until(b"Wrote", b"lines")
send(b"\x18")                   # exit
while True:
    try:
        if not os.read(terminal, 65536):
            break
    except OSError:
        break
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
PY
saved nano

fresh
run sed -i s/two/TWO/ text
saved "sed -i"
fresh
run sed -i.bak s/two/TWO/ text
equal two "$(sed -n 2p text.bak)" "backup of sed"
rm text.bak
saved "sed -i.bak"
fresh
run perl -i -pe s/two/TWO/ text
chmod 640 text
saved "perl -i"

fresh
python3 - >"$LOCAL/output" 2>&1 <<'PY' || fail "save by rename: $(tail -c 600 "$LOCAL/output")"
import os, stat, tempfile
for round in range(10):
    descriptor, temporary = tempfile.mkstemp(dir=".")
    os.write(descriptor, b"one\nTWO\nthree\n")
    os.fchmod(descriptor, stat.S_IMODE(os.stat("text").st_mode))
    os.fsync(descriptor)
    os.close(descriptor)
    with open("text") as before:
        expected = before.read()
        before.seek(0)
        os.rename(temporary, "text")
        assert before.read() == expected, "the replaced file lost its bytes while open"
    directory = os.open(".", os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)
    with open("text") as after:
        assert after.read() == "one\nTWO\nthree\n"
PY
saved "save by rename"
pass
