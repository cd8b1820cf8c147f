# git: init, add, commit, rename, branch, merge, stash, gc, fsck, clone from and within the directory, push back.
. "$(dirname "$0")/prelude.sh"
need git
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null
export GIT_AUTHOR_NAME=pail GIT_AUTHOR_EMAIL=p@example.org GIT_COMMITTER_NAME=pail GIT_COMMITTER_EMAIL=p@example.org

run git init --quiet --initial-branch=main repo
cd repo || fail "no repo"
run git config gc.auto 0
for dir in src docs tests; do
  mkdir $dir
  for i in $(seq 40); do echo "$dir line $i of a file" >$dir/file$i.txt; done
done
ln -s src/file1.txt link
printf '#!/bin/sh\necho hello\n' >tool && chmod +x tool
run git add --all
run git commit --quiet -m first
equal 100755 "$(git ls-files --stage tool | cut -d' ' -f1)" "mode of tool in the index"
equal 120000 "$(git ls-files --stage link | cut -d' ' -f1)" "mode of link in the index"
equal "" "$(git status --porcelain)" "status after the first commit"
[ "$(./tool)" = hello ] || fail "tool does not run"

for i in 1 2 3 4; do
  echo "change $i" >>src/file$i.txt
  run git mv docs/file$i.txt docs/moved$i.txt
  run git rm --quiet tests/file$i.txt
  run git commit --quiet --all -m "change $i"
done
run git checkout --quiet -b side HEAD~2
echo side >side.txt
run git add side.txt
run git commit --quiet -m side
run git checkout --quiet main
run git merge --quiet -m merge side
echo more >>src/file9.txt
run git stash --quiet
equal "src line 9 of a file" "$(cat src/file9.txt)" "file after stash"
run git stash pop --quiet
equal 2 "$(wc -l <src/file9.txt)" "lines after stash pop"
run git commit --quiet --all -m stashed

run git gc --quiet --prune=now
ls .git/objects/pack/*.pack >/dev/null 2>&1 || fail "gc left no pack"
run git fsck --full --strict
equal "" "$(git status --porcelain)" "status after gc"
head=$(git rev-parse 'HEAD^{tree}')
cd ..

run git clone --quiet repo clone
run git clone --quiet --no-local repo "$LOCAL/clone"
for copy in clone "$LOCAL/clone"; do
  equal "$head" "$(git -C "$copy" rev-parse 'HEAD^{tree}')" "tree of $copy"
  equal "" "$(git -C "$copy" status --porcelain)" "status of $copy"
  run git -C "$copy" fsck --full --strict
done
echo pushed >"$LOCAL/clone/pushed.txt"
run git -C "$LOCAL/clone" add pushed.txt
run git -C "$LOCAL/clone" commit --quiet -m pushed
run git -C "$LOCAL/clone" push --quiet origin HEAD:refs/heads/pushed
equal pushed "$(git -C repo show pushed:pushed.txt)" "what was pushed"
diff -r --exclude=.git repo clone >"$LOCAL/output" || fail "working trees differ: $(head -3 "$LOCAL/output")"
pass
