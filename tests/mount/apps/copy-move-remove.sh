# cp -a, mv of files and directories within, into and out of the directory, rm -r.
. "$(dirname "$0")/prelude.sh"
need python3
python3 - "$LOCAL/tree" <<'PY' || fail "cannot make the source"
import os, random, sys
random.seed(5)
root = sys.argv[1]
for i in range(120):
    dir = f"{root}/d{i % 5}/e{i % 11}"
    os.makedirs(dir, exist_ok=True)
    with open(f"{dir}/f{i}", "wb") as file:
        file.write(random.randbytes(random.choice([0, 10, 5000, 100_000])))
    os.chmod(f"{dir}/f{i}", random.choice([0o644, 0o711, 0o600]))
    os.utime(f"{dir}/f{i}", ns=(10**18, random.randrange(10**18, 17 * 10**17)))
os.mkdir(f"{root}/empty")
os.symlink("d0", f"{root}/link")
PY
run cp -a "$LOCAL/tree" in
same_trees "$LOCAL/tree" in
run cp -a in copy
same_trees in copy
run mv copy moved
[ ! -e copy ] || fail "mv left the old directory"
same_trees "$LOCAL/tree" moved
run mkdir below
run mv moved below/again
same_trees "$LOCAL/tree" below/again
run mv below/again/d0/e0/f0 below/file
same in/d0/e0/f0 below/file
[ ! -e below/again/d0/e0/f0 ] || fail "mv left the old file"
echo old >below/target
run mv -f below/file below/target
same in/d0/e0/f0 below/target
run mv in "$LOCAL/out"
[ ! -e in ] || fail "mv out left the directory"
same_trees "$LOCAL/tree" "$LOCAL/out"
run mv "$LOCAL/out" in
same_trees "$LOCAL/tree" in
mkdir full && touch full/x
mv -T in full 2>/dev/null && fail "mv over a directory with entries succeeded"
mv below below/inner 2>/dev/null && fail "mv of a directory into itself succeeded"
run rm -r in below
equal "full" "$(ls)" "what is left"
mkdir -p deep/a/b/c/d/e/f
run rmdir -p deep/a/b/c/d/e/f
[ ! -e deep ] || fail "rmdir -p left something"
pass
