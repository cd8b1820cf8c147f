# sqlite3: create, insert, update, select, roll back, vacuum, in each journal mode; then an integrity check.
. "$(dirname "$0")/prelude.sh"
need sqlite3
for mode in delete truncate persist memory; do
  db=$mode.db
  run sqlite3 "$db" "PRAGMA journal_mode=$mode; CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT, bytes BLOB); CREATE INDEX i ON t(name);"
  for round in 1 2 3; do
    run sqlite3 "$db" "PRAGMA journal_mode=$mode; BEGIN;
      WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 1000)
      INSERT INTO t(name, bytes) SELECT 'name ' || x, zeroblob(100) FROM n; COMMIT;"
  done
  run sqlite3 "$db" "PRAGMA journal_mode=$mode; UPDATE t SET name = 'changed' WHERE id % 10 = 0;"
  run sqlite3 "$db" "PRAGMA journal_mode=$mode; BEGIN; DELETE FROM t; ROLLBACK;"
  equal 3000 "$(sqlite3 "$db" 'SELECT count(*) FROM t')" "rows with journal_mode=$mode"
  equal 300 "$(sqlite3 "$db" "SELECT count(*) FROM t WHERE name = 'changed'")" "changed rows with journal_mode=$mode"
  run sqlite3 "$db" "DELETE FROM t WHERE id > 1000; VACUUM;"
  equal 1000 "$(sqlite3 "$db" 'SELECT count(*) FROM t')" "rows after vacuum with journal_mode=$mode"
  equal ok "$(sqlite3 "$db" 'PRAGMA integrity_check')" "integrity with journal_mode=$mode"
done
# Two writers at once wait for each other's locks and lose nothing.
run sqlite3 both.db "CREATE TABLE t(x)"
for writer in 1 2; do
  (for i in $(seq 10); do sqlite3 -cmd '.timeout 60000' both.db "INSERT INTO t VALUES($writer)" || exit 1; done) &
  eval "pid$writer=$!"
done
wait "$pid1" || fail "the first writer failed"
wait "$pid2" || fail "the second writer failed"
equal 20 "$(sqlite3 both.db 'SELECT count(*) FROM t')" "rows of two writers"
cp delete.db "$LOCAL/copy.db" && equal ok "$(sqlite3 "$LOCAL/copy.db" 'PRAGMA integrity_check')" "integrity of a copy"
pass
