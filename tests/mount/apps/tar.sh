# tar x and tar c of 1,000 files with modes, symlinks and times; append to an archive; rm -r of it all.
. "$(dirname "$0")/prelude.sh"
need tar python3
python3 - "$LOCAL/tree" <<'PY' || fail "cannot make the source"
import os, random, sys
random.seed(11)
root = sys.argv[1]
for i in range(1000):
    dir = f"{root}/d{i % 7}/s{i % 40}"
    os.makedirs(dir, exist_ok=True)
    path = f"{dir}/f{i}.c"
    with open(path, "wb") as file:
        file.write(random.randbytes(random.randrange(0, 6000)))
    os.chmod(path, random.choice([0o644, 0o755, 0o600, 0o440, 0o666]))
    os.utime(path, ns=(10**18, random.randrange(10**18, 17 * 10**17)))
    if i % 20 == 0:
        os.symlink(f"f{i}.c", f"{dir}/link{i}")
os.mkdir(f"{root}/empty")
os.symlink("/etc/hostname", f"{root}/absolute")
for dir, _, _ in os.walk(root, topdown=False):
    os.chmod(dir, random.choice([0o755, 0o700, 0o775]))
    os.utime(dir, ns=(10**18, random.randrange(10**9, 17 * 10**8) * 10**9))
PY
run tar -C "$LOCAL" --format=posix -cf "$LOCAL/tree.tar" tree
run tar -xpf "$LOCAL/tree.tar"
equal 1000 "$(find tree -type f | wc -l)" "files"
equal 51 "$(find tree -type l | wc -l)" "links"
same_trees "$LOCAL/tree" tree
run tar --compare -f "$LOCAL/tree.tar"

run tar --format=posix -cf out.tar tree
run tar --compare -f out.tar
run tar -C "$LOCAL" -xpf "$WORK/out.tar" --one-top-level=back
same_trees "$LOCAL/tree" "$LOCAL/back/tree"
run tar -cf part.tar tree/d0
run tar -rf part.tar tree/d1
equal "$(find tree/d0 tree/d1 | wc -l)" "$(tar -tf part.tar | wc -l)" "entries after tar -r"
run tar -czf out.tgz tree
run tar -tzf out.tgz
run rm -r tree
[ ! -e tree ] || fail "rm -r left tree"
pass
