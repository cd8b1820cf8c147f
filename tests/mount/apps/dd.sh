# dd conv=notrunc in the middle of a 300 MB file, held against a local twin.
. "$(dirname "$0")/prelude.sh"
need dd python3
python3 - "$LOCAL/twin" <<'PY' || fail "cannot make the source"
import random, sys
random.seed(3)
block = random.randbytes(1_000_000)
with open(sys.argv[1], "wb") as file:
    for i in range(300):
        file.write(block[i:] + block[:i])
PY
head -c 3000000 /dev/urandom >"$LOCAL/patch"
run dd if="$LOCAL/twin" of=big bs=1M status=none
same "$LOCAL/twin" big
for at in 150000007 0 299999999 12345678; do
  for file in "$LOCAL/twin" big; do
    run dd if="$LOCAL/patch" of="$file" bs=1000003 count=1 seek="$at" oflag=seek_bytes conv=notrunc status=none
  done
  equal "$(stat -c %s "$LOCAL/twin")" "$(stat -c %s big)" "size after dd at $at"
done
for file in "$LOCAL/twin" big; do run dd if="$LOCAL/patch" of="$file" bs=1M oflag=append conv=notrunc,fsync status=none; done
equal "$(sha256sum <"$LOCAL/twin")" "$(sha256sum <big)" "checksum"
pass
