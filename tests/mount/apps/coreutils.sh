# The small tools: dd, truncate, split, install, touch, sort -o, tail -f, appends, sparse copies, odd names, du, find.
. "$(dirname "$0")/prelude.sh"
head -c 5000003 /dev/urandom >"$LOCAL/random"
run cp "$LOCAL/random" file
same "$LOCAL/random" file
for file in "$LOCAL/random" file; do printf HELLO | dd of="$file" bs=1 seek=1000000 conv=notrunc status=none || fail dd; done
same "$LOCAL/random" file
for size in 3000001 4000000 0 10 1000000; do
  run truncate -s $size file "$LOCAL/random"
  same "$LOCAL/random" file
done
echo tail | tee -a file >>"$LOCAL/random"
same "$LOCAL/random" file

truncate -s 20M "$LOCAL/sparse"
printf x | dd of="$LOCAL/sparse" bs=1 seek=10000000 conv=notrunc status=none
run cp --sparse=always "$LOCAL/sparse" sparse
same "$LOCAL/sparse" sparse
run cp --sparse=never sparse full
same "$LOCAL/sparse" full

head -c 2621440 /dev/urandom >"$LOCAL/direct"
run dd if="$LOCAL/direct" of=direct bs=64k oflag=direct status=none
same "$LOCAL/direct" direct
dd if=direct iflag=direct bs=64k status=none | cmp - "$LOCAL/direct" || fail "O_DIRECT read"

run split -b 70k direct piece.
cat piece.* | cmp - direct || fail "split and cat"
run install -m 711 file installed
equal 711 "$(stat -c %a installed)" "mode after install"
run touch -d '2010-01-02 03:04:05.678' dated
equal 2010-01-02T03:04:05.678000000 "$(date -r dated +%Y-%m-%dT%H:%M:%S.%N)" "touch -d"
run cp -p dated copied
equal "$(stat -c %Y dated)" "$(stat -c %Y copied)" "cp -p"
printf 'b\nc\na\n' >lines && run sort -o lines lines
equal "a b c" "$(xargs <lines)" "sort -o"
(umask 027 && touch masked && mkdir maskdir)
equal "640 750" "$(stat -c %a masked maskdir | xargs)" "umask"

(for i in 1 2 3 4 5; do echo "line $i"; sleep 0.2; done >growing) &
writer=$!
timeout 60 tail -n +1 -f growing --pid=$writer -s 0.1 >"$LOCAL/seen" 2>/dev/null
wait $writer
equal 5 "$(grep -c line "$LOCAL/seen")" "lines that tail -f saw"
for i in $(seq 20); do echo "append $i" >>log & done
wait
equal 20 "$(wc -l <log)" "lines after 20 appends at once"
equal 20 "$(sort -u log | wc -l)" "different lines after 20 appends at once"

for name in 'a b' '"quoted"' "it's" 'new
line' '*?[x]' '\back' $'tab\tbell\a' 'ümläut' '日本' '~' '#' '%' '%!x' '%!enc:a' '+' '&=?' ' ' '-rf' '...' '..a'; do
  printf '%s' "$name" >"./$name" || fail "cannot write '$name'"
  equal "$name" "$(cat "./$name")" "content of '$name'"
  [ -n "$(find . -maxdepth 1 -samefile "./$name" -print)" ] || fail "'$name' is not listed"
  run rm "./$name"
  [ ! -e "./$name" ] || fail "'$name' is still there"
done
mkdir -p many/x && for i in $(seq 50); do echo $i >many/x/$i; done
equal 50 "$(find many -type f | wc -l)" "find"
equal 50 "$(grep -rl . many | wc -l)" "grep -r"
[ "$(du -s --apparent-size --block-size=1 many | cut -f1)" -ge 91 ] || fail "du"
run touch -d '2020-01-01 00:00:00.000000001' many/x/49
run touch -d '2020-01-01 00:00:00.000000002' many/x/50
equal many/x/50 "$(find many/x/49 many/x/50 -newer many/x/49)" "find -newer"
pass
