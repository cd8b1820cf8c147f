# rsync -a: everything kept, the second run sends nothing; then --inplace, --append, --delete, and back out again.
. "$(dirname "$0")/prelude.sh"
need rsync python3
python3 - "$LOCAL/from" <<'PY' || fail "cannot make the source"
import os, random, sys
random.seed(7)
root = sys.argv[1]
for dir in ("", "a", "a/b", "a/b/c", "empty", "with space", "umlaut-\u00e4"):
    os.makedirs(os.path.join(root, dir), exist_ok=True)
for i in range(150):
    path = os.path.join(root, random.choice(["", "a", "a/b", "a/b/c", "with space", "umlaut-\u00e4"]), f"file {i}.dat")
    with open(path, "wb") as file:
        file.write(random.randbytes(random.choice([0, 1, 100, 4096, 70_000])))
    os.chmod(path, random.choice([0o644, 0o600, 0o755, 0o444]))
    os.utime(path, ns=(10**18, random.randrange(10**18, 17 * 10**17)))
with open(os.path.join(root, "a/big"), "wb") as file:
    file.write(random.randbytes(20_000_000))
os.symlink("../a/big", os.path.join(root, "a/link"))
os.symlink("nowhere", os.path.join(root, "dangling"))
os.chmod(os.path.join(root, "empty"), 0o751)
# rsync leaves the fraction of a second alone when the second is right already, so no directory is of now.
for i, (dir, _, _) in enumerate(os.walk(root, topdown=False)):
    os.utime(dir, ns=(10**18, 981173106000000000 + i))
PY
run rsync -a "$LOCAL/from/" to/
same_trees "$LOCAL/from" to
equal "" "$(rsync -a --itemize-changes "$LOCAL/from/" to/ | grep -v '^\.d\.\.t\.\.\.\.\.\. \./$')" "what a second run does"
stats=$(rsync -a --stats "$LOCAL/from/" to/ | grep 'regular files transferred')
equal "Number of regular files transferred: 0" "$stats" "a second run"
equal "" "$(rsync -a --checksum --itemize-changes "$LOCAL/from/" to/ | grep '^[<>c]')" "a run with --checksum"

printf 'in the middle' | dd of="$LOCAL/from/a/big" bs=1 seek=9000000 conv=notrunc status=none
run rsync -a --ignore-times --inplace --no-whole-file "$LOCAL/from/" to/
same "$LOCAL/from/a/big" to/a/big
echo "at the end" >>"$LOCAL/from/a/big"
run rsync -a --append "$LOCAL/from/" to/
same "$LOCAL/from/a/big" to/a/big
rm -r "$LOCAL/from/with space"
run rsync -a --delete "$LOCAL/from/" to/
[ ! -e "to/with space" ] || fail "--delete left a directory"
run rsync -a to/ "$LOCAL/back/"
same_trees "$LOCAL/from" "$LOCAL/back"
pass
